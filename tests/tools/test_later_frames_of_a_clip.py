"""The figures and the map of a clip's later frames."""

import re

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safelight.decoders.files.shipped import WEIGHTS
from safelight.decoders.files.tensor_file import open_tensors
from safelight.decoders.later_frames import FORMAT, apply_map
from safelight.tools import later_frames
from safetensors.torch import save_file


@pytest.fixture
def clip(tmp_path):
    """A still clip `[1, 16, 6, 24, 32]`: later frames are a mix of the first frame's channels, twice as wide."""
    generator = torch.Generator().manual_seed(0)
    first = F.interpolate(torch.randn(1, 16, 12, 16, generator=generator), size=(24, 32), mode="bicubic") * 0.4
    mix = 2 * torch.eye(16) + 0.05 * torch.randn(16, 16, generator=generator)
    later = torch.einsum("bchw,cd->bdhw", first, mix) + 0.2
    latents = torch.stack([first, (first + later) / 2, *[later] * 4], dim=2)
    save_file({"latents": latents}, tmp_path / "clip.safetensors")
    return latents


def test_the_map_brings_later_frames_to_the_first(clip):
    fitted = later_frames.fit_map(clip)
    mapped = apply_map(clip[:, :, 2:], fitted)
    error = (mapped - clip[:, :, :1]).square().mean().sqrt() / clip[:, :, 0].std()
    assert error < 0.15
    assert fitted.spread == pytest.approx(2, abs=0.1)


def test_the_figures_of_a_clip_are_printed_and_the_map_is_written(clip, tmp_path, capsys):
    out, strip = tmp_path / "wan21-later-frames.safetensors", tmp_path / "strip.png"
    arguments = [tmp_path / "clip.safetensors", "--fit", out, "--strip", strip, "--source", "a test"]
    assert later_frames.main(list(map(str, arguments))) == 0
    printed = capsys.readouterr().out
    clipped = {line[:34].strip(): int(re.findall(r"(\d+)%", line)[2]) for line in printed.splitlines() if " dB" in line}
    assert clipped["matched to the first frame only"] < clipped["as published"]
    assert len(clipped) == 5
    facts, tensors = open_tensors(out)
    assert (facts["format"], facts["space"]) == (FORMAT, "wan21")
    assert "on a test" in facts["source"]
    assert {name: tuple(values.shape) for name, values in tensors.items()} == {
        "matrix": (16, 16),
        "offset": (16,),
        "spread": (),
    }
    with Image.open(strip) as image:  # three rows of three of the frames
        assert image.size == (3 * 164 - 4, 3 * 124 - 4)


def test_the_map_that_ships_names_its_clip_and_its_command():
    facts, tensors = open_tensors(WEIGHTS / "wan21-later-frames.safetensors")
    assert facts["source"].startswith("python -m safelight.tools.later_frames")
    assert "madebyollin/taehv@1f14a56" in facts["source"]
    assert len(facts["clip_sha256"]) == 64
    assert 1.5 < float(tensors["spread"]) < 2.2
    assert (tensors["matrix"].diagonal() < 1).all(), "it makes no channel wider"
