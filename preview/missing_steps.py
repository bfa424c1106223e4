"""What a run lost, told to its user: once when it begins, and summed up at the end."""

from collections.abc import Sequence
from typing import final

from .run import Run
from .sinks.base import Sink


@final
class MissingSteps:
    """The steps of a run that did not come where they were wanted.

    Args:
        run: is told.

    Attributes:
        missed: the steps that a sink failed to take.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.missed: dict[Sink, list[int]] = {}
        self._lost: dict[str, list[int]] = {}

    def miss(self, sink: Sink, index: int) -> None:
        """Takes down a step that a sink failed to take."""
        self.missed.setdefault(sink, []).append(index)

    def lose(self, index: int, why: str) -> None:
        """Takes down a step that comes to no sink."""
        steps = self._lost.setdefault(why, [])
        if not steps:
            self._run.note(f"step {index} {why}")
        steps.append(index)

    def tell(self) -> None:
        """Sums up."""
        self.tell_what_is_lost()
        for sink, steps in self.missed.items():
            if sink.keeps:
                self._run.note(f"{sink.name}: nothing was kept of {name_steps(steps)}")

    def tell_what_is_lost(self) -> None:
        """Sums up what came to no sink. Any thread may."""
        for why, steps in list(self._lost.items()):
            if len(steps) > 1:
                self._run.note(f"{name_steps(steps)} {why}")


def name_steps(steps: Sequence[int]) -> str:
    """`step 7`, `steps 3-5, 9`: in order, each once."""
    spans: list[list[int]] = []
    for step in sorted(set(steps)):
        if spans and step == spans[-1][-1] + 1:
            spans[-1][1:] = [step]
        else:
            spans.append([step])
    return ("steps " if len(set(steps)) > 1 else "step ") + ", ".join("-".join(map(str, span)) for span in spans)
