"""Which of two decoders shows more of the truth, as far as that was measured.

A card's `metrics` hold `psnr_full_db`, `psnr_latent_db` and `ssim_full`; `judged_on`, the very pictures; and `beside`,
what others scored on the same ones, by their names. Figures of different pictures are never compared: pictures differ
by more than decoders do.
"""

from collections.abc import Mapping
from typing import Any

from .decoder import Card

LIGHT = 100_000  # multiplications per latent pixel that a CPU does beside a sampler without anybody noticing
SCORES = ("psnr_full_db", "psnr_latent_db")  # the first that both have decides: what is seen is full size


def gain_db(card: Card, other: Card) -> float | None:
    """By how many dB `card` is better than `other`; None where nobody has compared them."""
    mine, theirs = card.metrics, other.metrics
    same_pictures = mine.get("judged_on") is not None and mine.get("judged_on") == theirs.get("judged_on")
    for ours, its in (
        (mine, _beside(mine, other.name)),
        (_beside(theirs, card.name), theirs),
        (mine, theirs if same_pictures else {}),
    ):
        for score in SCORES:
            if _number(ours.get(score)) and _number(its.get(score)):
                return ours[score] - its[score]
    return None


def _beside(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    others = metrics.get("beside")
    scores = others.get(name) if isinstance(others, Mapping) else None
    return scores if isinstance(scores, Mapping) else {}


def _number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)
