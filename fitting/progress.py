"""Reports the progress of a host's fit node."""

import math
import time
from collections.abc import Callable
from typing import final

from ..decoders.catalogue import AUTO
from .fit import COST_CLASSES
from .presets import PRESETS
from .train import FitStep

ENCODING_SHARE = 0.3  # of the whole work
TRAINING_WEIGHT = 6  # closed forms that take as long as a training
MIN_KNOWN_SHARE, MIN_KNOWN_S = 0.02, 2.0  # of a stage: before, its speed is not known well
FITTING_END = 0.99  # the rest is scoring and saving


@final
class FitProgressBar:
    """Shows a fit on a host's progress bar, first encoding of the images, then fitting; stops a cancelled fit.

    Args:
        kind: preset name, or `auto`.
        ticks: number of different positions of the bar; the host gets each position once.
        show: function that shows a message and the share 0..1 of the work that is done.
        check_cancelled: function that raises the host's exception if the user cancelled.
        clock: function that returns seconds.
    """

    def __init__(
        self,
        kind: str,
        ticks: int,
        show: Callable[[str, float], None],
        check_cancelled: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.check_cancelled = check_cancelled
        self._clock = clock
        self._stage, self._stage_began = "", 0.0
        self._ticks, self._last_tick, self._show = ticks, -1, show
        names = [name for presets in COST_CLASSES.values() for name in presets] if kind == AUTO else [kind]
        weights = [1 if PRESETS[name].recipe is None else TRAINING_WEIGHT for name in names]
        self._parts = {
            name: (sum(weights[:i]) / sum(weights), weights[i] / sum(weights)) for i, name in enumerate(names)
        }  # where a preset begins, and its share

    def encoding(self, share: float) -> None:
        """Shows that this share of the images is encoded."""
        self._update("Encoding images", share, ENCODING_SHARE * share)

    def fitting(self, name: str, step: FitStep) -> None:
        """Shows the step of this preset."""
        begin, share = self._parts[name]
        of_stage = step.step / max(1, step.steps)
        done = begin + share * of_stage
        stage = f"Fitting {PRESETS[name].title}"
        self._update(stage, of_stage, ENCODING_SHARE + (1 - ENCODING_SHARE) * FITTING_END * done)

    def _update(self, stage: str, of_stage: float, share: float) -> None:
        self.check_cancelled()
        if stage != self._stage:
            self._stage, self._stage_began = stage, self._clock()
        if (tick := round(share * self._ticks)) != self._last_tick:
            self._last_tick = tick
            self._show(f"{stage}{self._time_left(of_stage)}", tick / self._ticks)

    def _time_left(self, of_stage: float) -> str:
        """The time that is left in the stage, from its own speed; empty as long as that is a guess."""
        elapsed = self._clock() - self._stage_began
        if of_stage < MIN_KNOWN_SHARE or elapsed < MIN_KNOWN_S:
            return ""
        left = elapsed / of_stage * (1 - of_stage)
        return f", {math.ceil(left / 60)} min left" if left > 90 else f", {math.ceil(left)} s left"
