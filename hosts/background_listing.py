"""Creates a long list in the background, so that a server's loop never waits for it."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar, final

MAX_WAIT_S = 0.05  # that the server waits for a search
MAX_SEARCHING_SHARE = 0.1  # of the time; a folder with 20,000 runs takes seconds
T = TypeVar("T")


@final
class BackgroundListing(Generic[T]):
    """A list that a thread creates again and again, so that the server's loop never creates it.

    The caller waits for a search that is known to be quick. Else it gets the previous list immediately.

    Args:
        search: function that creates the list.
        empty: the list before the first search has ended.
        wait_s: seconds to wait at most.
        clock: function that returns monotonic seconds.
    """

    def __init__(
        self,
        search: Callable[[], T],
        empty: T,
        wait_s: float = MAX_WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._search, self._wait_s, self._clock = search, wait_s, clock
        self._found = empty
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._is_quick = True
        self._next_s = float("-inf")  # when the next search may begin

    def get(self) -> T:
        """The newest list. Starts a search, unless one is running or has just taken long."""
        with self._starting:
            is_searching = self._thread is not None and self._thread.is_alive()
            if not is_searching and self._clock() >= self._next_s:
                self._thread = threading.Thread(target=self._refresh, name="safelight-runs", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None and self._is_quick:
            thread.join(self._wait_s)
            self._is_quick = self._is_quick and not thread.is_alive()
        return self._found

    def _refresh(self) -> None:
        begin_s = self._clock()
        self._found = self._search()
        end_s = self._clock()
        self._is_quick = end_s - begin_s <= self._wait_s
        self._next_s = begin_s + (end_s - begin_s) / MAX_SEARCHING_SHARE
