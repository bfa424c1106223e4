"""The picture of a file of latents, or of the record of a run."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.decoder import to_bytes
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import GoneError, LatentsError, ManifestError
from safelight.hosts import file_picture
from safelight.hosts.file_picture import picture_of_file
from safelight.preview.run import Run
from safelight.preview.sinks.latent_files import LatentFiles, Need, Room
from safelight.preview.sinks.run_folder import RunFolder
from safelight.preview.step import StepInfo
from safetensors.torch import save_file

CATALOGUE = Catalogue()
MANY = 10_000_000


def latents_of(space, height=8, width=12, *axes):
    generator = torch.Generator().manual_seed(7)
    return torch.randn((1, SPACES[space].channels, *axes, height, width), generator=generator)


def expected(space, latents):
    """The same by the decoder itself, without the code under test."""
    decoder = CATALOGUE.candidates(SPACES[space])[0].open()
    return to_bytes(decoder.decode(latents))[0].numpy()


@pytest.fixture
def step_file(tmp_path):
    """A function that writes the latents of a step as a run does. Returns the path."""

    def step_file(space, **latents):
        folder = RunFolder(tmp_path / "run", Run(space=space))
        folder.open()
        files = LatentFiles(folder, Need(1, 0), lambda: Room(1, "the disk"))
        files.write(StepInfo(index=3, total=4, sigma=0.5, show="denoised", at_s=0.0), latents)
        return folder.path / "step_0003.safetensors"

    return step_file


@pytest.mark.parametrize("space", ["sd1", "flux1", "flux2"])
def test_saved_latents_are_decoded_with_the_best_decoder_of_their_space(step_file, space):
    denoised = latents_of(space)
    picture = picture_of_file(step_file(space, denoised=denoised, noisy=latents_of(space) * 9), CATALOGUE, MANY)
    assert np.array_equal(np.asarray(picture), expected(space, denoised))


def test_of_a_video_the_first_frame_is_shown(step_file):
    clip = latents_of("wan21", 8, 12, 3)
    picture = picture_of_file(step_file("wan21", denoised=clip), CATALOGUE, MANY)
    assert np.array_equal(np.asarray(picture), expected("wan21", clip[:, :, 0]))


def test_latents_of_comfyui_are_in_the_units_of_the_vae(tmp_path):
    clip = latents_of("wan22", 8, 12, 1)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (SPACES["wan22"].mean, SPACES["wan22"].std))
    save_file({"latent_tensor": clip * std + mean, "latent_format_version_0": torch.tensor([])}, tmp_path / "a.latent")
    picture = picture_of_file(tmp_path / "a.latent", CATALOGUE, MANY)
    assert np.abs(np.asarray(picture).astype(int) - expected("wan22", clip[:, :, 0])).max() <= 1


def test_latents_that_several_spaces_have_are_shown_without_the_colors_of_one(tmp_path):
    """Nothing in the file says whether it is SD1 or SDXL. The principal components show what is where."""
    latents = torch.zeros(1, 4, 16, 16)
    latents[..., 8:] = 3.0
    save_file({"latent_tensor": latents, "latent_format_version_0": torch.tensor([])}, tmp_path / "a.latent")
    picture = np.asarray(picture_of_file(tmp_path / "a.latent", CATALOGUE, MANY)).astype(int)
    assert picture.shape == (16, 16, 3)
    assert np.abs(picture[:, 2] - picture[:, 13]).max() > 50


def test_values_that_are_no_numbers_are_marked(step_file):
    latents = latents_of("flux2")
    latents[..., :4] = float("nan")
    picture = np.asarray(picture_of_file(step_file("flux2", denoised=latents), CATALOGUE, MANY))
    assert len(np.unique(picture[:, :4].reshape(-1, 3), axis=0)) <= 3  # a pattern


def test_a_picture_has_at_most_the_wanted_pixels(step_file):
    path = step_file("flux2", denoised=latents_of("flux2", 32, 64))
    picture = picture_of_file(path, CATALOGUE, 512)
    assert picture.width * picture.height <= 512
    assert picture.width > picture.height


def test_of_another_file_only_the_header_is_read(tmp_path, monkeypatch):
    save_file({"weight": torch.zeros(1 << 20)}, tmp_path / "model.safetensors")
    monkeypatch.setattr(file_picture, "read_latents", lambda *_: pytest.fail("the model was read"))
    assert picture_of_file(tmp_path / "model.safetensors", CATALOGUE, MANY) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\x00" * 64, b"\xff" * 8 + b"{}"])
@pytest.mark.parametrize("name", ["a.safetensors", "settings.json", "a.png"])
def test_a_file_of_another_kind_has_no_picture(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert picture_of_file(tmp_path / name, CATALOGUE, MANY) is None


def test_a_file_that_does_not_exist_has_no_picture(tmp_path):
    assert picture_of_file(tmp_path / "a.safetensors", CATALOGUE, MANY) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\x00" * 64])
def test_a_damaged_file_of_latents_is_an_error(tmp_path, content):
    (tmp_path / "a.latent").write_bytes(content)
    with pytest.raises(LatentsError, match="expected a file of latents"):
        picture_of_file(tmp_path / "a.latent", CATALOGUE, MANY)


def test_latents_that_fit_no_space_are_an_error(tmp_path):
    save_file({"latent_tensor": torch.zeros(5, 7)}, tmp_path / "a.latent")
    with pytest.raises(LatentsError):
        picture_of_file(tmp_path / "a.latent", CATALOGUE, MANY)


@pytest.mark.parametrize("axes", [1, 2, 3, 6, 7])
def test_latents_with_too_many_or_too_few_axes_are_an_error(tmp_path, axes):
    save_file({"latent_tensor": torch.zeros([2] * axes)}, tmp_path / "a.latent")
    with pytest.raises(LatentsError):
        picture_of_file(tmp_path / "a.latent", CATALOGUE, MANY)


def write_zeros(path, count):
    """Writes an `.npz` file of so many zeros, which are compressed."""
    np.savez_compressed(path.with_suffix(".npz"), latent_tensor=np.zeros((1, 4, 1, count), np.float32))
    path.with_suffix(".npz").rename(path)


def write_repeated(path, count):
    """Writes a file of torch in which one number stands for so many."""
    torch.save({"latent_tensor": torch.zeros(1).expand(1, 4, 1, count)}, path)


def write_many(path, count):
    save_file({"latent_tensor": torch.zeros(1, 4, 1, count)}, path)


@pytest.mark.parametrize("write", [write_zeros, write_repeated, write_many])
def test_latents_over_the_limit_are_an_error_however_small_their_file_is(tmp_path, monkeypatch, write):
    monkeypatch.setattr(file_picture, "MAX_FILE_BYTES", 16_000)
    write(tmp_path / "a.latent", 500)
    assert picture_of_file(tmp_path / "a.latent", CATALOGUE, MANY).size == (500, 1)
    write(tmp_path / "a.latent", 1500)
    with pytest.raises(LatentsError, match=r"more than [\d,]+ bytes"):
        picture_of_file(tmp_path / "a.latent", CATALOGUE, MANY)


class TestRecords:
    @pytest.fixture
    def record(self, tmp_path):
        """A function that writes the record of a run with these pictures. Returns its path."""

        def record(*names, colors=("red", "green", "blue")):
            steps = [{"index": index, "sigma": None, "at": 0.1, "files": [name]} for index, name in enumerate(names, 1)]
            manifest = {"format": "safelight.run/1", "id": "a", "state": "finished", "steps": steps}
            (tmp_path / "run.json").write_text(json.dumps(manifest))
            for name, color in zip(names, colors, strict=False):
                Image.new("RGB", (6, 4), color).save(tmp_path / name)
            return tmp_path / "run.json"

        return record

    def test_a_record_has_the_picture_of_its_last_step(self, record):
        picture = picture_of_file(record("step_0001.png", "step_0002.png"), CATALOGUE, MANY)
        assert (picture.size, picture.getpixel((0, 0))) == ((6, 4), (0, 128, 0))

    def test_a_record_without_steps_has_no_picture(self, record):
        assert picture_of_file(record(), CATALOGUE, MANY) is None

    def test_a_record_whose_picture_is_missing_is_an_error(self, record):
        with pytest.raises(GoneError, match=r"step_0001\.png is listed in run\.json and missing"):
            picture_of_file(record("step_0001.png", colors=()), CATALOGUE, MANY)

    def test_a_record_that_names_a_file_elsewhere_is_an_error(self, record, tmp_path):
        path = record("step_0001.png")
        path.write_text(path.read_text().replace("step_0001.png", "../step_0001.png"))
        with pytest.raises(ManifestError):
            picture_of_file(path, CATALOGUE, MANY)

    def test_a_json_file_that_is_no_record_is_an_error(self, tmp_path):
        (tmp_path / "run.json").write_text("{}")
        with pytest.raises(ManifestError):
            picture_of_file(tmp_path / "run.json", CATALOGUE, MANY)
