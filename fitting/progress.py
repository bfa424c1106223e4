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
class FitProgressBar:
    """Shows a fit on a host's progress bar, first encoding of the images, then fitting; stops a cancelled fit.

    Args:
        kind: preset name, or `auto`.
        ticks: number of different positions of the bar; the host gets each position once.
        show: function that shows a message and the share 0..1 of the work that is done.
        check_cancelled: function that raises the host's exception if the user cancelled.
    """

    def __init__(
        self, kind: str, ticks: int, show: Callable[[str, float], None], check_cancelled: Callable[[], None]
    ) -> None:
        self.check_cancelled = check_cancelled
        self._ticks, self._last_tick, self._show = ticks, -1, show
        names = [name for presets in COST_CLASSES.values() for name in presets] if kind == AUTO else [kind]
        weights = [1 if PRESETS[name].recipe is None else TRAINING_WEIGHT for name in names]
        self._parts = {
            name: (sum(weights[:i]) / sum(weights), weights[i] / sum(weights)) for i, name in enumerate(names)
        }  # where a preset begins, and its share

    def encoding(self, share: float) -> None:
        """Shows that this share of the images is encoded."""
        self._update("Encoding images", ENCODING_SHARE * share)

    def fitting(self, name: str, step: FitStep) -> None:
        """Shows the step of this preset."""
        begin, share = self._parts[name]
        done = begin + share * step.step / max(1, step.steps)
        self._update(f"Fitting {PRESETS[name].title}", ENCODING_SHARE + (1 - ENCODING_SHARE) * FITTING_END * done)

    def _update(self, message: str, share: float) -> None:
        self.check_cancelled()
        if (tick := round(share * self._ticks)) != self._last_tick:
            self._last_tick = tick
            self._show(message, tick / self._ticks)
