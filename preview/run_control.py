"""What a person asks of a run that goes on: to pause, to go on, or to end early and keep a step.

Any thread asks; the sampler's thread looks between two steps.
"""

import threading
from collections.abc import Callable
from typing import final

POLL_S = 0.05  # how often a paused run looks whether its host cancels it


@final
class RunControl:
    """The requests for one run.

    Attributes:
        is_waiting: whether there is a request, so that the sampler's thread looks at one attribute in each step.
        paused: whether the run pauses, or will pause after its current step.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._stop_after: int | None = None  # 0: the step that ends next
        self.is_waiting = self.paused = False

    def pause(self) -> None:
        """Asks the run to wait after its current step."""
        self._ask(paused=True)

    def go_on(self) -> None:
        """Asks a paused run to go on."""
        self._ask(paused=False)

    def stop(self, step: int = 0) -> None:
        """Asks the run to end after its current step, also if it pauses.

        Args:
            step: step whose estimate becomes the sampler's result; 0 for the step that ends next.
        """
        self._ask(paused=False, stop_after=step)

    def _ask(self, *, paused: bool, stop_after: int | None = None) -> None:
        with self._changed:
            self.paused = paused
            self._stop_after = self._stop_after if stop_after is None else stop_after
            self.is_waiting = self.paused or self._stop_after is not None
            self._changed.notify_all()

    def obey(self, index: int, check: Callable[[], object], changed: Callable[[bool], object]) -> int | None:
        """Waits while the run pauses. The sampler's thread calls it after a step, if `is_waiting`.

        Args:
            index: number of the step that has ended.
            check: function that raises if the host cancels the run; called every 50 ms.
            changed: function that is called with True when the run waits, and with False when it goes on.

        Returns:
            Number of the step to keep, if the run must end now; else None.
        """
        with self._changed:
            if self.paused:
                changed(True)
                while self.paused:
                    check()
                    self._changed.wait(POLL_S)
                changed(False)
            stop_after, self._stop_after = self._stop_after, None
            self.is_waiting = False
        return None if stop_after is None else stop_after or index
