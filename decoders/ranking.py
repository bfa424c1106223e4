"""Which of two decoders shows more of the truth, as far as that was measured.

A card's `metrics` hold `psnr_full_db`, `psnr_latent_db` and `ssim_full`; `judged_on`, the very pictures; and `beside`,
what others scored on the same ones, by their names. Figures of different pictures are never compared: pictures differ
by more than decoders do.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from .decoder import Card

LIGHT = 100_000  # multiplications per latent pixel that a CPU does beside a sampler without anybody noticing
SCORES = ("psnr_full_db", "psnr_latent_db")
MOST_DB = 1000  # no PSNR of anything is more: a file may say any number


class ScoreGap(NamedTuple):
    """What two decoders scored on the same pictures."""

    mine_db: float
    theirs_db: float

    @property
    def gain_db(self) -> float:
        return self.mine_db - self.theirs_db

    def against(self, name: str) -> str:
        """In words, `name` being the other's."""
        return (
            f"{abs(self.gain_db):.1f} dB {'more' if self.gain_db > 0 else 'less'} than {name} on the same pictures "
            f"({self.mine_db:.1f} and {self.theirs_db:.1f})"
        )


def compare_scores(card: Card, other: Card) -> ScoreGap | None:
    """How `card` scored beside `other`: the mean of the scores that both have. None where nobody has compared them.

    At full size all that do not enlarge are blurred alike, at latent size detail counts for nothing; people see both.
    """
    mine, theirs = card.metrics, other.metrics
    pictures = mine.get("judged_on")
    same_pictures = isinstance(pictures, str) and pictures and pictures == theirs.get("judged_on")
    for ours, its in (
        (mine, _beside(mine, other.name)),
        (_beside(theirs, card.name), theirs),
        (mine, theirs if same_pictures else {}),
    ):
        if both := [score for score in SCORES if _is_score(ours.get(score)) and _is_score(its.get(score))]:
            return ScoreGap(*(sum(scores[score] for score in both) / len(both) for scores in (ours, its)))
    return None


def gain_db(card: Card, other: Card) -> float | None:
    """By how many dB `card` is better than `other`; None where nobody has compared them."""
    comparison = compare_scores(card, other)
    return comparison and comparison.gain_db


def _beside(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    others = metrics.get("beside")
    scores = others.get(name) if isinstance(others, Mapping) else None
    return scores if isinstance(scores, Mapping) else {}


def _is_score(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and -MOST_DB < value < MOST_DB
