"""The command `decode`: the files that people have."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.cli.main import main
from safelight.decoders.decoder import to_bytes
from safelight.decoders.files.shipped import open_shipped
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.later_frames import measured_map
from safelight.preview.decode.not_finite import COLORS
from safetensors.torch import save_file


@pytest.fixture
def latents():
    return torch.randn((2, 32, 6, 8), generator=torch.Generator().manual_seed(0))


def read_pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def decode(*arguments):
    return main(["decode", *map(str, arguments)])


def expected_pixels(latents, space):
    return to_bytes(open_shipped(f"{space}-affine-comfyui").decode(latents)).numpy()


def write(path, latents):
    """Writes latents as other programs do, in the format of the suffix."""
    match path.suffix:
        case ".npy":
            np.save(path, latents.numpy())
        case ".npz":
            np.savez(path, sample=latents.numpy(), original_size=np.array([48, 64]))
        case ".pt":
            torch.save({"samples": latents, "seed": 1}, path)
        case ".pth":
            torch.save(latents, path, _use_new_zipfile_serialization=False)
        case ".bin":
            torch.save(latents.clone(), path)
        case _:
            save_file({"samples": latents.contiguous()}, path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".pth", ".bin", ".safetensors", ".latent"])
def test_latents_of_every_format_are_decoded_whatever_their_name(tmp_path, latents, suffix):
    path = tmp_path / f"x{suffix}"
    write(path, latents)
    assert decode(path, "--space", "flux2", "--decoder", "flux2-affine-comfyui", "--out", tmp_path) == 0
    for item in (0, 1):
        assert (read_pixels(tmp_path / f"x_0{item + 1}.png") == expected_pixels(latents, "flux2")[item]).all()


@pytest.mark.parametrize(
    "change", [lambda x: x.double(), lambda x: x.numpy().astype(">f4"), lambda x: x.mT.numpy().swapaxes(-1, -2)]
)
def test_arrays_in_another_precision_byte_order_or_memory_order_are_the_same(tmp_path, latents, change):
    np.save(tmp_path / "x.npy", np.asarray(change(latents)))
    assert decode(tmp_path / "x.npy", "--space", "flux2", "--decoder", "flux2-affine-comfyui", "--out", tmp_path) == 0
    assert (read_pixels(tmp_path / "x_02.png") == expected_pixels(latents, "flux2")[1]).all()


def test_latents_without_a_batch_axis_are_one_picture(tmp_path, latents):
    for name, values in (("plain", latents[0]), ("packed", torch.pixel_unshuffle(latents, 2)[0])):
        np.save(tmp_path / f"{name}.npy", values.numpy())
        arguments = ("--space", "flux2", "--decoder", "flux2-affine-comfyui", "--out", tmp_path)
        assert decode(tmp_path / f"{name}.npy", *arguments) == 0
        assert (read_pixels(tmp_path / f"{name}_01.png") == expected_pixels(latents, "flux2")[0]).all()


def test_a_video_without_a_batch_axis_has_a_picture_for_each_frame(tmp_path):
    np.save(tmp_path / "clip.npy", np.zeros((48, 5, 4, 6), np.float32))
    assert decode(tmp_path / "clip.npy", "--out", tmp_path) == 0
    assert {path.name for path in tmp_path.glob("*.png")} == {f"clip_01_frame_00{i}.png" for i in range(1, 6)}


@pytest.mark.parametrize("batch", [True, False])
def test_tokens_are_arranged_to_the_size_of_the_image(tmp_path, batch):
    latents = torch.randn((1, 16, 6, 8), generator=torch.Generator().manual_seed(1))
    # As FLUX's pipeline packs them. Source: diffusers, pipeline_flux.py, `_pack_latents`.
    tokens = latents.view(1, 16, 3, 2, 4, 2).permute(0, 2, 4, 1, 3, 5).reshape(1, 12, 64)
    torch.save(tokens if batch else tokens[0], tmp_path / "x.pt")
    arguments = ("--space", "flux1", "--decoder", "flux1-affine-comfyui", "--out", tmp_path)
    assert decode(tmp_path / "x.pt", *arguments, "--size", "64x48") == 0
    assert (read_pixels(tmp_path / "x_01.png") == expected_pixels(latents, "flux1")[0]).all()


def test_tokens_of_a_video_have_as_many_frames_as_fit(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 2 * 3 * 4, 128), np.float32))
    assert decode(tmp_path / "x.npy", "--space", "ltxv", "--size", "128x96", "--out", tmp_path) == 0
    assert read_pixels(tmp_path / "x_01_frame_002.png").shape[:2] == (3, 4)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((), "give the size of the final image, such as 1024x1024"),
        (("--size", "64x64"), "expected 16 tokens for an image of 64x64 in FLUX.1, got [1, 12, 64]"),
        (("--size", "8x8"), "expected 0 tokens"),
    ],
)
def test_tokens_without_their_size_are_refused(tmp_path, capsys, size, message):
    np.save(tmp_path / "x.npy", np.zeros((1, 12, 64), np.float32))
    assert decode(tmp_path / "x.npy", "--space", "flux1", "--out", tmp_path, *size) == 2
    assert message in capsys.readouterr().err


def test_a_size_that_is_no_size_is_refused(capsys):
    with pytest.raises(SystemExit):
        decode("x.npy", "--size", "large")
    assert "expected width and height such as 1024x768, got 'large'" in capsys.readouterr().err


@pytest.mark.parametrize("space", ["sdxl", "sd3", "wan21"])
def test_latents_before_scaling_are_converted_to_model_space(tmp_path, space):
    row = SPACES[space]
    shape = (1, row.channels, 1, 4, 5) if row.dims == 3 else (1, row.channels, 4, 5)
    model = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    np.save(tmp_path / "vae.npy", row.to_vae(model).numpy())
    np.save(tmp_path / "model.npy", model.numpy())
    arguments = ("--space", space, "--out", tmp_path)
    assert decode(tmp_path / "vae.npy", *arguments, "--scaled", "no") == 0
    assert decode(tmp_path / "model.npy", *arguments) == 0
    vae, ours = (read_pixels(tmp_path / f"{name}_01.png").astype(int) for name in ("vae", "model"))
    assert np.abs(vae - ours).max() <= 1


def test_a_folder_and_a_sheet(tmp_path, latents):
    (tmp_path / "in").mkdir()
    for i, suffix in enumerate((".npy", ".pt", ".safetensors")):
        write(tmp_path / "in" / f"x{i}{suffix}", latents)
    (tmp_path / "in" / "notes.txt").write_text("no latents")
    assert decode(tmp_path / "in", "--space", "flux2", "--out", tmp_path / "out", "--sheet") == 0
    pictures = {f"x{i}_0{item}.png" for i in range(3) for item in (1, 2)}
    assert {path.name for path in (tmp_path / "out").iterdir()} == pictures | {"sheet.png"}
    sheet = read_pixels(tmp_path / "out" / "sheet.png")
    assert min(sheet.shape[:2]) > 500, "six tiles in at least two rows"


def test_a_folder_without_latents_is_refused(tmp_path, capsys):
    assert decode(tmp_path, "--space", "flux2") == 2
    assert "expected files of latents" in capsys.readouterr().err


def test_a_run_of_safelight_with_latents_is_decoded_in_its_own_space(tmp_path, latents):
    facts = {"format": "safelight.latents/1", "space": "flux2"}
    tensors = {"noisy": latents * 3, "denoised": latents, "sigmas": torch.ones(5)}
    save_file(tensors, tmp_path / "step_0001.safetensors", facts)
    assert decode(tmp_path, "--decoder", "flux2-affine-comfyui", "--out", tmp_path) == 0
    assert (read_pixels(tmp_path / "step_0001_01.png") == expected_pixels(latents, "flux2")[0]).all()
    assert decode(tmp_path, "--decoder", "flux2-affine-comfyui", "--out", tmp_path, "--tensor", "noisy") == 0
    assert (read_pixels(tmp_path / "step_0001_01.png") == expected_pixels(latents * 3, "flux2")[0]).all()


def test_one_file_that_cannot_be_read_does_not_stop_the_others(tmp_path, latents, capsys):
    (tmp_path / "a.npy").write_bytes(b"no array")
    write(tmp_path / "b.npy", latents)
    assert decode(tmp_path / "a.npy", tmp_path / "b.npy", "--space", "flux2", "--out", tmp_path) == 2
    assert "a.npy: expected a file of latents" in capsys.readouterr().err
    assert (tmp_path / "b_02.png").exists()


def test_the_space_is_guessed_where_one_row_fits(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((1, 48, 2, 4, 5), np.float32))
    assert decode(tmp_path / "x.npy", "--out", tmp_path) == 0
    assert "latent space wan22, the only one that fits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 8, 8), "several latent spaces have latents [1, 4, 8, 8]: sd1, sdxl"),
        ((1, 4096, 64), "flux1"),
        ((1, 5, 8, 8), "expected a tensor of latents"),
    ],
)
def test_a_space_that_cannot_be_guessed_is_asked_for(tmp_path, capsys, shape, message):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
    assert decode(tmp_path / "x.npy", "--out", tmp_path) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "--space" in error


def test_several_tensors_that_fit_are_named(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", **{name: np.zeros((4, 8, 8), np.float32) for name in ("latents_64x64", "flipped")})
    assert decode(tmp_path / "x.npz", "--space", "sdxl", "--out", tmp_path) == 2
    error = capsys.readouterr().err
    assert "'latents_64x64' [4, 8, 8], 'flipped' [4, 8, 8]; name one with --tensor" in error
    assert decode(tmp_path / "x.npz", "--space", "sdxl", "--out", tmp_path, "--tensor", "flipped") == 0
    assert decode(tmp_path / "x.npz", "--space", "sdxl", "--out", tmp_path, "--tensor", "flip") == 2


class Opened:
    """An object whose unpickling would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_no_code_in_a_file_is_run(tmp_path, capsys):
    torch.save({"latents": Opened(str(tmp_path / "run"))}, tmp_path / "x.pt")
    np.save(tmp_path / "y.npy", np.array([Opened(str(tmp_path / "run"))], dtype=object), allow_pickle=True)
    (tmp_path / "run").unlink(missing_ok=True)
    for name in ("x.pt", "y.npy"):
        assert decode(tmp_path / name, "--space", "sd1", "--out", tmp_path) == 2
    assert not (tmp_path / "run").exists()
    assert "opening them would run code" in capsys.readouterr().err


def npy(shape, values=b""):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + values


def npz(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("latents.npy", content)
    return file.getvalue()


BROKEN = [
    b"\x93NUMPY",
    npy((1, 4, 8, 8)),
    npy((1 << 40, 1 << 40)),
    npz(npy((1, 4, 8, 8)))[:-30],
    npz(b"no array"),
    b"\x80\x02K\x01.",
    b"PK\x03\x04",
]


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_file_is_refused(tmp_path, capsys, content):
    (tmp_path / "x.bin").write_bytes(content)
    assert decode(tmp_path / "x.bin", "--space", "sd1", "--out", tmp_path) == 2
    assert "x.bin: expected a file of latents" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("flux", "flux1 or flux2"),
        ("SDXL", "sdxl"),
        ("FLUX.2", "flux2"),
        ("z-image", "flux1"),
        ("wan", "wan21 or wan22"),
    ],
)
def test_near_names_of_a_space_are_proposed(capsys, name, near):
    assert decode("x.npy", "--space", name) == 2
    assert f"Did you mean {near}?" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "share"), [(float("nan"), "100 %"), (float("inf"), "25 %"), (-float("inf"), "25 %")])
def test_latents_that_are_not_finite_get_a_pattern_and_exit_code_1(tmp_path, latents, capsys, value, share):
    good = latents.clone()
    latents[..., : 8 if share == "100 %" else 2] = value
    for name, values in (("bad", latents), ("good", good)):
        np.save(tmp_path / f"{name}.npy", values.numpy())
    arguments = ("--space", "flux2", "--decoder", "flux2-affine-comfyui", "--out", tmp_path)
    assert decode(tmp_path / "bad.npy", tmp_path / "good.npy", *arguments) == 1
    error = capsys.readouterr().err
    assert f"bad.npy: {share} of the latents are NaN or infinite" in error
    assert "good.npy" not in error
    bad, expected = read_pixels(tmp_path / "bad_02.png"), expected_pixels(good, "flux2")[1]
    assert {tuple(color) for color in bad[:, :2].reshape(-1, 3)} == set(COLORS)
    assert (bad[:, 2:] == expected[:, 2:]).all() == (share != "100 %")
    assert (read_pixels(tmp_path / "good_02.png") == expected).all()


def test_one_frame_that_is_not_finite_leaves_the_other_frames(tmp_path):
    clip = np.zeros((1, 16, 2, 32, 32), np.float32)
    clip[0, 3, 1] = np.nan
    np.save(tmp_path / "x.npy", clip)
    assert decode(tmp_path / "x.npy", "--space", "wan21", "--out", tmp_path) == 1
    first, second = (read_pixels(tmp_path / f"x_01_frame_00{i}.png") for i in (1, 2))
    assert {tuple(color) for color in second.reshape(-1, 3)} == set(COLORS)
    assert not {tuple(color) for color in first.reshape(-1, 3)} & set(COLORS)


def test_a_file_that_cannot_be_read_outweighs_latents_that_are_not_finite(tmp_path):
    np.save(tmp_path / "bad.npy", np.full((1, 4, 8, 8), np.nan, np.float32))
    (tmp_path / "a.npy").write_bytes(b"no array")
    for names in (("a", "bad"), ("bad", "a")):
        assert decode(*(tmp_path / f"{name}.npy" for name in names), "--space", "sd1", "--out", tmp_path) == 2
    assert (tmp_path / "bad_01.png").exists()


def test_a_file_in_the_place_of_the_folder_is_an_error_before_decoding(tmp_path, latents, capsys):
    write(tmp_path / "x.npy", latents)
    assert decode(tmp_path / "x.npy", "--space", "flux2", "--out", tmp_path / "x.npy") == 2
    assert "--out: expected a folder, but" in capsys.readouterr().err


def test_a_tilde_that_the_shell_leaves_is_the_home_folder(tmp_path, latents, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path / "x.npy", latents)
    assert decode("~/x.npy", "--space", "flux2", "--out=~/out") == 0
    assert (tmp_path / "out" / "x_02.png").exists()


def test_later_frames_of_a_video_are_shown_like_the_first(tmp_path):
    """Later latent frames of Wan have wider values, which the table for stills clips."""
    still = torch.randn((1, 16, 1, 12, 16), generator=torch.Generator().manual_seed(0)) * 0.4
    measured = measured_map(SPACES["wan21"])
    wide = ((still.movedim(1, -1) - measured.offset) @ torch.linalg.inv(measured.matrix)).movedim(-1, 1)
    save_file({"latents": torch.cat([still, *[wide] * 3], 2)}, tmp_path / "clip.safetensors")
    save_file({"latents": wide.contiguous()}, tmp_path / "alone.safetensors")
    for name in ("clip", "alone"):
        assert decode(tmp_path / f"{name}.safetensors", "--space", "wan21", "--out", tmp_path) == 0
    first, *later = (read_pixels(tmp_path / f"clip_01_frame_00{frame}.png").astype(int) for frame in (1, 3, 4))
    raw = read_pixels(tmp_path / "alone_01.png").astype(int)
    for shown in later:
        assert np.abs(shown - first).mean() < 0.2 * np.abs(raw - first).mean()
