"""Ends a run when its picture has stopped moving, by the rule of the user."""

from collections.abc import Callable
from typing import final

from ...errors import SafelightError
from ..picture import DecodedPicture
from ..run import Run
from .base import Delivery, Sink


@final
class StopRule(Sink):
    """Asks the sampler to stop when the picture moved less than a limit for some steps.

    Steps count once one has moved the picture by more: at high noise, before anything can be seen, it hardly moves
    either. Where the change is unknown, as after a change of the decoder, the count begins again.

    Args:
        run: run that may end early.
        below: limit of the change in a step, 0 to 1, see `ChangeMeter`.
        steps: number of steps.
        stop: function that asks the sampler to end after its current step, with the step's estimate as its result.
    """

    name = "the rule to stop"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self, run: Run, below: float, steps: int, stop: Callable[[], object]) -> None:
        self._run, self._stop = run, stop
        self._below, self._steps = below, steps
        self._moved_at: int | None = None  # the last step that moved the picture; None before the first
        self._asked = False

    def show(self, picture: DecodedPicture) -> None:
        """Counts a picture. A picture may be missing: its change is then in that of the next one."""
        if self._asked:
            return
        if picture.change is None:
            self._moved_at = None
        elif picture.change >= self._below:
            self._moved_at = picture.index
        if self._moved_at is None or picture.index - self._moved_at < self._steps or picture.index >= picture.total:
            return
        self._asked = True
        try:
            self._stop()
        except SafelightError as error:
            self._run.note(f"your rule would end this run at step {picture.index}, but it goes on: {error}")
