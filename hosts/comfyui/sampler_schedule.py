"""Where a run stands in the schedule of its sampler's node."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from comfy.samplers import KSampler
from torch import Tensor

from .facts import Prompt

FULL_DENOISE = 0.9999  # and the host begins at the first step; its own number
MOST_BEFORE = 300  # steps before a run, that are looked for


@dataclass(frozen=True, kw_only=True)
class SamplerSchedule:
    """Where the first step of a run stands in the schedule that a KSampler (Advanced) counts in.

    Args:
        start: steps before it.
        steps: of the whole schedule.
    """

    start: int
    steps: int

    @classmethod
    def of(cls, prompt: Prompt, steps: int) -> "SamplerSchedule | None":
        """As the node says that samples `steps` steps; None where what it says comes from other nodes.

        Source: ComfyUI 0.33 `comfy/samplers.py`, `KSampler.set_steps` and `KSampler.sample`.
        """
        inputs = prompt.graph.get(prompt.node or "", {}).get("inputs", {})
        whole, start, denoise = (inputs.get(name) for name in ("steps", "start_at_step", "denoise"))
        match whole, start, denoise:
            case int(), int(), None:
                return cls(start=start, steps=whole)
            case int(), None, float() | int() if 0 < denoise <= FULL_DENOISE:
                longer = int(whole / denoise)
                return cls(start=max(0, longer - steps), steps=longer)
            case _, None, None | float() | int():
                return cls(start=0, steps=steps)
        return None

    @classmethod
    def found(cls, model: Any, sampler: Mapping[str, Any], sigmas: Tensor) -> "SamplerSchedule":
        """The shortest one that ends in `sigmas`; themselves if none does."""
        steps = len(sigmas) - 1
        name, scheduler = sampler.get("name"), sampler.get("scheduler")
        for longer in range(steps, steps + MOST_BEFORE if scheduler else steps):
            whole = KSampler(model, longer, "cpu", name, scheduler, None, model.model_options).sigmas
            if len(whole) == longer + 1 and torch.equal(whole[-(steps + 1) :], sigmas):
                return cls(start=longer - steps, steps=longer)
        return cls(start=0, steps=steps)
