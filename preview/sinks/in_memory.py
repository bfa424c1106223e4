"""Pictures kept in memory, for notebooks and tests."""

from collections import deque
from typing import final

from ..picture import Picture
from ..run import State
from .base import Sink


@final
class InMemory(Sink):
    """Keeps the newest pictures.

    Args:
        limit: how many.
    """

    name = "memory"

    def __init__(self, limit: int = 100) -> None:
        self.pictures: deque[Picture] = deque(maxlen=limit)
        self.state: State = "running"

    def open(self) -> None:
        pass

    def show(self, picture: Picture) -> None:
        self.pictures.append(picture)

    def close(self, state: State) -> None:
        self.state = state
