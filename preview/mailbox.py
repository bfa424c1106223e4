"""The queue between the sampler's thread and the worker: the only place where they meet."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar, final


class QueuedItem(Protocol):
    """An item that can wait in a mailbox."""

    @property
    def keep(self) -> bool:
        """Whether it must be delivered, or may be replaced by a newer item."""
        ...


Item = TypeVar("Item", bound=QueuedItem)

# After it has queued a step, the sampler starts its next step and needs the interpreter and the cores. A worker that
# starts at the same time would compete for both. A picture that is 50 ms late looks the same.
MAX_DELAY_S = 0.05
FIRST_IDLE_S = 0.01  # the worker's assumed idle time before the first step


@final
class Mailbox(Generic[Item]):
    """A queue to one worker, in order. Items to keep wait in a bounded queue; of the others only the newest waits.

    The next item replaces a waiting item that is not to be kept, before any work is done on it. `put` of an item to
    keep waits for room, for at most `patience_s` over the whole life of the mailbox. A worker that an item wakes up
    lets the sender continue first, for half of the time that it was idle, at most `max_delay_s`. A worker that is
    behind does not wait, nor does one whose mailbox is closed.

    Args:
        capacity: number of items to keep that may wait.
        patience_s: seconds, over all `put` calls together, that senders may wait.
        max_delay_s: seconds that the worker waits at most before it starts on an item.
        clock: function that returns monotonic seconds.

    Attributes:
        closed: event that is set when no more items are accepted.
    """

    def __init__(
        self,
        *,
        capacity: int = 32,
        patience_s: float = 10.0,
        max_delay_s: float = MAX_DELAY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity, self._patience_s, self._clock = capacity, patience_s, clock
        self._max_delay_s, self._delay_s = max_delay_s, 0.0
        self._waiting: deque[Item] = deque()
        self._changing = threading.Lock()
        self._room = threading.Condition(self._changing)
        # Releasing a lock costs the sampler half of what notifying a condition costs; a busy worker needs neither.
        self._bell, self._asleep = threading.Lock(), False
        self._bell.acquire()
        self.closed = threading.Event()

    def put(self, item: Item) -> bool:
        """Adds an item. Returns False if it was not accepted: the mailbox is closed or stayed full."""
        with self._changing:
            if self.closed.is_set() or (item.keep and not self._wait_for_room()):
                return False
            if self._waiting and not self._waiting[-1].keep:
                self._waiting.pop()
            self._waiting.append(item)
            self._wake()
            return True

    def get(self) -> Item | None:
        """Waits for the next item; None once the mailbox is closed and empty. Only the worker calls it."""
        behind = True
        while True:
            with self._changing:
                if self._waiting:
                    if behind:
                        self._delay_s = 0.0
                    item = self._waiting.popleft()
                    self._room.notify_all()
                    return item
                if self.closed.is_set():
                    return None
                self._asleep = True
            behind, asleep_s = False, self._clock()
            self._bell.acquire()
            self.give_way(self._clock() - asleep_s)

    def give_way(self, idle_s: float = FIRST_IDLE_S) -> None:
        """Lets the sender continue, until the mailbox is closed at the latest. Only the worker calls it."""
        self._delay_s = min(self._max_delay_s, (self._delay_s + idle_s) / 2)
        self.closed.wait(self._delay_s)

    def resize(self, capacity: int) -> None:
        """Changes how many items to keep may wait. Items that wait already stay."""
        with self._changing:
            self._capacity = capacity
            self._room.notify_all()

    def close(self) -> None:
        """Stops accepting items; those that wait are still delivered."""
        with self._changing:
            self.closed.set()
            self._room.notify_all()
            self._wake()

    @property
    def waiting(self) -> int:
        """The number of items that wait."""
        return len(self._waiting)

    def is_done(self) -> bool:
        """Whether it is closed and empty: no item will come any more."""
        return self.closed.is_set() and not self._waiting

    def empty(self) -> list[Item]:
        """Removes and returns all waiting items."""
        with self._changing:
            undelivered = list(self._waiting)
            self._waiting.clear()
            self._room.notify_all()
            return undelivered

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._bell.release()

    def _newest_may_go(self) -> bool:
        return bool(self._waiting) and not self._waiting[-1].keep

    def _has_room(self) -> bool:
        return len(self._waiting) - self._newest_may_go() < self._capacity

    def _wait_for_room(self) -> bool:
        """Whether there is room, and the mailbox is still open."""
        if not self._has_room():
            began = self._clock()
            self._room.wait_for(lambda: self._has_room() or self.closed.is_set(), timeout=self._patience_s)
            self._patience_s = max(0.0, self._patience_s - (self._clock() - began))
        return not self.closed.is_set() and self._has_room()
