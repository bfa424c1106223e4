"""Counts the steps of a sampler whose node reports every call of the model.

A scheduler of second order calls the model twice in a step, PNDM in its first one. InvokeAI's nodes for Stable
Diffusion and ERNIE-Image call back after each call of the model; its other nodes call back after each step.
"""

from collections.abc import Sequence
from typing import final

# Base models whose nodes call back after each call of the model.
COUNTS_CALLS = {"sd-1", "sd-2", "sdxl", "sdxl-refiner", "ernie-image"}


@final
class StepCount:
    """The steps of one loop.

    Args:
        base: InvokeAI's base model.
        order: number of model calls in a step, as InvokeAI reports it.
        calls: number of callbacks, as InvokeAI reports it.
        timesteps: timestep of each call; None if unknown.
    """

    def __init__(self, base: str, order: int, calls: int, timesteps: Sequence[float] | None = None) -> None:
        first_calls = list(range(1, calls + 1))
        if base in COUNTS_CALLS and order > 1:
            first_calls = first_calls[::order]
        elif base in COUNTS_CALLS and timesteps is not None and len(timesteps) == calls:
            # Of two calls at one level, the second has the better latents. The last call is always a step.
            first_calls = [call for call in first_calls if call == calls or timesteps[call - 1] != timesteps[call]]
        self._numbers = {call: number for number, call in enumerate(first_calls, 1)}
        self._calls = calls

    @property
    def total(self) -> int:
        """Number of steps."""
        return len(self._numbers)

    def number(self, call: int) -> int | None:
        """Number of the step, from 1, that callback `call` shows; None for a further call in the same step."""
        return self._numbers.get(call) if call <= self._calls else call - self._calls + self.total
