"""A pipeline's progress bar, which is shown exactly as long as its loop goes on."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, final


@final
class WatchedProgressBar:
    """The bar of a loop, used in any of three ways: as a context, as what is gone through, or by hand.

    Args:
        bar: the pipeline's own.
        end: is told once the loop has ended, and by which exception if there was one; more than once, at times.
        stopped: whether the loop is to end before its next step, where the bar is what it goes through.
    """

    def __init__(self, bar: Any, end: Callable[[BaseException | None], None], stopped: Callable[[], bool]) -> None:
        self._bar, self._end, self._stopped = bar, end, stopped

    def __enter__(self) -> Any:
        return self._bar.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        self._end(error)
        return self._bar.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Any]:
        try:
            for one in self._bar:
                if self._stopped():
                    break
                yield one
        except GeneratorExit as left:  # the loop broke off, or something was raised in it
            self._end(left)
            raise
        self._end(None)

    def __len__(self) -> int:
        return len(self._bar)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bar, name)

    def close(self) -> None:
        self._bar.close()
        self._end(None)
