"""Keeps the newest pictures of a run in memory."""

from collections import deque
from typing import final

from ..picture import DecodedPicture
from ..run import State
from .base import Sink


@final
class InMemory(Sink):
    """Keeps the newest pictures, for notebooks and scripts.

    Args:
        limit: number of pictures to keep.
    """

    name = "memory"

    def __init__(self, limit: int = 100) -> None:
        self.pictures: deque[DecodedPicture] = deque(maxlen=limit)
        self.state: State = "running"

    def show(self, picture: DecodedPicture) -> None:
        self.pictures.append(picture)

    def close(self, state: State) -> None:
        self.state = state
