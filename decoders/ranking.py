"""Compares two decoders by their measured scores.

A card's `metrics` have the scores `psnr_full_db`, `psnr_latent_db` and `ssim_full`. `judged_on` names the test images.
`beside` has the scores of other decoders on the same images, by name. Scores on different images are never compared:
images differ more than decoders do. `measured`, the scores on the user's own pictures, count before all others.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .decoder import Card

LIGHT = 100_000  # multiplications per latent pixel that a CPU can do without slowing the sampler noticeably
SCORE_KEYS = ("psnr_full_db", "psnr_latent_db")
MAX_DB = 1000  # a file may contain any number; no real PSNR is larger


class ScoreGap(NamedTuple):
    """The scores of two decoders on the same images."""

    own_db: float
    other_db: float

    @property
    def gain_db(self) -> float:
        return self.own_db - self.other_db

    def against(self, name: str) -> str:
        """Describes the gap in words; `name` is the other decoder."""
        return (
            f"{abs(self.gain_db):.1f} dB {'more' if self.gain_db > 0 else 'less'} than {name} on the same images "
            f"({self.own_db:.1f} and {self.other_db:.1f})"
        )


def compare_scores(card: Card, other: Card) -> ScoreGap | None:
    """Compares the means of the scores that both decoders have. Returns None if they were never compared.

    Both scores matter to people: at full size all decoders without upscaling are equally blurred, and at latent size
    detail does not count.
    """
    own, others = card.metrics, other.metrics
    for mine, theirs in (
        (card.measured, other.measured if _same_images(card.measured, other.measured) else {}),
        (own, _beside(own, other.name)),
        (_beside(others, card.name), others),
        (own, others if _same_images(own, others) else {}),
    ):
        if both := [key for key in SCORE_KEYS if _is_score(mine.get(key)) and _is_score(theirs.get(key))]:
            return ScoreGap(*(sum(scores[key] for key in both) / len(both) for scores in (mine, theirs)))
    return None


def gain_db(card: Card, other: Card) -> float | None:
    """Returns by how many dB `card` is better than `other`, or None if they were never compared."""
    comparison = compare_scores(card, other)
    return comparison and comparison.gain_db


def why_chosen(card: Card, instead_of: Card | None, cards: Sequence[Card]) -> str:
    """Explains why `auto` chooses `card` among `cards`. `instead_of` is the choice on a CPU if that is another."""
    others = [other for other in cards if other is not card]
    if not others:
        return "the only one available"
    others.sort(key=lambda other: other is not instead_of)
    better = next((c.against(o.name) for o in others if (c := compare_scores(card, o)) and c.gain_db > 0), None)
    if instead_of is None:
        return better or "the first one available; not compared with the others"
    return f"on an accelerator: {better or f'more work than {instead_of.name}; not compared with it'}"


def why_not_chosen(card: Card, slow: Card, fast: Card) -> str:
    """Explains why `auto` does not choose `card`, but `slow` on a CPU and `fast` on an accelerator."""
    heavy = card.cost > LIGHT
    rival = fast if heavy else slow
    comparison = compare_scores(card, rival)
    measured = comparison.against(rival.name) if comparison else f"not compared with {rival.name}"
    return f"too heavy for a CPU; {measured}" if heavy else measured


def _same_images(metrics: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    images = metrics.get("judged_on")
    return isinstance(images, str) and bool(images) and images == others.get("judged_on")


def _beside(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    others = metrics.get("beside")
    scores = others.get(name) if isinstance(others, Mapping) else None
    return scores if isinstance(scores, Mapping) else {}


def _is_score(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and -MAX_DB < value < MAX_DB
