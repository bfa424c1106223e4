"""Wraps a pipeline's progress bar, to learn when its sampling loop ends."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, final


@final
class WatchedProgressBar:
    """The progress bar of a loop. A pipeline may use it as a context manager, as an iterator, or by its methods.

    Args:
        bar: the pipeline's own bar.
        on_end: function that is called when the loop has ended, with its exception or None. It may be called more than
            once.
        stopped: function that returns whether the loop must end before its next step, if the loop iterates over the
            bar.
    """

    def __init__(self, bar: Any, on_end: Callable[[BaseException | None], None], stopped: Callable[[], bool]) -> None:
        self._bar, self._on_end, self._stopped = bar, on_end, stopped

    def __enter__(self) -> Any:
        return self._bar.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        self._on_end(error)
        return self._bar.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Any]:
        try:
            for element in self._bar:
                if self._stopped():
                    break
                yield element
        except GeneratorExit as exit_:  # the loop ended with `break` or an exception
            self._on_end(exit_)
            raise
        self._on_end(None)

    def __len__(self) -> int:
        return len(self._bar)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bar, name)

    def close(self) -> None:
        self._bar.close()
        self._on_end(None)
