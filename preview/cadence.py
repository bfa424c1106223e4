"""Which steps get a picture."""

import time
from collections.abc import Callable
from typing import final


@final
class Cadence:
    """Selects every n-th step, at most one every `min_interval_s` seconds, and always the last step.

    Steps count from 1, so every third of ten steps is 1, 4, 7, 10. The step number is compared before the clock is
    read: a step that is not selected costs one comparison.

    Args:
        every_n_steps: distance between selected steps, at least 1.
        min_interval_s: shortest time between selected steps, in seconds; 0 for no limit.
        clock: function that returns monotonic seconds.
    """

    def __init__(
        self, every_n_steps: int = 1, *, min_interval_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(f"expected every_n_steps of at least 1, got {every_n_steps}")
        self._every, self._interval_s, self._clock = every_n_steps, min_interval_s, clock
        self._next_s = float("-inf")

    def wants(self, index: int, total: int) -> bool:
        """Whether step `index` of `total` gets a picture. Ask once a step: the answer may start the next interval."""
        if index == total:
            return True
        if (index - 1) % self._every:
            return False
        if self._interval_s:
            now = self._clock()
            if now < self._next_s:
                return False
            self._next_s = now + self._interval_s
        return True

    def most_steps(self, total: int) -> int:
        """The largest number of steps that can be selected of `total` steps."""
        return len(range(0, total, self._every)) + ((total - 1) % self._every != 0) if total > 0 else 0
