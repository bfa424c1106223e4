"""Checks that latents, images and latent space belong together, before minutes are spent on a fit."""

from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor

from ..decoders.decoder import Decoder
from ..decoders.latents.space import LatentSpace
from ..errors import FitError
from .metrics import psnr_db, resize_rgb
from .pairs import Pairs

CHECKED_PAIRS = 16
# By how much known decoders may score below their cards, in dB. Other pictures and another VAE of the space cost up
# to 4 dB (SD1 on real pairs); a VAE of another space with as many channels costs 13.
MAX_DROP_DB = 8.0
MIN_ROUND_TRIP_DB = 15.0  # of an image that a VAE encodes and decodes; real ones have 25 and more

Decode = Callable[[Tensor], Tensor]


@torch.no_grad()
def require_known_scores(decoders: Sequence[Decoder], pairs: Pairs, space: LatentSpace) -> None:
    """Compares the scores of known decoders on `pairs` with those on their cards.

    Args:
        decoders: decoders of the space; those without a score on their card are left out.
        pairs: pairs to score them on.
        space: latent space that the pairs should be of.

    Raises:
        FitError: they score far below their cards, so the latents are probably of another VAE.
    """
    checked = pairs[:CHECKED_PAIRS]
    found = [
        (card_db, _score_db(decoder, checked), decoder.name)
        for decoder in decoders
        if isinstance(card_db := decoder.card.metrics.get("psnr_latent_db"), int | float)
    ]
    if not found or median(card_db - here_db for card_db, here_db, _ in found) <= MAX_DROP_DB:
        return
    card_db, here_db, name = max(found)
    raise FitError(
        f"these latents do not look like {space.title} ({space.name}): its decoder {name} has {here_db:.1f} dB on "
        f"them, {card_db:.1f} dB on its card. Is this the VAE of the model? Choose that VAE, or the latent space of "
        "this one"
    )


@torch.no_grad()
def require_round_trip(encode: Decode, decode: Decode, image: Tensor) -> None:
    """Encodes and decodes one image with a VAE.

    Args:
        encode: function from rgb `[1, 3, H, W]` in 0..1 to latents.
        decode: function from these latents to rgb `[1, 3, H, W]` in 0..1.
        image: rgb `[1, 3, H, W]` in 0..1.

    Raises:
        FitError: the image does not come back.
    """
    rgb = decode(encode(image)).float().cpu()
    if not torch.isfinite(rgb).all():
        raise FitError("the VAE decodes its own latents to NaN or infinity; run it in float32")
    db = float(psnr_db(resize_rgb(rgb.clamp(0, 1), *image.shape[2:]), image))
    if db < MIN_ROUND_TRIP_DB:
        raise FitError(
            f"an image that this VAE encodes and decodes comes back with {db:.1f} dB, expected {MIN_ROUND_TRIP_DB:g} "
            "or more: the VAE is damaged, or its encoder is missing. Choose another VAE"
        )


def _score_db(decoder: Decoder, pairs: Pairs) -> float:
    rgb = resize_rgb(decoder.decode(pairs.latents.float()), *pairs.latents.shape[2:])
    return float(psnr_db(rgb, pairs.rgb(1)).mean())
