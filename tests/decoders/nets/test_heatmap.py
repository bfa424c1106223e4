"""Tests the heatmap of latents over time."""

import pytest
import torch
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.nets.heatmap import MIN_HEATMAP_HEIGHT_PX, Heatmap


def decode(latents):
    channels = latents.shape[1]
    return Decoder(Card(name="timeline", space=None, kind="timeline"), Heatmap(channels)).decode(latents)


@pytest.mark.parametrize(("channels", "rows"), [(1, 256), (8, 32), (64, 4), (128, 2), (200, 1), (256, 1), (1000, 1)])
def test_each_channel_is_a_band_of_whole_rows(channels, rows):
    rgb = decode(torch.randn(2, channels, 1, 11, generator=torch.Generator().manual_seed(0)))
    assert rgb.shape == (2, 3, channels * rows, 11)
    bands = rgb.unflatten(2, (channels, rows))
    assert torch.equal(bands, bands[:, :, :, :1].expand_as(bands))


def test_a_heatmap_has_the_minimum_height():
    assert decode(torch.zeros(1, 8, 1, 5)).shape[2] >= MIN_HEATMAP_HEIGHT_PX


def test_positive_is_red_negative_is_blue_and_zero_is_dark():
    latents = torch.tensor([[3.0, -3.0, 0.0, 3.0]]).reshape(1, 1, 1, 4)
    positive, negative, zero, _ = decode(latents)[0, :, 0].T
    assert positive[0] > 2 * positive[2]
    assert negative[2] > 2 * negative[0]
    assert zero.tolist() == [0.0, 0.0, 0.0]


def test_time_runs_to_the_right_and_channels_downwards():
    latents = torch.zeros(1, 2, 1, 5)
    latents[0, 1, 0, 3] = 1.0
    lit = decode(latents).amax(1)[0] > 0
    assert lit.nonzero()[:, 1].unique().tolist() == [3]
    assert lit.nonzero()[:, 0].min() == 128


def test_each_batch_item_has_its_own_value_range():
    quiet = torch.randn(1, 4, 1, 9, generator=torch.Generator().manual_seed(0))
    both = decode(torch.cat([quiet, 100 * quiet]))
    torch.testing.assert_close(both[0], both[1])


@pytest.mark.parametrize("value", [0.0, 5.0, 1e-30, 1e38, float("nan"), float("inf")], ids=str)
def test_constant_or_extreme_latents_still_give_an_image(value):
    rgb = decode(torch.full((1, 4, 1, 7), value))
    assert torch.isfinite(rgb).all()


def test_one_time_step_is_enough():
    assert decode(torch.ones(1, 1, 1, 1)).shape == (1, 3, 256, 1)
