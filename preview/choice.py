"""A choice among pictures that a host waits for: which items of a batch go on."""

import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from .run_control import POLL_S


@final
class PendingChoice:
    """Waits for a person who chooses pictures, for a limited time.

    Args:
        pictures: JPEG of each item.
        owner: text that stands for the person who may choose.
        place: ids by which a viewer finds the choice, such as `workflow` and `node`.
        limit_s: longest time to wait, in seconds.
        clock: function that returns monotonic seconds.

    Attributes:
        address: unguessable name, the only key to the pictures.
    """

    def __init__(
        self,
        pictures: Sequence[bytes],
        owner: str,
        place: Mapping[str, Any],
        limit_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pictures, self.owner, self.place = tuple(pictures), owner, dict(place)
        self.address = str(uuid.uuid4())
        self._clock, self._end_s = clock, clock() + limit_s
        self._answered = threading.Condition()
        self._chosen: list[int] | None = None

    @property
    def remaining_s(self) -> float:
        """Seconds until the choice is made without an answer."""
        return max(0.0, self._end_s - self._clock())

    def answer(self, chosen: Sequence[int]) -> bool:
        """Chooses items by their index, from 0. Any thread may call it.

        Returns:
            Whether this was the first answer; later ones have no effect.
        """
        with self._answered:
            if self._chosen is not None:
                return False
            self._chosen = sorted(set(chosen))
            self._answered.notify_all()
            return True

    def wait(self, check: Callable[[], object]) -> list[int] | None:
        """Waits for the answer.

        Args:
            check: function that raises if the host cancels; called every 50 ms.

        Returns:
            Indexes of the chosen items, in their order; None if no answer came in time.
        """
        with self._answered:
            while self._chosen is None and self.remaining_s:
                check()
                self._answered.wait(POLL_S)
            return self._chosen

    def facts(self) -> dict[str, Any]:
        """What a viewer needs to show it."""
        return {"choice": self.address, "count": len(self.pictures), "remaining_s": round(self.remaining_s, 1)}


@final
class PendingChoices:
    """The choices that a host waits for."""

    def __init__(self) -> None:
        self._pending: dict[str, PendingChoice] = {}
        self._changing = threading.Lock()

    def add(self, choice: PendingChoice) -> None:
        """Adds a choice."""
        with self._changing:
            self._pending[choice.address] = choice

    def remove(self, choice: PendingChoice) -> None:
        """Removes a choice that is made."""
        with self._changing:
            self._pending.pop(choice.address, None)

    def get(self, address: str) -> PendingChoice | None:
        """The choice at an address; None if there is none, or if it is made."""
        with self._changing:
            return self._pending.get(address)

    def of(self, owner: str, **place: Any) -> list[PendingChoice]:
        """The choices that `owner` may make at a place."""
        with self._changing:
            pending = list(self._pending.values())
        return [each for each in pending if each.owner == owner and place.items() <= each.place.items()]
