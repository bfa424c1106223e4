"""Runs that show the denoised and the noisy latents of each step."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import ManifestError, OptionError
from safelight.hosts.script import recording
from safelight.preview.html.embed import embedded_page, pictures_that_fit
from safelight.preview.manifest import picture_files, read_manifest, validate_manifest
from safelight.preview.options import RunOptions
from safelight.preview.step import Step

SPACE = SPACES["sd1"]
STEPS = 3


def latents_of(seed, *shape):
    return torch.randn(*(shape or (2, SPACE.channels, 6, 8)), generator=torch.Generator().manual_seed(seed))


def record(folder, show, options=None, **fields):
    """Records a run. Returns its manifest."""
    with recording(folder, fields.pop("space", SPACE), show=show, options=options or RunOptions()) as (pipeline, _):
        for index in range(1, STEPS + 1):
            tensors = {"denoised": latents_of(index), "noisy": latents_of(10 + index)} | fields
            pipeline.offer(Step(index=index, total=STEPS, sigma=1 / index, noisy_gain=0.5, **tensors))
    return read_manifest(folder)


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_each_step_has_a_picture_of_both(tmp_path):
    options = RunOptions(write_intermediates=True)
    manifest = record(tmp_path / "both", "both", options)
    assert [step["files"] for step in manifest["steps"]] == [[f"step_000{i}.png"] for i in (1, 2, 3)]
    assert [step["noisy_files"] for step in manifest["steps"]] == [[f"step_000{i}_noisy.png"] for i in (1, 2, 3)]
    assert {step["show"] for step in manifest["steps"]} == {"denoised"}
    assert manifest["notes"] == []
    for show in ("denoised", "noisy"):
        alone = record(tmp_path / show, show, options)
        for both, one in zip(manifest["steps"], alone["steps"], strict=True):
            files = both["files"] if show == "denoised" else both["noisy_files"]
            written = pixels_of(tmp_path / "both" / files[0])
            assert np.array_equal(written, pixels_of(tmp_path / show / one["files"][0]))
    with Image.open(tmp_path / "both/step_0001_noisy.png") as image:
        assert json.loads(image.text["safelight"])["show"] == "noisy"


def test_a_noisy_picture_is_that_of_the_decoder(tmp_path):
    record(tmp_path / "run", "both", RunOptions(write_intermediates=True))
    rgb = Catalogue().candidates(SPACE)[0].open().decode(latents_of(11)[:1] * 0.5)[0]
    expected = (rgb.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    assert np.array_equal(pixels_of(tmp_path / "run/step_0001_noisy.png")[:, : expected.shape[1]], expected)


@pytest.mark.parametrize("show", ["denoised", "noisy"])
def test_a_run_that_shows_one_of_them_has_no_files_of_the_other(tmp_path, show):
    manifest = record(tmp_path / "run", show, RunOptions(write_intermediates=True))
    assert not any("noisy_files" in step for step in manifest["steps"])
    assert not list((tmp_path / "run").glob("*_noisy*"))


def test_where_only_one_exists_it_is_shown_alone(tmp_path):
    options = RunOptions(write_intermediates=True)
    manifest = record(tmp_path / "denoised", "both", options, noisy=None)
    assert [step["show"] for step in manifest["steps"]] == ["denoised"] * STEPS
    assert manifest["notes"] == []
    manifest = record(tmp_path / "noisy", "both", options, denoised=None)
    assert [step["show"] for step in manifest["steps"]] == ["noisy"] * STEPS
    assert "noisy latents are shown" in manifest["notes"][0]
    assert not list(tmp_path.rglob("*_noisy*"))


def test_items_of_a_batch_and_frames_of_a_video_have_files_of_both(tmp_path):
    manifest = record(tmp_path / "batch", "both", RunOptions(write_intermediates=True, batch="all files"))
    assert manifest["steps"][0]["noisy_files"] == ["step_0001_noisy_item_01.png", "step_0001_noisy_item_02.png"]
    video = {"denoised": latents_of(1, 1, 16, 3, 6, 8), "noisy": latents_of(2, 1, 16, 3, 6, 8)}
    options = RunOptions(write_intermediates=True, frames="all files")
    manifest = record(tmp_path / "video", "both", options, space=SPACES["wan21"], **video)
    assert manifest["steps"][0]["noisy_files"] == ["step_0001_noisy.webp"]
    assert manifest["steps"][0]["folders"] == ["step_0001", "step_0001_noisy"]
    assert (tmp_path / "video/step_0001_noisy/frame_0003.png").is_file()


def test_the_vae_decodes_finished_latents_beside_the_noise():
    assert RunOptions(decoder="full", show="both").step_decoder == "auto"
    with pytest.raises(OptionError, match="set show to denoised"):
        RunOptions(decoder="full", show="noisy")


def test_a_page_with_pictures_has_both(tmp_path):
    manifest = record(tmp_path / "run", "both", RunOptions(write_intermediates=True))
    pictures, every = pictures_that_fit(tmp_path / "run", manifest, 1 << 20)
    assert every == 1
    assert set(pictures) == {name for step in manifest["steps"] for name in picture_files(step)}
    page = embedded_page(manifest, {name: content for name, content in pictures.items() if "0002_noisy" not in name})
    steps = json.loads(page.split('id="safelight"')[1].split(">", 1)[1].split("</script>")[0])["manifest"]["steps"]
    assert [(bool(step["files"]), bool(step["noisy_files"])) for step in steps] == [
        (True,) * 2,
        (False,) * 2,
        (True,) * 2,
    ]


@pytest.mark.parametrize("files", ["step.png", 3, {"0": "step.png"}, ["../x.png"], ["/x.png"], [3], ["a\\b.png"]])
def test_names_of_noisy_pictures_from_anywhere_are_checked(files):
    step = {"index": 1, "files": ["step_0001.png"], "noisy_files": files}
    with pytest.raises(ManifestError, match=r"expected noisy_files as a list|is not the name of a file"):
        validate_manifest({"format": "safelight.run/1", "state": "finished", "steps": [step]})


def test_only_pictures_are_noisy_files():
    step = {"index": 1, "files": ["step_0001.png"], "noisy_files": ["a.png", "a.html"]}
    manifest = validate_manifest({"format": "safelight.run/1", "state": "finished", "steps": [step]})
    assert manifest["steps"][0]["noisy_files"] == ["a.png"]
