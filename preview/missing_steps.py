"""The steps of a run that are missing where they were wanted, reported as notes."""

import threading
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, final


class Place(Protocol):
    """A sink, or whatever else saves steps: it has a name for people."""

    name: ClassVar[str]


@final
class MissingSteps:
    """Records which steps did not arrive. The user gets a note at the first one, which the end completes.

    Args:
        note: `Run.note`.
    """

    def __init__(self, note: Callable[..., None]) -> None:
        self._note = note
        self._failed: dict[Place, list[int]] = {}
        self._reasons: dict[Place, str] = {}  # of the first step
        self._lost: dict[str, list[int]] = {}
        self._unfinished: dict[int, None] = {}
        self._changing = threading.Lock()

    def begin(self, index: int) -> None:
        """Records that a step's files are being written."""
        with self._changing:
            self._unfinished[index] = None

    def finish(self, index: int) -> None:
        """Records that a step's files are written or lost."""
        with self._changing:
            self._unfinished.pop(index, None)

    def unfinished(self) -> list[int]:
        """Steps whose files are being written."""
        with self._changing:
            return list(self._unfinished)

    def fail(self, place: Place, index: int, reason: str) -> None:
        """Records a step that `place` failed to save. The first one is noted."""
        with self._changing:
            steps = self._failed.setdefault(place, [])
            steps.append(index)
        if len(steps) == 1:
            self._reasons[place] = reason
            self._note(f"{place.name} failed", reason)

    def lose(self, index: int, why: str) -> None:
        """Records a step that reached no sink."""
        with self._changing:
            steps = self._lost.setdefault(why, [])
            steps.append(index)
        if len(steps) == 1:
            self._note(f"step {index} {why}")

    def summarize(self) -> None:
        """Adds the final notes."""
        self.summarize_lost()
        for place, steps in self._failed.items():
            text = f"{place.name}: nothing was saved of {name_steps(steps)}"
            self._note(text, self._reasons[place], replaces=f"{place.name} failed")

    def summarize_lost(self) -> None:
        """Adds the final notes about steps that reached no sink. Any thread may call it."""
        for why, steps in list(self._lost.items()):
            if len(steps) > 1:
                self._note(f"{name_steps(steps)} {why}", replaces=f"step {steps[0]} {why}")


def name_steps(steps: Sequence[int]) -> str:
    """`step 7`, `steps 3-5, 9`: in order, without repeats."""
    spans: list[list[int]] = []
    for step in sorted(set(steps)):
        if spans and step == spans[-1][-1] + 1:
            spans[-1][1:] = [step]
        else:
            spans.append([step])
    return ("steps " if len(set(steps)) > 1 else "step ") + ", ".join("-".join(map(str, span)) for span in spans)
