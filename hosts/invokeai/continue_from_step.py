"""Continues sampling in InvokeAI from exactly the latents that a step of a saved run began with."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, zeros_like
from torch.nn.functional import pixel_unshuffle

from ...errors import LatentsError, brief
from ...preview.saved_run import SavedRun
from .continued_models import BEGINS, CONTINUED_MODELS, LEVELS, WHY_NOT, ContinuedModel, NodeSchedule
from .x0 import CallerFacts

# Facts of a file of latents.
BASE_MODEL, STEPS, START, SCHEDULER, MASK = "base", "schedule_steps", "denoising_start", "scheduler", "mask"
STEP_INPUTS = ("steps", "num_steps")  # names of the denoise nodes' input
LATENT_SCALE, PATCH = 8, 2  # InvokeAI's nodes count 8 pixels for each latent of all models
LATENTS_NDIM, MAX_STEPS = 4, 100_000  # of a node; more only in an edited file
NO_TIMESTEPS = (
    "its scheduler does not take one timestep for each step, as PNDM does not. Sample with euler, heun, ddim or "
    "another scheduler"
)
NO_SCHEDULE = "its node does not report its schedule, or has no input for latents, as that of Wan videos"


@dataclass(frozen=True, kw_only=True, eq=False)
class InvokeContinuation:
    """What a denoise node of InvokeAI needs to continue from the beginning of a step.

    Args:
        latents: value of its input, `[B, C, H, W]`.
        noise: value of its input; None if it stays empty.
        add_noise: value of its input; None if the node has none.
        denoising_start: value of its input that leaves out the steps before.
        steps: value of its input for the number of steps.
        seed: seed of the run; None if it is unknown.
        size: width and height of the image, in pixels.
    """

    latents: Tensor
    noise: Tensor | None
    add_noise: bool | None
    denoising_start: float
    steps: int
    seed: int | None
    size: tuple[int, int]


def schedule_facts(base: str, node: Any, caller: CallerFacts, total: int) -> dict[str, str]:
    """The facts that the files of latents need, so that a sampler can continue from them.

    Args:
        base: base model.
        node: the denoise node.
        caller: facts about the loop that samples.
        total: number of steps.
    """
    facts, model = {BASE_MODEL: base}, CONTINUED_MODELS.get(base)
    if model is None:
        return facts
    if getattr(node, "denoise_mask", None) is not None:
        return {**facts, MASK: "yes"}
    begins = caller.fractions[:-1] if caller.fractions else None
    if model.noise == "none":
        begins = caller.timesteps and caller.timesteps[:: max(1, round(len(caller.timesteps) / total))]
    found = {
        BEGINS: begins if begins and len(begins) == total else None,
        LEVELS: caller.levels[:-1] if model.noise == "mixed" and caller.levels else None,
        STEPS: next((steps for name in STEP_INPUTS if (steps := getattr(node, name, None)) is not None), None),
        START: getattr(node, START, None),
        SCHEDULER: getattr(node, SCHEDULER, None),
    }
    return facts | {name: json.dumps(value) for name, value in found.items() if value is not None}


def continuation(saved: SavedRun, step: int) -> InvokeContinuation:
    """Returns what the denoise node needs to continue from the beginning of a step.

    Args:
        saved: the run.
        step: number of the step; 0 for the last one that has latents.

    Raises:
        GoneError: there is no such step, or it has no latents.
        LatentsError: no denoise node can continue from these latents.
    """
    held = saved.latents(step or None)
    model = _continued_model(saved, held.facts)
    schedule, first = _schedule(held.facts, model), held.index - 1
    is_begin_known = any(entry.index == held.index and entry.sigma is not None for entry in saved.steps)
    if held.noisy is None or held.denoised is None or not is_begin_known:
        raise LatentsError(
            f"step {held.index}: the sampler did not report the latents that the step begins with; choose a later step"
        )
    found = {BEGINS: schedule.begins, LEVELS: schedule.levels}
    for name in model.needs:
        if first >= len(found[name]):
            raise LatentsError(f"step {held.index}: the run has {len(found[name])} {name}; the folder was edited")
    shape = tuple(held.noisy.shape)
    if len(shape) != LATENTS_NDIM or (model.is_patched and any(side % PATCH for side in shape[-2:])):
        raise LatentsError(f"step {held.index}: latents of shape {shape}; the folder was edited")
    latents, noise = pixel_unshuffle(held.noisy, PATCH) if model.is_patched else held.noisy, None
    if model.noise == "mixed":
        latents, noise = unmixed(latents, schedule.levels[first])
    start = schedule.start if first == 0 else model.start(schedule, first)
    if not 0 <= start <= 1:
        raise LatentsError(f"step {held.index}: begins at {start:g} of a schedule from 0 to 1; the folder was edited")
    seed = saved.manifest["sampler"]["seed"]
    return InvokeContinuation(
        latents=latents,
        noise=noise,
        add_noise=None if model.noise == "none" else model.noise == "mixed",
        denoising_start=start,
        steps=schedule.steps,
        seed=seed if type(seed) is int else None,
        size=(shape[-1] * LATENT_SCALE, shape[-2] * LATENT_SCALE),
    )


def unmixed(latents: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Latents and noise of which a node that always mixes them gets exactly the given latents, in their own dtype.

    The node computes `level * noise + (1 - level) * latents`. The noise alone gives the given latents up to rounding,
    and the latents that are returned correct the rounding error.

    Args:
        latents: of any shape.
        level: noise level, above 0 and at most 1.
    """
    noise = latents / level
    rest = latents - level * noise
    return (zeros_like(latents) if level == 1 else rest / (1 - level)), noise


def _continued_model(saved: SavedRun, facts: Mapping[str, str]) -> ContinuedModel:
    """How the run's node continues.

    Raises:
        LatentsError: it cannot.
    """
    base = facts.get(BASE_MODEL)
    if base is None:
        raise LatentsError(
            f"{saved.title} cannot be continued: its latents do not say how they were sampled, because an older "
            "Safelight or another host saved them; sample again in InvokeAI"
        )
    if base not in CONTINUED_MODELS:
        why = WHY_NOT.get(base, "Safelight does not know how its node begins with latents")
        raise LatentsError(
            f"{saved.title} cannot be continued, it is a run of {brief(base)}: {why}. Sample again from the first step"
        )
    if MASK in facts:
        raise LatentsError(
            f"{saved.title} cannot be continued: it had a denoise mask, and the node needs the latents of the masked "
            "image as its input. Sample again from the first step"
        )
    return CONTINUED_MODELS[base]


def _schedule(facts: Mapping[str, str], model: ContinuedModel) -> NodeSchedule:
    """The schedule of the run's node.

    Raises:
        LatentsError: the node cannot begin in the middle of it, or the folder was edited.
    """
    if not {STEPS, START, *model.needs} <= set(facts):
        why = NO_TIMESTEPS if model.noise == "none" else NO_SCHEDULE
        raise LatentsError(f"no step of this run can be continued: {why}")
    schedule = _read_schedule(facts)
    if model.schedulers and schedule.scheduler is not None and schedule.scheduler not in model.schedulers:
        raise LatentsError(
            f"no step of this run can be continued: InvokeAI's node begins the schedule of {brief(schedule.scheduler)} "
            f"with its first step. Sample with {' or '.join(model.schedulers)}"
        )
    return schedule


def _read_schedule(facts: Mapping[str, str]) -> NodeSchedule:
    """The schedule in the facts of a file, which may come from anywhere.

    Raises:
        LatentsError: the file was edited.
    """
    try:
        schedule = NodeSchedule(
            begins=_numbers(facts.get(BEGINS, "[]")),
            levels=_numbers(facts.get(LEVELS, "[]")),
            steps=int(json.loads(facts[STEPS])),
            start=float(json.loads(facts[START])),
            scheduler=json.loads(facts.get(SCHEDULER, "null")),
        )
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise LatentsError(f"expected timesteps, found {brief(facts.get(BEGINS))}; the folder was edited") from None
    is_possible = 0 <= schedule.start <= 1 and 1 <= schedule.steps <= MAX_STEPS
    if not is_possible or not all(0 < level <= 1 for level in schedule.levels):
        raise LatentsError("expected steps and noise levels; the folder was edited")
    return schedule


def _numbers(text: str) -> list[float]:
    """The finite numbers of a JSON list.

    Raises:
        TypeError, ValueError, OverflowError: it holds something else.
    """
    numbers = [float(number) for number in json.loads(text)]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(text)
    return numbers
