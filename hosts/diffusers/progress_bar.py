"""Wraps a pipeline's progress bar, to learn when a step of its sampling loop is complete and when the loop ends."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol, final


class WatchedLoop(Protocol):
    """The loop of a progress bar; none of its methods may raise."""

    stopped: bool  # whether the loop must end before its next step, if it iterates over the bar

    def advance(self) -> None:
        """Called when a step of the loop is complete."""

    def finish(self, error: BaseException | None) -> None:
        """Called when the loop has ended, with its exception or None. It may be called more than once."""


@final
class WatchedProgressBar:
    """The progress bar of a loop. A pipeline may use it as a context manager, as an iterator, or by its methods.

    Args:
        bar: the pipeline's own bar.
        loop: the loop.
    """

    def __init__(self, bar: Any, loop: WatchedLoop) -> None:
        self._bar, self._loop = bar, loop

    def __enter__(self) -> "WatchedProgressBar":
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        self._loop.finish(error)
        return self._bar.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Any]:
        try:
            for element in self._bar:
                if self._loop.stopped:
                    break
                yield element
                self._loop.advance()
        except GeneratorExit as exit_:  # the loop ended with `break` or an exception
            self._loop.finish(exit_)
            raise
        self._loop.finish(None)

    def __len__(self) -> int:
        return len(self._bar)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bar, name)

    def update(self, *args: Any, **kwargs: Any) -> Any:
        """Moves the bar on."""
        result = self._bar.update(*args, **kwargs)
        self._loop.advance()
        return result

    def close(self) -> None:
        """Closes the bar."""
        self._bar.close()
        self._loop.finish(None)
