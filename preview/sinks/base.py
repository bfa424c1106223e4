"""A sink: a place where pictures of a run appear."""

from abc import ABC, abstractmethod
from typing import ClassVar, final

from ..picture import Picture
from ..run import State


class Sink(ABC):
    """A place for the pictures of one run: opened once, shown pictures in order, closed once.

    All by one thread, the worker of the pipeline, but for what says otherwise.

    Attributes:
        name: what the user calls it.
        keeps: whether every picture it wants must arrive. A screen is content with the newest.
        awaited: whether the end of the run waits for it. What is not comes after what is, on the worker's own time.
    """

    name: ClassVar[str]
    keeps: ClassVar[bool] = True
    awaited: bool = True

    @abstractmethod
    def open(self) -> None:
        """Makes ready for pictures."""

    @abstractmethod
    def show(self, picture: Picture) -> None:
        """Takes one picture.

        Raises:
            StepError: an earlier one, that was still under way, is lost.
        """

    def flush(self) -> None:  # noqa: B027, most have nothing to finish
        """Finishes the pictures that are still under way.

        Raises:
            StepError: one of them was lost; the others are finished by asking again.
        """

    @abstractmethod
    def close(self, state: State) -> None:
        """Finishes; `state` says how the run ended."""

    def unfinished(self) -> list[int]:
        """The steps that were shown and are still under way. Any thread may ask."""
        return []

    def leave(self, state: State) -> None:  # noqa: B027, most have nobody who looks
        """Says to whoever looks that the run ended, where the worker does not come back to close it; waits for nothing.

        By another thread, mostly the sampler's. Should the worker come back after all, `close` is called as always.
        """


@final
class EveryStep(Sink):
    """Shows nothing, and has every step come: for those who look afterwards at what the screen was shown."""

    name = "steps"
    awaited = False

    def open(self) -> None:
        pass

    def show(self, picture: Picture) -> None:
        pass

    def close(self, state: State) -> None:
        pass


@final
class NoSink(Sink):
    """Shows pictures to nobody."""

    name = "nothing"
    keeps = False

    def open(self) -> None:
        pass

    def show(self, picture: Picture) -> None:
        pass

    def close(self, state: State) -> None:
        pass
