"""The one place where the sampler's thread and the worker meet."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar, final


class QueuedItem(Protocol):
    """What can wait in a mailbox."""

    @property
    def keep(self) -> bool:
        """Whether it must be delivered, or may be replaced by a newer one."""
        ...


L = TypeVar("L", bound=QueuedItem)

# A sampler that has left a letter begins its next step, with work for Python and for the cores: it would have to ask a
# worker for both, line by line. Nobody sees that a picture comes a twentieth of a second later.
COURTESY_S = 0.05
FIRST_SPARE_S = 0.01  # what a worker is thought to have to spare before there was a step


@final
class Mailbox(Generic[L]):
    """Letters to one worker, in order: those to be kept in a bounded queue, of the others only the newest.

    A waiting letter that need not be kept is replaced by whatever is taken next, before any work is done on it. A
    letter to be kept waits for room, for as long as `patience_s` lasts over the whole life of the mailbox. A worker
    that is woken by a letter lets its sender get on first, for half of the time that it had to spare since the letter
    before, at most for `courtesy_s`; one that is behind does not, nor at the end.

    Args:
        capacity: letters to be kept that may wait.
        patience_s: seconds, over all `put` calls together, that senders may be held up.
        courtesy_s: seconds.
        clock: seconds, monotonic.

    Attributes:
        closed: whether it is.
    """

    def __init__(
        self,
        *,
        capacity: int = 32,
        patience_s: float = 10.0,
        courtesy_s: float = COURTESY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity, self._patience_s, self._clock = capacity, patience_s, clock
        self._max_courtesy_s, self._courtesy_s = courtesy_s, 0.0
        self._waiting: deque[L] = deque()
        self._changing = threading.Lock()
        self._room = threading.Condition(self._changing)
        # Ringing a bell costs the sampler half of what notifying a condition does, and a worker at work needs neither.
        self._bell, self._asleep = threading.Lock(), False
        self._bell.acquire()
        self.closed = threading.Event()

    def put(self, letter: L) -> bool:
        """Leaves a letter. False if it was not taken: the mailbox is closed, or stayed full."""
        with self._changing:
            if self.closed.is_set() or (letter.keep and not self._wait_for_room()):
                return False
            if self._waiting and not self._waiting[-1].keep:
                self._waiting.pop()
            self._waiting.append(letter)
            self._wake()
            return True

    def get(self) -> L | None:
        """Takes the next letter, waiting for one; None once the mailbox is closed and empty. For the one worker."""
        behind = True
        while True:
            with self._changing:
                if self._waiting:
                    if behind:
                        self._courtesy_s = 0.0
                    letter = self._waiting.popleft()
                    self._room.notify_all()
                    return letter
                if self.closed.is_set():
                    return None
                self._asleep = True
            behind, asleep_s = False, self._clock()
            self._bell.acquire()
            self.give_way(self._clock() - asleep_s)

    def give_way(self, slept_s: float = FIRST_SPARE_S) -> None:
        """Lets the sender get on, until the mailbox is closed at the latest. For the one worker, which has slept."""
        self._courtesy_s = min(self._max_courtesy_s, (self._courtesy_s + slept_s) / 2)
        self.closed.wait(self._courtesy_s)

    def close(self) -> None:
        """No more letters are taken; those that wait are still delivered."""
        with self._changing:
            self.closed.set()
            self._room.notify_all()
            self._wake()

    def is_done(self) -> bool:
        """Whether it is closed and empty: no letter will come any more."""
        return self.closed.is_set() and not self._waiting

    def empty(self) -> list[L]:
        """Takes out all letters that wait, undelivered."""
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
        """Whether there is room now, and somebody to use it: the mailbox may be closed meanwhile."""
        if not self._has_room():
            began = self._clock()
            self._room.wait_for(lambda: self._has_room() or self.closed.is_set(), timeout=self._patience_s)
            self._patience_s = max(0.0, self._patience_s - (self._clock() - began))
        return not self.closed.is_set() and self._has_room()
