"""Tests the later latent frames of causal video VAEs, on latents with the statistics of such a VAE."""

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders import later_frames
from safelight.decoders.files.shipped import WEIGHTS, shipped_bytes
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.later_frames import as_first_frames, later_frame_as_first, measured_map

MEASURED, UNMEASURED = SPACES["wan21"], SPACES["hunyuan_video"]
BOTH = pytest.mark.parametrize("space", [MEASURED, UNMEASURED], ids=lambda space: space.name)
FRAMES, CHANNELS, HEIGHT, WIDTH = 8, 16, 24, 32


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def scene(seed=0, frames=FRAMES):
    """A nearly still scene as first frames `[1, C, T, H, W]`: shapes with a little movement."""
    shapes = F.interpolate(random(1, CHANNELS, 6, 8, seed=seed), size=(HEIGHT, WIDTH), mode="bicubic")
    moved = torch.stack([shapes.roll(t // 3, 3) for t in range(frames)], dim=2)
    return 0.5 * moved + 0.3 * random(1, CHANNELS, 1, 1, 1, seed=seed + 1)


def coded(first, space=MEASURED):
    """What a causal VAE makes of a video `first` `[1, C, T, H, W]`: later frames are wider and shifted.

    The second frame is half-way. Wan 2.1's statistics are those of its map, the other space's are invented.
    """
    if (measured := measured_map(space)) is not None:
        later = ((first.movedim(1, -1) - measured.offset) @ torch.linalg.inv(measured.matrix)).movedim(-1, 1)
    else:
        gains = torch.linspace(1.4, 2.4, CHANNELS)[:, None, None, None]
        later = first * gains + 0.3 * random(1, CHANNELS, 1, 1, 1, seed=99)
    later[:, :, 1] = torch.lerp(first[:, :, 1], later[:, :, 1], 0.5)
    later[:, :, 0] = first[:, :, 0]
    return later


def errors(shown, expected, frames=slice(2, None)):
    """Largest errors of the spread, relative, and of the mean, in spreads, of a channel of one frame."""
    std, mean = expected[:, :, frames].std((3, 4)), expected[:, :, frames].mean((3, 4))
    spread = (shown[:, :, frames].std((3, 4)) / std - 1).abs().max()
    return float(spread), float(((shown[:, :, frames].mean((3, 4)) - mean) / std).abs().max())


@BOTH
def test_later_frames_have_the_spread_and_the_mean_of_stills(space):
    first = scene()
    wide = coded(first, space)
    assert errors(wide, first)[0] > 0.4
    spread, mean = errors(as_first_frames(wide, space), first)
    assert spread < 0.15
    assert mean < 0.15


@BOTH
def test_the_second_frame_lies_between(space):
    first = scene()
    wide = coded(first, space)
    before, after = (errors(latents, first, slice(1, 2))[0] for latents in (wide, as_first_frames(wide, space)))
    assert after < min(0.25, before / 2)


@BOTH
def test_the_first_frame_stays_as_it_is(space):
    wide = coded(scene(), space)
    assert torch.equal(as_first_frames(wide, space)[:, :, 0], wide[:, :, 0])


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_still_is_returned_itself(space, dtype):
    still = scene(frames=1).to(dtype)
    assert as_first_frames(still, space) is still


@pytest.mark.parametrize("name", ["allegro", "hunyuan_image21_refiner", "sd1"])
def test_frames_of_a_space_whose_vae_is_not_causal_stay_as_they_are(name):
    wide = coded(scene())
    assert as_first_frames(wide, SPACES[name]) is wide


@BOTH
@pytest.mark.parametrize("name", ["layers of an image", "noise", "flat frames"])
def test_frames_that_are_no_wider_than_the_first_keep_every_bit(space, name):
    latents = {
        "layers of an image": torch.cat([scene(seed=3, frames=1), 0.9 * scene(seed=5, frames=4)], 2),
        "noise": random(1, CHANNELS, FRAMES, HEIGHT, WIDTH),
        "flat frames": torch.linspace(0, 1, FRAMES)[None, None, :, None, None].expand(1, CHANNELS, -1, 6, 8),
    }[name]
    assert torch.equal(as_first_frames(latents, space), latents)


@BOTH
@pytest.mark.parametrize("contrast", [0.3, 1.0, 2.0])
def test_another_scene_changes_nothing_in_the_frames_before_it(space, contrast):
    first = scene(frames=5)
    other = contrast * scene(seed=40, frames=5)
    alone = as_first_frames(coded(first, space), space)
    both = as_first_frames(
        torch.cat([coded(first, space), coded(torch.cat([first, other], 2), space)[:, :, 5:]], 2), space
    )
    assert errors(both[:, :, :5], alone)[0] < 0.05
    assert errors(both[:, :, 5:], other, slice(None))[0] < 0.2


@BOTH
def test_an_early_estimate_with_small_values_is_not_enlarged(space):
    """x0 at a high noise level is a blurred mean: the same share of the correction is right."""
    first = scene()
    steps = [as_first_frames(_early(coded(first, space), share), space) for share in (0.05, 0.2, 0.5, 0.8, 1.0)]
    for share, shown in zip((0.05, 0.2, 0.5, 0.8, 1.0), steps, strict=True):
        expected = _early(first, share)
        assert errors(shown, expected)[0] < 0.15, f"at {share}"


def _early(latents, share):
    mean = latents.mean((3, 4), keepdim=True)
    return mean + share * (latents - mean)


@BOTH
def test_later_frames_of_a_given_first_frame_stay_below_its_contrast(space):
    """A model that continues a picture knows the first frame from the start; the others appear slowly."""
    wide = coded(scene(), space)
    spreads = []
    for share in (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        latents = torch.cat([wide[:, :, :1], _early(wide, share)[:, :, 1:]], 2)
        shown = as_first_frames(latents, space)
        spreads.append(float(shown[:, :, 2:].std((3, 4)).mean() / wide[:, :, 0].std((2, 3)).mean()))
    assert max(spreads) < 1.2
    assert all(after > 0.8 * before for before, after in itertools.pairwise(spreads)), "it pumps"


@BOTH
def test_a_black_first_frame_does_not_darken_the_video(space):
    first = scene()
    wide = coded(first, space)
    wide[:, :, 0] = wide[:, :, 0].mean((2, 3), keepdim=True) - 1
    shown = as_first_frames(wide, space)[:, :, 2:]
    spread = float((shown.std((3, 4)) / first[:, :, 2:].std((3, 4))).mean())
    assert 0.5 < spread < 1.2
    assert float((shown.mean((3, 4)) - wide[:, :, :1].mean((3, 4))).abs().mean()) > 0.5


@BOTH
def test_each_item_of_a_batch_has_its_own_correction(space):
    wide, still = coded(scene(), space), scene(seed=7)
    both = as_first_frames(torch.cat([wide, still]), space)
    assert torch.allclose(both[:1], as_first_frames(wide, space), atol=1e-5)
    assert torch.equal(both[1:], still)


@BOTH
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 4)])
@pytest.mark.parametrize("frames", [2, 3])
def test_small_and_short_clips_stay_finite_and_get_no_wider(space, size, frames):
    latents = 3 * random(1, CHANNELS, frames, *size)
    shown = as_first_frames(latents, space)
    assert shown.shape == latents.shape
    assert torch.isfinite(shown).all()
    assert shown.abs().max() <= 1.5 * latents.abs().max()


@BOTH
def test_huge_values_stay_finite(space):
    latents = coded(scene(), space)
    latents[:, :, 3] *= 1e30
    assert torch.isfinite(as_first_frames(latents, space)).all()


@BOTH
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_spoils_only_its_place(space, value):
    latents = coded(scene(), space)
    expected = as_first_frames(latents, space)
    latents[:, 3, 4, 2, 5] = value
    shown = as_first_frames(latents, space)
    at = torch.zeros_like(latents, dtype=torch.bool)
    at[:, :, 4, 2, 5] = True
    assert torch.isfinite(shown[~at]).all()
    assert torch.allclose(shown[~at], expected[~at], atol=0.05)


def test_the_first_and_the_middle_frame_are_enough():
    for space in (MEASURED, UNMEASURED):
        first = scene()
        pair = coded(first, space)[:, :, [0, 4]]
        assert errors(as_first_frames(pair, space), first[:, :, [0, 4]], slice(1, None))[0] < 0.15


def test_a_later_frame_without_its_video_is_corrected_in_a_measured_space_only():
    first = scene()
    lone = coded(first)[:, :, 4:5]
    assert errors(later_frame_as_first(lone, MEASURED), first[:, :, 4:5], slice(None))[0] < 0.01
    assert later_frame_as_first(lone, UNMEASURED) is lone


def test_a_row_with_other_numbers_or_another_name_has_no_map():
    assert measured_map(MEASURED) is not None
    assert measured_map(replace(MEASURED, scale=2.0)) is None
    assert measured_map(replace(MEASURED, name="my_space")) is None


def test_a_changed_or_missing_map_leaves_the_correction_within_the_run(tmp_path, monkeypatch):
    name = later_frames.FILE_NAME.format("wan21")
    (tmp_path / name).write_bytes(b"changed" + shipped_bytes(name))
    (tmp_path / "MANIFEST.sha256").write_text((WEIGHTS / "MANIFEST.sha256").read_text())
    assert measured_map(MEASURED, tmp_path) is None
    assert measured_map(MEASURED, tmp_path / "nothing") is None
    first = scene()
    wide = coded(first)
    monkeypatch.setattr(later_frames, "measured_map", lambda _: None)
    assert errors(as_first_frames(wide, MEASURED), first)[0] < 0.3
