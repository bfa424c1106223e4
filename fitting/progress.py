"""What a node that fits decoders tells its user: how far it is, then what came of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

from ..decoders.catalogue import AUTO
from ..decoders.latents.space import LatentSpace
from .fit import CLASSES
from .presets import PRESETS
from .result import FitResult
from .train import Progress

ENCODING = 0.3  # of the whole
TRAINING = 6  # how many closed forms a training is worth
ALMOST = 0.99  # what is left is judging and saving


@final
class ProgressShares:
    """Which share of a fit is done, 0..1: first the pictures are encoded, then decoders are fitted.

    Args:
        kind: of the decoder.
    """

    def __init__(self, kind: str) -> None:
        names = [name for rungs in CLASSES.values() for name in rungs] if kind == AUTO else [kind]
        works = [1 if PRESETS[name].recipe is None else TRAINING for name in names]
        self._parts = {
            name: (sum(works[:i]) / sum(works), works[i] / sum(works)) for i, name in enumerate(names)
        }  # where a rung begins, and its share

    def encoding(self, share: float) -> float:
        """So much of the pictures is encoded."""
        return ENCODING * share

    def fitting(self, name: str, progress: Progress) -> float:
        """The rung of this name is so far."""
        begin, share = self._parts[name]
        return ENCODING + (1 - ENCODING) * ALMOST * (begin + share * progress.step / max(1, progress.steps))


def summary(made: FitResult, space: LatentSpace, paths: Sequence[Path]) -> str:
    """What was made of which pictures, what it is worth, and where it is."""
    lines = [
        f"Latent space: {space.title} ({space.name})",
        f"Fitted on {made.material.fitted_on}.",
        f"Judged on {made.material.judged_on}; the first is what auto takes now:",
        "",
        made.table(),
        "",
        *made.verdicts(),
        *(f"Note: {note}" for note in made.notes),
        "",
        *(f"Saved: {path}" for path in paths),
    ]
    return "\n".join(lines)
