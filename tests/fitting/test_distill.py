"""Distillation into TAESD's shape, and into a table of colors."""

import math

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.conv import Conv
from safelight.decoders.nets.polynomial import Polynomial
from safelight.decoders.nets.taesd import Taesd, taesd
from safelight.errors import FitError
from safelight.fitting import distill
from safelight.fitting.distill import (
    DistillSet,
    distill_table,
    distill_taesd,
    imitation_pairs,
    start_tiny_as_closed_form,
    table_of,
    taesd_net,
)
from safelight.fitting.processes import ONE_PROCESS
from safelight.fitting.train import Recipe, draw_weights

pytestmark = pytest.mark.usefixtures("_one_thread")


def decoder_of(net, **settings):
    card = Card(name="ours", space="sd1", kind="polynomial", settings=settings, scale=net.scale, source="a test")
    return Decoder(card, net)


@pytest.fixture
def linear():
    net = Polynomial(4)
    generator = torch.Generator().manual_seed(3)
    net.load_state_dict({"weight": 0.2 * torch.randn(3, 4, 1, 1, generator=generator), "bias": torch.full((3,), 0.5)})
    return decoder_of(net)


def small_latents(count=6, side=16, seed=0):
    """Smooth latents near zero, where TAESD's clamp changes almost nothing."""
    coarse = 0.3 * torch.randn(count, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(side, side), mode="bicubic")


def test_pictures_of_the_decoder_have_the_full_size(linear):
    latents = small_latents(2)
    pairs = imitation_pairs(linear, latents, 8)
    assert pairs.pixels.shape == (2, 3, 128, 128)
    assert (pairs.rgb(1) - linear.decode(latents)).abs().max() < 0.03
    assert len(imitation_pairs(linear, latents, 8, seed=1)) == 4


@pytest.mark.parametrize("pooled", [0, 1])
def test_a_net_in_taesds_shape_starts_as_the_best_linear_decoder(linear, pooled):
    net = Taesd(taesd(4, pooled))
    pairs = imitation_pairs(linear, small_latents(), 8)
    start_tiny_as_closed_form(net, [pairs], torch.Generator().manual_seed(0), ONE_PROCESS)
    with torch.no_grad():
        rgb = net(pairs.latents.float())
    inside = (slice(None), slice(None), slice(8, -8), slice(8, -8))  # the first convolution pads with zeros
    small = F.avg_pool2d(rgb, 8)
    assert (F.interpolate(small, scale_factor=8) - rgb).abs().max() < 1e-4
    assert (F.avg_pool2d(rgb[inside], 8) - pairs.rgb(1)[:, :, 1:-1, 1:-1]).abs().max() < 0.03


def test_training_follows_the_decoder(monkeypatch):
    monkeypatch.setattr(
        distill,
        "taesd",
        lambda channels, pooled: [
            ("clamp",),
            ("conv", channels, 8),
            ("relu",),
            *[("block", 8, 8), ("up",), ("conv", 8, 8, 3, 0)] * 3,
            ("conv", 8, 3),
        ],
    )
    net = Polynomial(4, degree=2)
    weight = torch.zeros(3, 14)
    weight[:, :3], weight[:, (4, 8, 11)] = 0.1 * torch.eye(3), 0.15 * torch.eye(3)  # a part of x, and of x²
    net.load_state_dict({"weight": weight[:, :, None, None], "bias": torch.full((3,), 0.3)})
    data = DistillSet(
        train=imitation_pairs(decoder_of(net), 4 * small_latents(8, 8), 8, seed=0),
        validation=imitation_pairs(decoder_of(net), 4 * small_latents(2, 8, seed=5), 8),
    )
    first = distill_taesd(taesd_net(SPACES["sd1"]), data, Recipe(steps=1, batch=4, lr=1e-9))
    assert distill_taesd(taesd_net(SPACES["sd1"]), data, Recipe(steps=60, batch=4, lr=3e-3)) > first + 1


def test_large_latents_are_cut_into_tiles(linear):
    pairs = imitation_pairs(linear, small_latents(2, 40), 8)
    tiles = distill._tiles(pairs)
    assert tiles.latents.shape == (8, 4, 16, 16)
    assert torch.equal(tiles.latents[1], pairs.latents[0, :, :16, 16:32])
    assert torch.equal(tiles.pixels[6], pairs.pixels[1, :, 128:256, :128])


def test_the_shape_is_the_one_that_comfyui_loads_for_the_space():
    assert taesd_net(SPACES["sdxl"]).state_dict().keys() == Taesd(taesd(4)).state_dict().keys()
    assert taesd_net(SPACES["flux2"]).state_dict().keys() == Taesd(taesd(32, 1)).state_dict().keys()
    with pytest.raises(FitError, match=r"enlarges 8 times, but the VAE of .* \(sana\) 32 times"):
        taesd_net(SPACES["sana"])


# Tables.


def previewed(text, latents):
    """Colors in 0..1 as ComfyUI's Latent2RGBPreviewer computes them from a table."""
    names = {}
    exec(text, names)
    factors, bias = torch.tensor(names["latent_rgb_factors"]), torch.tensor(names["latent_rgb_factors_bias"])
    colors = F.linear(latents.movedim(1, -1), factors.T, bias)
    return ((colors + 1) / 2).clamp(0, 1).movedim(-1, 1)


def test_a_table_is_exported_as_it_is(linear):
    text = table_of(linear).python_text("a test")
    latents = small_latents()
    assert (previewed(text, latents) - linear.decode(latents)).abs().max() < 2e-3
    assert text.startswith("# a test\nlatent_rgb_factors = [\n    [")


def test_other_decoders_are_no_tables():
    assert table_of(decoder_of(Polynomial(4, degree=2))) is None
    assert table_of(decoder_of(Polynomial(4, kernel=3))) is None
    assert table_of(decoder_of(Conv(4, (8,)))) is None
    overall = Polynomial(4, overall=True)
    assert table_of(decoder_of(overall)) is not None
    torch.nn.init.ones_(overall.overall)
    assert table_of(decoder_of(overall)) is None


def test_a_table_is_fitted_to_the_pictures_of_another_decoder(linear):
    net = Polynomial(4, kernel=3)
    torch.nn.init.zeros_(net.weight)
    net.weight.data[:, :, 1, 1] = linear.net.weight.data[:, :, 0, 0]
    net.bias.data = linear.net.bias.data
    wide = decoder_of(net)
    data = DistillSet(
        train=imitation_pairs(wide, small_latents(), 1, seed=0),
        validation=imitation_pairs(wide, small_latents(2, seed=1), 1),
    )
    latents = small_latents(3, seed=2)
    assert (previewed(distill_table(data).python_text("x"), latents) - linear.decode(latents)).abs().max() < 0.02


@pytest.mark.parametrize("name", ["sd1", "sdxl", "flux1", "flux2"])
def test_no_first_weight_is_what_was_in_memory(name):
    net = taesd_net(SPACES[name])
    for weights in net.parameters():
        torch.nn.init.constant_(weights, math.nan)
    with torch.no_grad():
        draw_weights(net, torch.Generator().manual_seed(0))
    assert [name for name, weights in net.named_parameters() if not weights.isfinite().all()] == []


def test_a_layer_without_known_first_weights_is_refused():
    net = taesd_net(SPACES["sd1"])
    net.layers.append(torch.nn.PReLU())
    with pytest.raises(TypeError, match="no first weights are known for a PReLU"), torch.no_grad():
        draw_weights(net, torch.Generator())
