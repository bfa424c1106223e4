"""The interface of a sink: a place where the pictures of a run appear."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from typing import ClassVar, final

from ..picture import DecodedPicture
from ..run import Run, State


class Delivery(Enum):
    """Which pictures a sink must receive, and whether the end of the run waits for it.

    A step that only `NEWEST` sinks want may be replaced by a newer step before it is decoded. What `EVERY_STEP` sinks
    want waits in a bounded queue. Sinks that are not awaited finish on the worker's own time, after the run has ended.
    """

    EVERY_STEP_AWAITED = (True, True)
    NEWEST_AWAITED = (False, True)
    EVERY_STEP = (True, False)
    NEWEST = (False, False)

    @property
    def every_step(self) -> bool:
        """Whether each wanted picture must arrive."""
        return self.value[0]

    @property
    def awaited(self) -> bool:
        """Whether the end of the run waits until the sink is closed."""
        return self.value[1]


class Sink:
    """A place for the pictures of one run. The pipeline's worker opens it, shows it pictures in order and closes it.

    A subclass implements the methods in which it has something to do.

    Attributes:
        name: what the user calls it; notes begin with it.
        delivery: which pictures it must receive. It also orders the sinks: files come before screens.
    """

    name: ClassVar[str]
    delivery: Delivery = Delivery.EVERY_STEP_AWAITED

    def open(self) -> None:
        """Prepares for pictures."""

    def show(self, picture: DecodedPicture) -> None:
        """Takes one picture."""

    def close(self, state: State) -> None:
        """Finishes all pictures; `state` says how the run ended."""


class RunScreen(Sink, ABC):
    """A screen that shows facts about the run, or can stop it."""

    @abstractmethod
    def follow(self, run: Run, stop: Callable[[], object] | None) -> None:
        """Receives the run before it is opened.

        Args:
            run: run that begins.
            stop: function that ends the sampler early; None if the sampler cannot be stopped.
        """


class NoSink(Sink):
    """Shows nothing."""

    name = "nothing"
    delivery = Delivery.NEWEST_AWAITED


@final
class EveryStep(NoSink):
    """Shows nothing, but has every step decoded, for those who read the steps after the run."""

    name = "steps"
    delivery = Delivery.EVERY_STEP
