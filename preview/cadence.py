"""Which steps deserve a picture."""

import time
from collections.abc import Callable
from typing import final


@final
class Cadence:
    """Every n-th step, no more often than every `min_interval_s` seconds, the last step always.

    Steps count from 1, so every third of ten steps is 1, 4, 7, 10. The counter is asked before the clock: a step that
    is not wanted costs a comparison.

    Args:
        every_n_steps: at least 1.
        min_interval_s: in seconds; 0 for no limit.
        clock: seconds, monotonic.
    """

    def __init__(
        self, every_n_steps: int = 1, *, min_interval_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if every_n_steps < 1:
            raise ValueError(f"expected every_n_steps of at least 1, got {every_n_steps}")
        self._every, self._interval_s, self._clock = every_n_steps, min_interval_s, clock
        self._next_s = float("-inf")

    def wants(self, index: int, total: int) -> bool:
        """Whether step `index` of `total` deserves a picture; asking may start the next interval."""
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

    def skips(self, index: int, total: int) -> bool:
        """Whether the counter alone says no; asking starts no interval."""
        return index != total and (index - 1) % self._every != 0
