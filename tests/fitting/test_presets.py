"""Every preset fitted on toy pairs, written, read again, and measured."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import read_decoder, write_decoder
from safelight.decoders.nets.polynomial import Polynomial
from safelight.decoders.nets.registry import KINDS
from safelight.errors import FitError
from safelight.fitting import least_squares
from safelight.fitting.metrics import psnr_db, ssim
from safelight.fitting.pairs import Pairs
from safelight.fitting.presets import MAX_SUBPIXELS, PRESETS, fit_preset, measure_net
from safelight.fitting.train import IMAGES_PER_SLICE, Recipe

pytestmark = pytest.mark.usefixtures("_one_thread")
SHORT = Recipe(steps=20, batch=4, lr=1e-2)


def fitted(name, toy_pairs, **kwargs):
    preset = PRESETS[name]
    return fit_preset(preset, toy_pairs(24), toy_pairs(6, seed=1), preset.recipe and SHORT, **kwargs).net


@pytest.mark.parametrize("name", PRESETS)
def test_the_file_of_a_preset_decodes_as_its_net(toy_pairs, tmp_path, name):
    net, preset = fitted(name, toy_pairs), PRESETS[name]
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    settings = preset.settings(4, 2)
    card = Card(name=name, space="sd1", kind=preset.kind, settings=settings, source="a test")
    write_decoder(tmp_path / "a.safetensors", card, net.state_dict())
    decoder = read_decoder(tmp_path / "a.safetensors")
    latents = toy_pairs(2, seed=2).latents
    assert torch.equal(decoder.decode(latents), net(latents).clamp(0, 1))
    assert decoder.scale == (2 if name in ("subpixel", "conv", "conv-full") else 1)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_reaches_20_db(toy_pairs, name):
    preset = PRESETS[name]
    net = fit_preset(preset, toy_pairs(24), toy_pairs(6, seed=1), preset.recipe and replace(SHORT, steps=100)).net
    assert measure_net(net, toy_pairs(6, seed=2))["psnr_latent_db"] > 20


def test_a_higher_degree_has_a_higher_psnr(toy_pairs):
    judged = toy_pairs(8, seed=2)
    affine, quadratic = (
        measure_net(fitted(name, toy_pairs), judged)["psnr_latent_db"] for name in ("affine", "quadratic")
    )
    assert quadratic > affine + 10  # the toy is bent by a square root


@pytest.mark.parametrize("helps", [True, False])
def test_a_closed_form_is_solved_on_all_pairs_with_the_ridge_chosen_on_validation_pairs(toy_pairs, monkeypatch, helps):
    monkeypatch.setattr(least_squares, "OVERALL_RIDGES", (0.0 if helps else math.inf,))
    pairs, held = toy_pairs(12), toy_pairs(4, seed=1)
    both = pairs + held
    x = both.latents.permute(0, 2, 3, 1).reshape(-1, 4).double()
    means = both.latents.double().mean((2, 3)).repeat_interleave(both.latents[0, 0].numel(), 0)
    x = torch.cat([x, helps * means, torch.ones(len(x), 1)], 1)
    y = both.rgb(1).permute(0, 2, 3, 1).reshape(-1, 3).double()
    expected = torch.linalg.lstsq(x, y, driver="gelsd").solution
    net = fit_preset(PRESETS["affine"], pairs, held).net
    torch.testing.assert_close(net.weight[:, :, 0, 0].double(), expected[:4].T, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(net.overall.double(), expected[4:8].T, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(net.bias.double(), expected[8], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["affine", "conv", "mlp"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_host_without_gradients_gets_the_same_net(toy_pairs, name, mode):
    expected = fitted(name, toy_pairs)
    with mode():
        net = fitted(name, toy_pairs)
    assert all(torch.equal(tensor, expected.state_dict()[key]) for key, tensor in net.state_dict().items())
    assert not any(tensor.is_inference() for tensor in net.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_fitting_does_not_change_the_global_random_state(toy_pairs, name):
    before = torch.get_rng_state()
    fitted(name, toy_pairs)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_training_uses_the_recipe_and_the_callback(toy_pairs):
    steps = []
    fitted("conv", toy_pairs, on_step=steps.append)
    assert [progress.step for progress in steps] == list(range(1, SHORT.steps + 1))


def test_a_preset_too_large_for_the_channels_is_refused_with_the_numbers(toy_pairs):
    pairs = toy_pairs(2)
    wide = Pairs(pairs.latents.repeat(1, 8, 1, 1), pairs.pixels)
    with pytest.raises(FitError, match=r"degree 3 in 32 channels .* 6,544 features"):
        fit_preset(PRESETS["cubic"], wide, wide)


def test_too_few_images_for_a_preset_are_refused(toy_pairs):
    with pytest.raises(FitError, match="128 latent pixels are too few for 196 features"):
        fit_preset(PRESETS["neighbourhood"], toy_pairs(2), toy_pairs(1, seed=1))


@pytest.mark.parametrize(("downscale", "subpixels"), [(1, 1), (2, 2), (8, 8), (16, 8), (32, 8), (12, 6), (14, 7)])
def test_the_number_of_sub_pixels_divides_the_downscale_factor(downscale, subpixels):
    assert {PRESETS[name].settings(4, downscale)["subpixel"] for name in ("subpixel", "conv-full")} == {subpixels}
    assert subpixels <= MAX_SUBPIXELS


@pytest.mark.parametrize("channels", [4, 16, 32])
def test_small_convolutions_have_at_most_30000_parameters(channels):
    preset = PRESETS["conv"]
    with torch.device("meta"):
        net = KINDS[preset.kind](**preset.settings(channels, 8))
    assert sum(parameter.numel() for parameter in net.parameters()) <= 30_000


def test_quality_is_measured_at_latent_size_and_full_size(toy_pairs):
    pairs = toy_pairs(IMAGES_PER_SLICE + 2)
    net = Polynomial(4)
    net.load_state_dict({"weight": torch.eye(3, 4)[:, :, None, None] * 0.4, "bias": torch.full((3,), 0.5)})
    rgb = (pairs.latents[:, :3] * 0.4 + 0.5).clamp(0, 1)
    truth = pairs.pixels.float() / 255
    full = F.interpolate(rgb, size=(16, 16), mode="bicubic", align_corners=False).clamp(0, 1)
    assert measure_net(net, pairs) == pytest.approx(
        {
            "psnr_latent_db": float(psnr_db(rgb, F.avg_pool2d(truth, 2)).mean()),
            "psnr_full_db": float(psnr_db(full, truth).mean()),
            "ssim_full": float(ssim(full, truth).mean()),
        },
        abs=1e-3,
    )


def test_a_decoder_in_sub_pixels_is_measured_at_its_own_size_and_averaged(toy_pairs):
    pairs = toy_pairs(3)
    net = Polynomial(4, subpixel=2)
    weight = torch.zeros(12, 4, 1, 1)
    for channel in range(3):
        weight[4 * channel : 4 * channel + 4, channel, 0, 0] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    net.load_state_dict({"weight": weight, "bias": torch.full((12,), 0.5)})
    rgb = net(pairs.latents).detach().clamp(0, 1)
    truth = pairs.pixels.float() / 255
    scores = measure_net(net, pairs)
    assert scores["psnr_full_db"] == pytest.approx(float(psnr_db(rgb, truth).mean()), abs=1e-3)
    small = psnr_db(F.avg_pool2d(rgb, 2), F.avg_pool2d(truth, 2))
    assert scores["psnr_latent_db"] == pytest.approx(float(small.mean()), abs=1e-3)


def test_a_perfect_decoder_gets_the_highest_scores():
    pixels = (torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 255).byte()
    pairs = Pairs(F.pixel_unshuffle(pixels.float() / 255, 2), pixels)
    net = Polynomial(12, subpixel=2)
    net.load_state_dict({"weight": torch.eye(12)[:, :, None, None], "bias": torch.zeros(12)})
    assert measure_net(net, pairs) == {"psnr_latent_db": 60.0, "psnr_full_db": 60.0, "ssim_full": 1.0}
