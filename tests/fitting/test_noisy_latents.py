"""Noisy latents: each change against its formula, random changes by their statistics."""

import math
from itertools import pairwise

import pytest
import torch
from safelight.decoders.files.decoder_file import build
from safelight.decoders.nets.conv import Conv
from safelight.fitting.noisy_latents import (
    LATENT_CHANGES,
    MAX_BLENDED_IMAGES,
    MAX_SIGMA,
    PATCH,
    PRIOR_IMAGES,
    RUN_STEPS,
    SIGMAS,
    add_noise,
    blend,
    blur_latents,
    denoise,
    mean_of,
    noisy_pairs,
    score_noisy_latents,
    vary_latents,
)


def latents_of(count=6, channels=4, size=(6, 5), seed=0):
    return torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(seed))


def any_generator():
    return torch.Generator().manual_seed(5)


def test_a_blend_mixes_in_a_share_of_the_image_before():
    x = latents_of(3)
    expected = torch.stack([0.7 * x[i] + 0.3 * x[i - 1] for i in range(3)])
    torch.testing.assert_close(blend(0.3)(x, any_generator()), expected)


@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_mean_is_over_consecutive_images(count):
    x = latents_of(5)
    expected = torch.stack([sum(x[(i - k) % 5] for k in range(count)) / count for i in range(5)])
    torch.testing.assert_close(mean_of(count)(x, any_generator()), expected)


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0])
def test_noise_is_added_by_the_formula_of_flow_models(sigma):
    x = latents_of()
    noise = torch.randn(x.shape, generator=any_generator())
    torch.testing.assert_close(add_noise(sigma)(x, any_generator()), (1 - sigma) * x + sigma * noise)


@pytest.mark.parametrize("size", [3, 5])
def test_a_blur_is_the_mean_around_each_latent_pixel(size):
    x = latents_of(2)
    found, reach = blur_latents(size)(x, any_generator()), size // 2
    assert found.shape == x.shape
    for i, j in [(0, 0), (3, 2), (5, 4), (5, 0)]:
        around = [
            x[:, :, min(max(i + di, 0), 5), min(max(j + dj, 0), 4)]
            for di in range(-reach, reach + 1)
            for dj in range(-reach, reach + 1)
        ]
        torch.testing.assert_close(found[:, :, i, j], sum(around) / size**2)


@pytest.mark.parametrize("title", LATENT_CHANGES)
def test_every_change_keeps_the_shape_and_does_not_change_its_input(title):
    x = latents_of()
    before = x.clone()
    changed = LATENT_CHANGES[title](x, any_generator())
    assert changed.shape == x.shape
    assert not torch.equal(changed, x)
    assert torch.equal(x, before)


def posterior_mean(x, priors, sigma):
    """Computes the posterior mean in loops: every patch of the prior, weighted by the probability of its noise."""
    reach, (_, height, width) = PATCH // 2, x.shape

    def patch(latents, i, j):
        rows = torch.arange(i - reach, i + reach + 1).clamp(0, height - 1)
        columns = torch.arange(j - reach, j + reach + 1).clamp(0, width - 1)
        return latents[:, rows][:, :, columns].double()

    places = [(i, j) for i in range(height) for j in range(width)]
    mean = torch.empty(x.shape, dtype=torch.float64)
    for i, j in places:
        logs, middles = [], []
        for prior in priors:
            for k, m in places:
                noise = (patch(x, i, j) - (1 - sigma) * patch(prior, k, m)) / sigma
                logs.append(-float(noise.square().sum()) / 2)
                middles.append(prior[:, k, m].double())
        chances = [math.exp(log - max(logs)) for log in logs]
        mean[:, i, j] = sum(c * middle for c, middle in zip(chances, middles, strict=True)) / sum(chances)
    return mean.float()


@pytest.mark.parametrize("sigma", [0.95, 0.7, 0.3])
def test_the_exact_denoiser_is_the_posterior_mean_over_patches(sigma):
    x = latents_of(PRIOR_IMAGES + 1, channels=2, size=(4, 3))
    found = denoise(sigma)(x, any_generator())
    seen = add_noise(sigma)(x, any_generator())
    for i in range(len(x)):
        priors = [x[i - k] for k in range(PRIOR_IMAGES)]
        torch.testing.assert_close(found[i], posterior_mean(seen[i], priors, sigma), atol=1e-4, rtol=1e-4)


def test_denoising_steps_go_from_the_mean_of_all_images_to_the_image():
    x = latents_of(PRIOR_IMAGES)
    away = [float((denoise(sigma)(x, any_generator()) - x).square().mean()) for sigma in (1.0, *SIGMAS, 0.1)]
    assert away == sorted(away, reverse=True)
    assert away[-1] < 1e-3
    torch.testing.assert_close(denoise(1.0)(x, any_generator())[0], x.mean((0, 2, 3))[:, None, None].expand(4, 6, 5))


def test_a_large_image_is_denoised_in_parts():
    x = latents_of(1, channels=2, size=(40, 30))  # more patches than one part has
    whole = denoise(0.5)(x, any_generator())
    seen = add_noise(0.5)(x, any_generator())
    assert float((whole - x).square().mean()) < float((seen / 0.5 - x).square().mean())
    assert float((whole[..., -5:, :] - x[..., -5:, :]).square().mean()) < 0.5


# Pairs.


def teacher(latents):
    """Decodes to values outside 0..1 as well."""
    return latents[:, :3].repeat_interleave(2, 2).repeat_interleave(2, 3) + 0.5


def test_the_teacher_decodes_the_same_latents_that_the_pairs_hold():
    pairs = noisy_pairs(latents_of(19), teacher, add_noise(0.3), seed=3)
    expected = (teacher(pairs.latents.float()).clamp(0, 1) * 255).round().byte()
    assert torch.equal(pairs.pixels, expected)
    assert pairs.downscale == 2


def test_the_seed_decides_the_noise():
    first, again, other = (noisy_pairs(latents_of(), teacher, add_noise(0.3), seed).latents for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_half_precision_latents_are_changed_in_single_precision():
    x = latents_of().half()
    expected = noisy_pairs(x.float(), teacher, blend(0.3)).latents
    assert torch.equal(noisy_pairs(x, teacher, blend(0.3)).latents, expected)


# Scores.


def affine(weight, bias=0.5):
    """Builds a decoder at latent size: the first three channels times a number."""
    matrix = torch.zeros(3, 4, 1, 1)
    matrix[:, :3, 0, 0] = weight * torch.eye(3)
    return build("polynomial", {"channels": 4}, {"weight": matrix, "bias": torch.full((3,), bias)})


def scores(*nets, latents=None):
    teacher = affine(0.1)
    latents = latents_of(PRIOR_IMAGES + 2, size=(12, 12)) if latents is None else latents
    return dict(score_noisy_latents(nets, latents, teacher))


def test_the_teacher_has_no_flicker_no_cast_and_full_detail():
    found = scores(affine(0.1))
    assert list(found) == [*LATENT_CHANGES, "flicker", "cast", "detail"]
    assert all(found[title][0] > 55 for title in LATENT_CHANGES)
    assert found["flicker"][0] < 0.6  # of 255: the teacher's image is rounded to bytes
    assert found["cast"][0] < 0.2
    assert found["detail"][0] == pytest.approx(1, abs=0.02)


def test_a_wrong_constant_is_a_color_cast_without_flicker():
    good, bad = zip(*scores(affine(0.1), affine(0.1, bias=0.6)).values(), strict=True)
    flicker, cast, detail = bad[-3:]
    assert cast == pytest.approx(25.5, abs=0.3)
    assert flicker == pytest.approx(good[-3], abs=0.1)
    assert detail == pytest.approx(1, abs=0.02)


def test_ringing_is_more_detail_than_the_teacher_shows():
    rings = Conv(4, (), subpixel=1)
    kernel = torch.zeros(3, 4, 5, 5)
    kernel[:, :3, 2, 2] = 0.1 * torch.eye(3)
    kernel[:, :3, 2, 1] = kernel[:, :3, 2, 3] = -0.1 * torch.eye(3)
    kernel[:, :3, 2, 2] += 0.2 * torch.eye(3)
    state = rings.state_dict()
    rings.load_state_dict({k: torch.zeros_like(v) for k, v in state.items()} | {"linear.weight": kernel})
    assert scores(rings)["detail"][0] > 1.5
    assert scores(affine(0.05))["detail"][0] == pytest.approx(0.5, abs=0.02)


def test_flicker_is_the_change_between_steps_that_the_teacher_does_not_show():
    latents = latents_of(PRIOR_IMAGES + 2, size=(12, 12))
    steps = [denoise(sigma)(latents, torch.Generator().manual_seed(0)).half().float() for sigma in SIGMAS]
    with torch.no_grad():
        errors = [affine(0.3)(x).clamp(0, 1) - affine(0.1)(x).clamp(0, 1) for x in steps]
    squares = [float((now - then).square().mean()) for then, now in pairwise(errors)]
    expected = 255 * math.sqrt(sum(squares) / len(squares))
    assert scores(affine(0.3), latents=latents)["flicker"][0] == pytest.approx(expected, rel=0.02)
    assert set(RUN_STEPS) <= set(LATENT_CHANGES)


# Random changes.


def test_random_changes_depend_on_their_seed_only_and_keep_the_global_random_state():
    x = latents_of(30)
    clean, before = x.clone(), torch.get_rng_state()
    first, again, other = (vary_latents(x, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, clean)


@pytest.mark.parametrize("count", [1, 2])
def test_random_changes_accept_any_number_of_images(count):
    varied = vary_latents(latents_of(count).half(), 0)
    assert varied.shape == (count, 4, 6, 5)
    assert varied.dtype == torch.float32
    assert torch.isfinite(varied).all()


def constant_latents(count):
    """Returns latents that each have one number, so that a pixel identifies its image."""
    numbers = torch.arange(count).float()
    return numbers[:, None, None, None].expand(count, 1, 6, 6).clone()


def test_each_change_is_applied_to_a_sixth_of_the_images():
    count = 1000
    x = constant_latents(count)
    varied = vary_latents(x, 0)
    spread = varied.std((1, 2, 3))
    centre = varied.mean((1, 2, 3))
    # Numbers this far apart are identified in the noise of an exact estimate.
    unchanged = (spread < 1e-3) & (
        (centre - torch.arange(count)).abs() < 1e-3
    )  # blurs and exact estimates: three of six
    noise = spread > 1e-2
    rest = ~unchanged & ~noise  # blends and means: flat, with another number
    for found, share in [(unchanged, 3 / 6), (noise, 1 / 6), (rest, 2 / 6)]:
        assert float(found.float().mean()) == pytest.approx(share, abs=0.04)


def test_noise_has_all_strengths_up_to_the_maximum():
    x = torch.zeros(1000, 1, 8, 8)  # on zeros only noise is visible
    sigma = vary_latents(x, 0).std((1, 2, 3))
    sigma = sigma[sigma > 0]
    assert len(sigma) == pytest.approx(1000 / 6, abs=40)
    assert float(sigma.mean()) == pytest.approx(MAX_SIGMA / 2, abs=0.05)
    assert MAX_SIGMA * 0.9 < float(sigma.max()) < MAX_SIGMA * 1.25


def test_means_are_over_one_to_eight_images_and_blends_keep_at_least_half():
    count = 2000
    x = torch.eye(count)[:, :, None, None]  # a channel for each image: the blended images can be counted
    varied = vary_latents(x, 0)[:, :, 0, 0]
    parts = (varied.abs() > 1e-6).sum(1)
    own = varied.diagonal()
    blends = (parts == 2) & (own >= 0.5 - 1e-6) & (own < 1)
    assert 0.12 * count < int(blends.sum()) < 0.25 * count
    means = (own == 0) & (parts <= MAX_BLENDED_IMAGES)
    assert 0.13 * count < int(means.sum()) < 0.2 * count
    assert set(parts[means].tolist()) == set(range(1, MAX_BLENDED_IMAGES + 1))
    assert varied[means].sum(1).sub(1).abs().max() < 1e-5
