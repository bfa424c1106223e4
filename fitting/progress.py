"""Reports the progress of a host's fit node."""

from collections.abc import Callable
from typing import final

from ..decoders.catalogue import AUTO
from .fit import COST_CLASSES
from .presets import PRESETS
from .train import FitStep

ENCODING_SHARE = 0.3  # of the whole work
TRAINING_WEIGHT = 6  # closed forms that take as long as a training
FITTING_END = 0.99  # the rest is scoring and saving


@final
class FitProgressShares:
    """Computes the share of a fit that is done, 0..1: first encoding of the images, then fitting.

    Args:
        kind: preset name, or `auto`.
    """

    def __init__(self, kind: str) -> None:
        names = [name for presets in COST_CLASSES.values() for name in presets] if kind == AUTO else [kind]
        weights = [1 if PRESETS[name].recipe is None else TRAINING_WEIGHT for name in names]
        self._parts = {
            name: (sum(weights[:i]) / sum(weights), weights[i] / sum(weights)) for i, name in enumerate(names)
        }  # where a preset begins, and its share

    def encoding(self, share: float) -> float:
        """Share of the whole work after this share of the encoding."""
        return ENCODING_SHARE * share

    def fitting(self, name: str, step: FitStep) -> float:
        """Share of the whole work after this step of this preset."""
        begin, share = self._parts[name]
        return ENCODING_SHARE + (1 - ENCODING_SHARE) * FITTING_END * (begin + share * step.step / max(1, step.steps))


@final
class FitProgressBar:
    """Shows encoding and fitting on a host's progress bar, and stops a cancelled fit.

    Args:
        kind: preset name, or `auto`.
        ticks: number of different positions of the bar; the host hears of each once.
        show: function that shows a message and a share 0..1 in the host.
        check_cancelled: function that raises the host's exception if the user cancelled.
    """

    def __init__(
        self, kind: str, ticks: int, show: Callable[[str, float], None], check_cancelled: Callable[[], None]
    ) -> None:
        self.check_cancelled = check_cancelled
        self._shares, self._ticks, self._show = FitProgressShares(kind), ticks, show
        self._last_tick = -1

    def encoding(self, share: float) -> None:
        """Shows that this share of the images is encoded."""
        self._update("Encoding images", self._shares.encoding(share))

    def fitting(self, name: str, step: FitStep) -> None:
        """Shows the step of this preset."""
        self._update(f"Fitting {PRESETS[name].title}", self._shares.fitting(name, step))

    def _update(self, message: str, share: float) -> None:
        self.check_cancelled()
        if (tick := round(share * self._ticks)) != self._last_tick:
            self._last_tick = tick
            self._show(message, tick / self._ticks)
