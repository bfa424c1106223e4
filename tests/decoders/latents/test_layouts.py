"""Compares each layout with a loop that moves one value at a time."""

import itertools

import pytest
import torch
from safelight.decoders.latents.layouts import LAYOUTS
from safelight.errors import LatentsError

C = 3


def numbered(*shape):
    """Returns a tensor of different values, so that each swap is detected."""
    return torch.arange(1.0, 1.0 + torch.Size(shape).numel()).reshape(shape)


def test_plain_images_get_one_frame():
    latents = numbered(2, C, 4, 5)
    out = LAYOUTS["plain"](latents, C)
    assert out.shape == (2, C, 1, 4, 5)
    for b, c, y, x in itertools.product(range(2), range(C), range(4), range(5)):
        assert out[b, c, 0, y, x] == latents[b, c, y, x]


def test_plain_videos_stay_unchanged():
    latents = numbered(2, C, 4, 5, 6)
    assert torch.equal(LAYOUTS["plain"](latents, C), latents)


def test_flux2_patches_are_unpacked_like_a_loop_over_values():
    packed = numbered(2, C * 4, 3, 5)
    out = LAYOUTS["patched"](packed, C)
    assert out.shape == (2, C, 1, 6, 10)
    for b, c, y, x in itertools.product(range(2), range(C), range(6), range(10)):
        assert out[b, c, 0, y, x] == packed[b, c * 4 + (y % 2) * 2 + x % 2, y // 2, x // 2]


def test_flux2_patches_are_unpacked_like_in_comfyui():
    t = numbered(2, 128, 3, 5)
    reshaped = t.reshape(2, 32, 2, 2, 3, 5).permute(0, 1, 4, 2, 5, 3).reshape(2, 32, 6, 10)
    assert torch.equal(LAYOUTS["patched"](t, 32)[:, :, 0], reshaped)


def test_unpacked_flux2_latents_stay_unchanged():
    latents = numbered(2, C, 4, 5)
    assert torch.equal(LAYOUTS["patched"](latents, C)[:, :, 0], latents)


@pytest.mark.parametrize("pairs", [1, 2, 4])
def test_the_refiner_layout_has_two_frames_as_channels_and_the_first_frame_twice(pairs):
    packed = numbered(2, C * 2, pairs, 3, 4)
    out = LAYOUTS["frame_pairs"](packed, C)
    assert out.shape == (2, C, 2 * pairs - 1, 3, 4)
    for b, c, frame, y, x in itertools.product(range(2), range(C), range(2 * pairs - 1), range(3), range(4)):
        stored = frame + 1  # the first one is a duplicate
        assert out[b, c, frame, y, x] == packed[b, (stored % 2) * C + c, stored // 2, y, x]


def test_the_refiner_layout_undoes_the_pairing_of_the_host():
    frames = numbered(1, C, 5, 2, 3)
    twice = [0, 0, 1, 2, 3, 4]
    paired = torch.stack(
        [torch.cat([frames[:, :, twice[2 * t]], frames[:, :, twice[2 * t + 1]]], dim=1) for t in range(3)], dim=2
    )
    assert torch.equal(LAYOUTS["frame_pairs"](paired, C), frames)


def test_unpaired_refiner_frames_stay_unchanged():
    frames = numbered(1, C, 5, 2, 3)
    assert torch.equal(LAYOUTS["frame_pairs"](frames, C), frames)


def test_a_sequence_runs_along_the_width():
    latents = numbered(2, C, 7)
    out = LAYOUTS["sequence"](latents, C)
    assert out.shape == (2, C, 1, 1, 7)
    for b, c, i in itertools.product(range(2), range(C), range(7)):
        assert out[b, c, 0, 0, i] == latents[b, c, i]


def test_each_band_of_each_channel_is_a_row():
    latents = numbered(2, C, 4, 7)
    out = LAYOUTS["bands"](latents, C)
    assert out.shape == (2, C * 4, 1, 1, 7)
    for b, c, band, i in itertools.product(range(2), range(C), range(4), range(7)):
        assert out[b, c * 4 + band, 0, 0, i] == latents[b, c, band, i]


def test_tokens_run_along_the_width():
    latents = numbered(2, 7, C)
    out = LAYOUTS["tokens"](latents, C)
    assert out.shape == (2, C, 1, 1, 7)
    for b, i, c in itertools.product(range(2), range(7), range(C)):
        assert out[b, c, 0, 0, i] == latents[b, i, c]
    assert torch.equal(LAYOUTS["tokens"](latents[0], C), out[:1])


def test_tokens_padded_to_an_image_are_the_same_tokens():
    latents = numbered(2, 7, C)
    padded = torch.stack([item.T for item in latents])[..., None]
    assert padded.shape == (2, C, 7, 1)
    assert torch.equal(LAYOUTS["tokens"](padded, C), LAYOUTS["tokens"](latents, C))


def test_a_coarse_grid_is_flattened_to_a_row_of_cells():
    grid = numbered(1, C, 2, 3, 4)
    out = LAYOUTS["tokens"](grid, C)
    assert out.shape == (1, C, 1, 1, 24)
    for c, z, y, x in itertools.product(range(C), range(2), range(3), range(4)):
        assert out[0, c, 0, 0, (z * 3 + y) * 4 + x] == grid[0, c, z, y, x]


ACCEPTED = {
    "plain": [(1, C, 4, 4), (1, C, 2, 4, 4)],
    "patched": [(1, C * 4, 2, 2), (1, C, 4, 4)],
    "frame_pairs": [(1, C * 2, 2, 4, 4), (1, C, 3, 4, 4)],
    "sequence": [(1, C, 8)],
    "bands": [(1, C, 4, 8)],
    "tokens": [(1, 8, C), (8, C), (1, C, 8, 1), (1, C, 2, 2, 2)],
}
ALL_ACCEPTED = [(name, shape) for name, shapes in ACCEPTED.items() for shape in shapes]


def test_each_layout_is_tested_here():
    assert ACCEPTED.keys() == LAYOUTS.keys()


@pytest.mark.parametrize(("name", "shape"), ALL_ACCEPTED)
def test_a_layout_never_writes_to_its_input(name, shape):
    latents = numbered(*shape)
    before, version = latents.clone(), latents._version
    LAYOUTS[name](latents, C)
    assert torch.equal(latents, before)
    assert latents._version == version


@pytest.mark.parametrize(("name", "shape"), ALL_ACCEPTED)
def test_a_layout_keeps_the_type_and_the_order_of_the_batch(name, shape):
    latents = numbered(*shape).to(torch.float16)
    out = LAYOUTS[name](latents, C)
    assert out.dtype == torch.float16
    assert out.ndim == 5


@pytest.mark.parametrize(("name", "shape"), [(n, s) for n, s in ALL_ACCEPTED if (n, s[1]) != ("patched", C * 4)])
def test_a_layout_copies_only_if_values_change_their_order(name, shape):
    latents = numbered(*shape)
    shares = LAYOUTS[name](latents, C).untyped_storage().data_ptr() == latents.untyped_storage().data_ptr()
    assert shares == ((name, shape[1]) != ("frame_pairs", C * 2))


@pytest.mark.parametrize(("name", "shape"), ALL_ACCEPTED)
def test_the_error_for_other_channels_has_the_given_shape(name, shape):
    with pytest.raises(LatentsError, match=rf"expected \[.*\] with C = 5, got \[{', '.join(map(str, shape))}\]$"):
        LAYOUTS[name](numbered(*shape), 5)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("shape", [(C,), (1, C, 2, 2, 2, 2)])
def test_too_few_or_too_many_axes_are_refused(name, shape):
    with pytest.raises(LatentsError, match=r"expected \[.*\] with C = 3, got \["):
        LAYOUTS[name](numbered(*shape), C)


@pytest.mark.parametrize(("name", "shape"), ALL_ACCEPTED)
def test_an_empty_tensor_is_refused(name, shape):
    axis = next(i for i, size in enumerate(shape) if size not in (C, C * 4, C * 2))
    empty = torch.zeros(*shape[:axis], 0, *shape[axis + 1 :])
    with pytest.raises(LatentsError, match=r"expected \[.*\] with C = 3, got \[.*\b0\b.*\]"):
        LAYOUTS[name](empty, C)
