"""Tests that the files in `weights` are verified, complete, have sources and equal the published numbers."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safelight.decoders.files.shipped import (
    DEFAULTS_FILE,
    MANIFEST,
    SUFFIX,
    WEIGHTS,
    default_for,
    open_shipped,
    read_manifest,
    shipped_bytes,
    shipped_cards,
)
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.registry import KINDS
from safelight.errors import AlteredFileError, DecoderFileError, UnknownDecoderError
from safetensors import safe_open
from safetensors.torch import save

CARDS = {card.name: card for card in shipped_cards()}
TABLES = sorted(name for name, card in CARDS.items() if card.kind == "polynomial" and card.fitted_on is None)
SUBJECT = "sd1-linear-comfyui"

# Copied by hand from the published sources: the RGB weights of one channel, and the constant.
ANCHORS = {
    "sd1-linear-comfyui": (0, (0.3512, 0.2297, 0.3227), None),
    "sd1-linear-keturn": (3, (-0.184, -0.271, -0.473), None),
    "sd1-affine-drawthings": (0, (49.5210, 41.1373, 40.2919), (99.9368, 99.8421, 99.5384)),
    "sdxl-affine-comfyui": (1, (-0.2533, -0.0042, 0.1068), (0.1084, -0.0175, -0.0011)),
    "sdxl-affine-diffusers": (3, (-70, -50, -35), (150, 140, 130)),
    "sd3-linear-a1111": (15, (-0.1418, -0.1457, -0.1259), None),
    "flux1-affine-comfyui": (15, (-0.1262, -0.0982, -0.0778), (-0.0329, -0.0718, -0.0851)),
    "flux2-affine-comfyui": (0, (0.0058, 0.0113, 0.0073), (-0.0329, -0.0718, -0.0851)),
    "ltxv-affine-comfyui": (127, (-1.4605e-02, -6.7032e-03, 3.9675e-03), (-0.0571, -0.1657, -0.2512)),
    "ltx2-affine-kjnodes-2.0": (127, (-0.0206, -0.0189, -0.0139), (0.2796, 0.1101, -0.0047)),
    "hunyuan_video15-affine-wan2gp": (31, (0.001337, 0.001811, 0.022117), (0.106222, 0.041891, -0.005932)),
    "wan21-affine-comfyui": (0, (-0.1299, -0.1692, 0.2932), (-0.1835, -0.0868, -0.3360)),
    "ming_image-affine-comfyui": (15, (0.7366, 0.4105, 0.6899), (-0.1048, -0.1049, -0.1874)),
    "qwen_image21-affine-comfyui": (41, (0.1484, 0.0801, 0.0804), (-0.1228, -0.1869, -0.3083)),
    "wan22-affine-comfyui": (47, (-0.0837, 0.0168, 0.0055), (0.0317, -0.0878, -0.1388)),
}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))


def test_the_manifest_lists_exactly_the_shipped_files():
    assert set(read_manifest()) == {path.name for path in WEIGHTS.glob(f"*{SUFFIX}")}


def test_the_manifest_has_the_sha256_of_each_file_in_the_format_of_sha256sum():
    expected = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted(WEIGHTS.glob(f"*{SUFFIX}"))
    ]
    assert sorted((WEIGHTS / MANIFEST).read_text().splitlines()) == sorted(expected)


@pytest.mark.parametrize("offset", [0, 20, -1], ids=["length", "header", "number"])
def test_a_file_with_one_altered_byte_is_refused_before_it_is_opened(copy, offset):
    path = copy / f"{SUBJECT}{SUFFIX}"
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        AlteredFileError, match=rf"{SUBJECT}.*expected sha256 [0-9a-f]{{64}}, got .*reinstall Safelight"
    ):
        open_shipped(SUBJECT, copy)
    with pytest.raises(AlteredFileError, match=SUBJECT):
        shipped_cards(copy)


def test_a_truncated_file_is_refused(copy):
    path = copy / f"{SUBJECT}{SUFFIX}"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(AlteredFileError, match="reinstall Safelight"):
        open_shipped(SUBJECT, copy)


def test_a_file_without_an_entry_in_the_manifest_is_refused(copy):
    shutil.copy(copy / f"{SUBJECT}{SUFFIX}", copy / f"mine{SUFFIX}")
    with pytest.raises(AlteredFileError, match="did not ship with Safelight"):
        open_shipped("mine", copy)
    with pytest.raises(AlteredFileError, match="did not ship with Safelight"):
        shipped_cards(copy)


def test_a_missing_shipped_file_is_reported(copy):
    (copy / f"{SUBJECT}{SUFFIX}").unlink()
    with pytest.raises(DecoderFileError, match=r"cannot be read.*reinstall"):
        open_shipped(SUBJECT, copy)


def test_nothing_is_opened_without_a_manifest(copy):
    (copy / MANIFEST).unlink()
    with pytest.raises(DecoderFileError, match=r"nothing in .* is opened"):
        shipped_cards(copy)


def test_with_a_callback_for_refused_files_the_other_cards_are_returned(copy):
    (copy / f"{SUBJECT}{SUFFIX}").write_bytes(b"")
    errors = []
    cards = shipped_cards(copy, refused=errors.append)
    assert [type(error) for error in errors] == [AlteredFileError]
    assert {card.name for card in cards} == CARDS.keys() - {SUBJECT}


def test_a_shipped_file_that_is_not_a_decoder_is_not_listed(copy):
    path = copy / f"latents{SUFFIX}"
    path.write_bytes(content := save({"latents": torch.zeros(1)}))
    digest = hashlib.sha256(content).hexdigest()
    with (copy / MANIFEST).open("a") as file:
        file.write(f"{digest}  {path.name}\n")
    assert {card.name for card in shipped_cards(copy)} == CARDS.keys()
    assert shipped_bytes(path.name, copy) == content


@pytest.mark.parametrize("name", ["nothing", "../weights/sd1-linear-comfyui", "", "."])
def test_the_error_for_an_unknown_shipped_decoder_lists_the_known_ones(name):
    with pytest.raises(UnknownDecoderError, match=SUBJECT):
        open_shipped(name)


@pytest.mark.parametrize("name", CARDS)
def test_each_shipped_decoder_opens_and_has_a_source(name):
    card = open_shipped(name).card
    assert card == CARDS[name]
    assert card.name == name
    assert card.source != "unknown"
    assert card.licence
    assert card.kind in KINDS
    assert card.parameters > 0
    assert card.channels == SPACES[card.space].channels


@pytest.mark.parametrize("name", TABLES)
def test_each_table_has_a_source_commit_and_a_name_that_describes_it(name):
    card = CARDS[name]
    space, form, _ = name.split("-", 2)
    assert space == card.space
    assert (form == "affine") == card.settings["constant"]
    assert "@" in card.source
    assert len(card.source.split("@")[1].split(":")[0]) == 40


def test_no_two_tables_of_a_space_are_the_same():
    tables = [(CARDS[name].space, *map(bytes, published(name))) for name in TABLES]
    assert len(set(tables)) == len(tables) == 46


@pytest.mark.parametrize("name", TABLES)
def test_a_table_decodes_like_a_loop_over_its_published_numbers(name):
    weight, bias = published(name)
    black, white = CARDS[name].settings["output_range"]
    latents = torch.randn(2, weight.shape[1], 3, 4, generator=torch.Generator().manual_seed(0))
    expected = np.empty((2, 3, 3, 4))
    for b, c, y, x in np.ndindex(expected.shape):
        total = sum(float(w) * float(v) for w, v in zip(weight[c], latents[b, :, y, x], strict=True)) + float(bias[c])
        expected[b, c, y, x] = min(max((total - black) / (white - black), 0.0), 1.0)
    np.testing.assert_allclose(open_shipped(name).decode(latents).double().numpy(), expected, atol=2e-6)


@pytest.mark.parametrize("name", ANCHORS)
def test_a_table_has_the_published_numbers(name):
    channel, rgb, constant = ANCHORS[name]
    weight, bias = published(name)
    np.testing.assert_array_equal(weight[:, channel], np.float32(rgb))
    np.testing.assert_array_equal(bias, np.float32(constant or (0, 0, 0)))
    assert CARDS[name].settings["constant"] == (constant is not None)


def test_every_space_that_has_a_decoder_has_a_default_with_a_reason():
    defaults = json.loads((WEIGHTS / DEFAULTS_FILE).read_text())
    assert defaults.keys() == {card.space for card in CARDS.values()}
    for space in defaults:
        name, why = default_for(space)
        assert CARDS[name].space == space
        assert why
    assert default_for("no such space") is None


@pytest.mark.parametrize("space", ["sd1", "flux2"])
def test_the_default_among_measured_tables_is_no_worse_than_any_of_them(space):
    scores = {name: CARDS[name].metrics["psnr_latent_db"] for name in TABLES if CARDS[name].space == space}
    assert len(scores) > 1
    name, _ = default_for(space)
    assert CARDS[name].metrics["psnr_latent_db"] >= max(scores.values())


def test_the_readme_lists_each_decoder():
    text = (WEIGHTS / "README.md").read_text()
    assert [name for name in CARDS if f"`{name}`" not in text] == []


def published(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the numbers of a file without our code: `[3, C]` and `[3]`, zeros for a file without a constant."""
    with safe_open(WEIGHTS / f"{name}{SUFFIX}", framework="np") as file:
        weight = file.get_tensor("weight")[:, :, 0, 0]
        return weight, file.get_tensor("bias") if "bias" in set(file.keys()) else np.zeros(3, np.float32)
