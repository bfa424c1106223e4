"""A store in memory that can be away."""

import threading

import pytest
from safelight.errors import StoreError


class StandInStore:
    """Has the method of a store that copies use. Files are written in the order in which they are asked for.

    Attributes:
        files: contents by name.
        order: names in the order of all writes.
        records: contents of all versions of `run.json`.
        away: number of the next writes that fail; `None` for all.
        lasting: whether they fail for good.
        gate: event that a write waits for.
    """

    address = "stand-in://runs"

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.order: list[str] = []
        self.records: list[bytes] = []
        self.away: int | None = 0
        self.lasting = False
        self.tries = 0
        self.gate = threading.Event()
        self.gate.set()
        self.writing = threading.Event()

    def open(self) -> "StandInStore":
        return self

    def write(self, name: str, content: bytes) -> None:
        self.writing.set()
        assert self.gate.wait(60)
        self.tries += 1
        if self.away is None or self.away:
            self.away = None if self.away is None else self.away - 1
            raise StoreError(f"{self.address}: away", is_lasting=self.lasting)
        self.files[name] = content
        self.order.append(name)
        if name == "run.json":
            self.records.append(content)


@pytest.fixture
def stand_in() -> StandInStore:
    return StandInStore()
