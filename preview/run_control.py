"""What a person asks of a run that goes on: to pause, to go on, or to end early and keep a step.

Any thread asks; the sampler's thread looks between two steps.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple, final

POLL_S = 0.05  # how often a paused run looks whether its host cancels it


class EarlyEnd(NamedTuple):
    """How a run ends early: the step whose estimate becomes its result, and whether the user's rule asked for it."""

    step: int
    by_rule: bool


@final
class RunControl:
    """The requests for one run.

    Attributes:
        is_waiting: whether there is a request, so that the sampler's thread looks at one attribute in each step.
        paused: whether the run pauses, or will pause after its current step.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._end: EarlyEnd | None = None  # step 0: the one that ends next
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
        self._ask(paused=False, end=EarlyEnd(step, by_rule=False))

    def stop_by_rule(self) -> None:
        """As `stop`, for the user's rule. What a person asks comes first: a run that pauses waits before it ends."""
        with self._changed:
            if self._end is None:
                self._end, self.is_waiting = EarlyEnd(0, by_rule=True), True

    def _ask(self, *, paused: bool, end: EarlyEnd | None = None) -> None:
        with self._changed:
            self.paused = paused
            self._end = end or self._end
            self.is_waiting = self.paused or self._end is not None
            self._changed.notify_all()

    def obey(self, index: int, check: Callable[[], object], changed: Callable[[bool], object]) -> EarlyEnd | None:
        """Waits while the run pauses. The sampler's thread calls it after a step, if `is_waiting`.

        Args:
            index: number of the step that has ended.
            check: function that raises if the host cancels the run; called every 50 ms.
            changed: function that is called with True when the run waits, and with False when it goes on.

        Returns:
            How the run must end now; None if it goes on.
        """
        with self._changed:
            if self.paused:
                changed(True)
                while self.paused:
                    check()
                    self._changed.wait(POLL_S)
                changed(False)
            end, self._end = self._end, None
            self.is_waiting = False
        return None if end is None else end._replace(step=end.step or index)
