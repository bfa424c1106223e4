"""Latents of another VAE are refused before a fit."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.decoder import Decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import FitError
from safelight.fitting.pairs import Pairs
from safelight.fitting.plausibility import require_known_scores, require_round_trip

SDXL = SPACES["sdxl"]


@pytest.fixture(scope="module")
def table():
    decoder = next(c for c in Catalogue().of(SDXL) if c.card.kind == "polynomial").open()
    return Decoder(replace(decoder.card, metrics={"psnr_latent_db": 30.0}), decoder.net)


def pairs(table, *, mixed=False, noise=0.03):
    generator = torch.Generator().manual_seed(1)
    latents = F.interpolate(torch.randn(6, 4, 4, 4, generator=generator), size=(16, 16), mode="bicubic")
    rgb = table.decode(latents) + noise * torch.randn(6, 3, 16, 16, generator=generator)
    pixels = F.interpolate(rgb, scale_factor=8).clamp(0, 1).mul(255).byte()
    return Pairs(latents[:, [2, 0, 3, 1]] if mixed else latents, pixels)


def test_pairs_of_the_right_vae_pass(table):
    assert require_known_scores([table], pairs(table), SDXL) is None


def test_a_few_db_less_than_on_the_card_are_no_reason(table):
    assert require_known_scores([table], pairs(table, noise=0.07), SDXL) is None


def test_latents_of_another_vae_are_refused_with_both_figures(table):
    with pytest.raises(FitError, match=r"do not look like .*sdxl.* dB on them, 30\.0 dB on its card"):
        require_known_scores([table], pairs(table, mixed=True), SDXL)


def test_without_a_known_score_nothing_can_be_said(table):
    unscored = Decoder(replace(table.card, metrics={}), table.net)
    assert require_known_scores([unscored], pairs(table, mixed=True), SDXL) is None
    assert require_known_scores([], pairs(table, mixed=True), SDXL) is None


def image():
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def test_an_image_that_comes_back_passes():
    assert require_round_trip(lambda rgb: rgb * 2 - 1, lambda latents: (latents + 1) / 2, image()) is None


@pytest.mark.parametrize(
    ("decode", "match"),
    [
        (lambda latents: latents.flip(1, 2), r"comes back with .* dB"),
        (lambda latents: latents * float("nan"), "NaN or infinity"),
    ],
)
def test_a_vae_whose_image_does_not_come_back_is_refused(decode, match):
    with pytest.raises(FitError, match=match):
        require_round_trip(lambda rgb: rgb, decode, image())
