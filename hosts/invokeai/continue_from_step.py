"""Continues sampling in InvokeAI from exactly the latents that a step of a saved run began with."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...errors import LatentsError, brief
from ...preview.saved_run import SavedRun

# Base models whose denoise node begins with the latents that it gets, if it gets no noise. Most nodes of other models
# add noise to them, or do not report the latents that a step begins with. Z-Image and Wan do neither with `add_noise`
# off, but count `denoising_start` in another way and were not tried. Source: InvokeAI 6.14 `denoise_latents.py`.
CAN_CONTINUE = ("sd-1", "sd-2", "sdxl", "sdxl-refiner")
TRAINED_TIMESTEPS = 1000  # of these models; InvokeAI counts `denoising_start` in them
# Facts of a file of latents.
BASE_MODEL, TIMESTEPS, STEPS, START = "base", "timesteps", "schedule_steps", "denoising_start"


@dataclass(frozen=True, kw_only=True, eq=False)
class InvokeContinuation:
    """What InvokeAI's node Denoise - SD1.5, SDXL needs to continue from the beginning of a step.

    Args:
        latents: `[B, C, H, W]` that the step began with.
        denoising_start: value of its input that leaves out the steps before.
        steps: value of its input `steps`.
        seed: seed of the run; None if it is unknown.
    """

    latents: Tensor
    denoising_start: float
    steps: int
    seed: int | None


def schedule_facts(base: str, node: Any, timesteps: Sequence[float] | None, total: int) -> dict[str, str]:
    """The facts that the files of latents need, so that a sampler can continue from them.

    Args:
        base: base model.
        node: the denoise node.
        timesteps: timestep of each call of the scheduler; None if they are unknown.
        total: number of steps.
    """
    facts = {BASE_MODEL: base}
    if base not in CAN_CONTINUE or not timesteps:
        return facts
    order = round(len(timesteps) / total)  # a scheduler of second order has 2 * total - 1 calls
    of_steps = list(timesteps[:: max(1, order)])
    steps, start = getattr(node, "steps", None), getattr(node, START, None)
    if len(of_steps) == total and steps is not None and start is not None:
        facts |= {TIMESTEPS: json.dumps(of_steps), STEPS: str(steps), START: repr(float(start))}
    return facts


def continuation(saved: SavedRun, step: int) -> InvokeContinuation:
    """Returns what the denoise node needs to continue from the beginning of a step.

    Args:
        saved: the run.
        step: number of the step; 0 for the last one that has latents.

    Raises:
        GoneError: there is no such step, or it has no latents.
        LatentsError: no denoise node can continue from these latents.
    """
    latents = saved.latents(step or None)
    base = latents.facts.get(BASE_MODEL)
    if base is None:
        raise LatentsError(
            f"{saved.title} cannot be continued: its latents do not say how they were sampled, because an older "
            "Safelight or another host saved them; sample again in InvokeAI"
        )
    if base not in CAN_CONTINUE:
        raise LatentsError(
            f"{saved.title} cannot be continued: expected a run of Stable Diffusion 1, 2 or XL, got one of "
            f"{brief(base)}. Most other denoise nodes of InvokeAI add noise to the latents that they begin with, or do "
            "not report those of a step; sample again from the first step"
        )
    is_begin_known = any(entry.index == latents.index and entry.sigma is not None for entry in saved.steps)
    if latents.noisy is None or not is_begin_known:
        raise LatentsError(f"step {latents.index}: the sampler did not report the latents that the step begins with")
    timesteps, steps, start = _schedule(latents.facts)
    first = latents.index - 1
    if first >= len(timesteps):
        raise LatentsError(f"step {latents.index}: the run has {len(timesteps)} timesteps; the folder was edited")
    seed = saved.manifest["sampler"]["seed"]
    return InvokeContinuation(
        latents=latents.noisy,
        denoising_start=start if first == 0 else _start_between(timesteps[first - 1], timesteps[first]),
        steps=steps,
        seed=seed if type(seed) is int else None,
    )


def _schedule(facts: Mapping[str, str]) -> tuple[list[float], int, float]:
    """The timestep of each step, the number of steps of the node, and its `denoising_start`.

    Raises:
        LatentsError: the scheduler has no timestep for each step, or the folder was edited.
    """
    if TIMESTEPS not in facts:
        raise LatentsError(
            "no step of this run can be continued: its scheduler does not take one timestep for each step, as PNDM "
            "does not. Sample with euler, heun, ddim or another scheduler"
        )
    try:
        timesteps = [float(timestep) for timestep in json.loads(facts[TIMESTEPS])]
        steps, start = int(facts[STEPS]), float(facts[START])
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        raise LatentsError(f"expected timesteps, found {brief(facts[TIMESTEPS])}; the folder was edited") from None
    if not all(map(math.isfinite, timesteps)) or not 0 <= start <= 1 or steps < 1:
        raise LatentsError("expected finite timesteps; the folder was edited")
    return timesteps, steps, start


def _start_between(before: float, timestep: float) -> float:
    """The `denoising_start` with which InvokeAI leaves out the steps up to `before`, and takes that at `timestep`.

    InvokeAI leaves out the timesteps that are at least `round(1000 * (1 - denoising_start))`.

    Raises:
        LatentsError: no whole number lies between the two timesteps.
    """
    limit = math.floor(before)
    if not timestep < limit <= TRAINED_TIMESTEPS:
        raise LatentsError(
            f"InvokeAI cannot begin between the timesteps {before:g} and {timestep:g}, because it counts in whole "
            "timesteps; choose another step, or sample with fewer steps"
        )
    return 1 - limit / TRAINED_TIMESTEPS
