"""Finds the position of a run in the schedule of its sampler's node."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from comfy.samplers import KSampler
from torch import Tensor

from .facts import Prompt
from .graph import inputs_of

FULL_DENOISE = 0.9999  # from this value on, ComfyUI begins at the first step
MAX_STEPS_BEFORE = 300  # in the search for a run's schedule; 30 steps with denoise 0.1 have 270 before them


@dataclass(frozen=True, kw_only=True)
class SamplerSchedule:
    """The position of a run's first step in the schedule of a KSampler (Advanced).

    Args:
        start: number of steps before it.
        steps: number of steps of the whole schedule.
    """

    start: int
    steps: int

    @classmethod
    def of(cls, prompt: Prompt, steps: int) -> "SamplerSchedule | None":
        """The schedule from the inputs of the node that samples `steps` steps; None if they come from other nodes.

        Source: ComfyUI 0.33 `comfy/samplers.py`, `KSampler.set_steps` and `KSampler.sample`.
        """
        inputs = inputs_of(prompt.graph, prompt.node)
        whole, start, denoise = (inputs.get(name) for name in ("steps", "start_at_step", "denoise"))
        match whole, start, denoise:
            case int(), int(), None:
                return cls(start=start, steps=whole)
            case int(), None, float() | int() if 0 < denoise <= FULL_DENOISE:
                total = int(whole / denoise)
                return cls(start=max(0, total - steps), steps=total)
            case _, None, None | float() | int():
                return cls(start=0, steps=steps)
        return None

    @classmethod
    def found(cls, model: Any, sampler: Mapping[str, Any], sigmas: Tensor) -> "SamplerSchedule":
        """The shortest schedule that ends with `sigmas`; `sigmas` alone if there is none."""
        steps = len(sigmas) - 1
        name, scheduler = sampler.get("name"), sampler.get("scheduler")
        for total in range(steps, steps + MAX_STEPS_BEFORE if scheduler else steps):
            whole = KSampler(model, total, "cpu", name, scheduler, None, model.model_options).sigmas
            if len(whole) == total + 1 and torch.equal(whole[-(steps + 1) :], sigmas):
                return cls(start=total - steps, steps=total)
        return cls(start=0, steps=steps)
