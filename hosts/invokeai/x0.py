"""Estimates the finished latents (x0) of each step that a denoise node of InvokeAI reports.

Some families report x0, for some the scheduler knows it. The Euler flow models report only noisy latents: x0 follows
from two states and their noise levels. Half-precision states are rounded, and in x0 that error grows with the ratio of
the noise level to the step's length. So where the model's own prediction explains the step, x0 is computed from it.

InvokeAI hands neither the scheduler nor the noise levels nor the prediction to a step callback. They are local
variables of the functions that call it; they are read, never written.

In InvokeAI 6.14, some families that report x0 compute it with the wrong noise level: FLUX and FLUX.2 with a scheduler
use the level before the step for the state after it. With LCM, which adds noise, ERNIE-Image reports no x0 either.
There x0 is computed from the state and the prediction in the loop.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any, NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle

from ...errors import LatentsError
from ..crops import Crops
from ..noise_levels import Tables
from ..x0 import SchedulerCall, X0Estimate, estimate_x0, listen, x0_from_states

# Names under which InvokeAI 5.0 to 6.14 store a flow model's noise levels. The first one that exists is in use.
LEVELS = ("sigmas_sched", "sigmas", "timesteps")
VELOCITY = "noise_pred"  # the model's prediction for the step that was just taken
NOISE = "noise"  # what Z-Image and Anima begin with, where the whole schedule is sampled
# In the loops of FLUX, FLUX.2 and ERNIE-Image: the state after the step, the prediction, and what merges a state with
# the image outside of an inpainting mask. In their callers: the state before the first step. Anima's loop has another
# name for the state.
STATE, PREDICTION, INPAINTING = "img", "pred", "inpaint_extension"
STATES, FIRST_STATES = (STATE, "latents"), ("x", "img")
FRACTIONS = "timesteps"  # of SD3, CogView4 and FLUX: the levels that `denoising_start` is counted in
ROUNDING = 1e-5  # of sums in float32, relative to their largest term, with a margin
# Callers that are searched for the loop that samples. In InvokeAI 5.0 to 6.14 it is at most 6 above a callback:
# closures and the extension manager. The rest is for nodes of other packs.
MAX_FRAMES = 16
NODE = "invoke"  # the function that calls that loop and has none of its variables
VIDEO_NDIM = 5
PART_AXES = (2, 3)  # of height and width in latents `[B, C, H, W]`
PACKED_NDIM = 3  # of Qwen-Image: a sequence of 2x2 patches

log = logging.getLogger("safelight.invokeai")


@dataclass(frozen=True, kw_only=True)
class CallerFacts:
    """What the callers of a step callback know; None if they do not.

    Args:
        scheduler: scheduler that the node steps with, or only takes its noise levels from.
        levels: noise levels from 1 to 0, one more than there are steps.
        timesteps: the scheduler's timestep of each of its calls.
        fractions: levels from 1 to 0 that the node's `denoising_start` is counted in; CogView4's differ from `levels`.
        loop: code that has the model's prediction. Its frame is not stored, it would keep all its variables alive.
        is_straight: whether the state after a step lies on the straight line from the state before it to x0.
        part_schedulers: copies of the scheduler, one for each part of the latents; empty for the usual loop.
    """

    scheduler: Any = None
    part_schedulers: Sequence[Any] = ()
    levels: list[float] | None = None
    timesteps: list[float] | None = None
    fractions: list[float] | None = None
    loop: CodeType | None = None
    is_straight: bool = True


class StepEstimate(NamedTuple):
    """What is known about a step.

    Args:
        x0: estimate of the finished latents; None if unknown.
        sigma: noise level at the start of the step; None if unknown.
        noisy: noisy latents: at the start of the step, or at its end if the start is unknown; None if InvokeAI reports
            none.
        gain: factor that scales `noisy` to the spread of clean latents; None if unknown.
        middle_frame: whether the latents are the middle frame of a video.
    """

    x0: Tensor | None
    sigma: float | None = None
    noisy: Tensor | None = None
    gain: float | None = 1.0
    middle_frame: bool = False


@final
class X0Estimates:
    """Estimates x0 of each step of one run.

    Args:
        denoised: whether the node reports x0 itself.
        needs_x0: whether x0 is needed besides the noise level.
        needs_noisy: whether the noisy latents are needed of a node that reports x0.
    """

    def __init__(self, *, denoised: bool, needs_x0: bool = True, needs_noisy: bool = True) -> None:
        self._denoised, self._needs_x0, self._needs_noisy = denoised, needs_x0, needs_noisy
        self._caller: CallerFacts | None = None  # once a step was estimated
        self._tables = Tables()
        self._scheduler_step: tuple[Tensor, X0Estimate] | None = None  # its sample, and what it estimates
        self._crops: Crops | None = None  # of the parts of this step
        self._before: tuple[int, Tensor] | None = None
        self._stops: list[Callable[[], None]] = []

    def of(self, state: Any, frame: FrameType | None) -> StepEstimate:
        """Returns the estimate for `state`, InvokeAI's `PipelineIntermediateState`.

        Args:
            state: state of the step.
            frame: frame that called the step callback.
        """
        latents: Tensor = state.latents
        if self._denoised:
            return self._of_reported(state, frame)
        facts = self._caller or self._read_callers(frame, state.total_steps)
        scheduler_step, self._scheduler_step = self._scheduler_step, None
        before, self._before = self._before, (state.step, latents)
        crops, self._crops = self._crops, None
        if crops is not None:
            return StepEstimate(crops.x0() if self._needs_x0 else None, crops.sigma, crops.noisy, crops.gain)
        if scheduler_step is not None and (scheduler_step[1].x0 is not None or not self._needs_x0):
            sample, (x0, sigma, gain) = scheduler_step
            is_middle = _is_middle_frame(sample, latents)
            shown = None if x0 is None else _as_shown(x0, latents)
            return StepEstimate(shown, sigma, _as_shown(sample, latents), gain, is_middle)
        if state.predicted_original is not None:
            return StepEstimate(state.predicted_original, noisy=latents, gain=None)
        if facts.levels is None or not 1 <= state.step < len(facts.levels):
            return StepEstimate(None, noisy=latents)
        sigma, after = facts.levels[state.step - 1 : state.step + 1]
        if before is None:
            return _of_first_step(state, frame, facts, sigma, after)
        if before[0] != state.step - 1:
            return StepEstimate(None, sigma, latents)
        if not self._needs_x0 or sigma <= after:
            return StepEstimate(None, sigma, before[1])
        prediction = _prediction(frame, facts.loop) if facts.is_straight else None
        velocity = None if prediction is None else _velocity(prediction, latents)
        return StepEstimate(of_step(before[1], latents, velocity, sigma, after), sigma, before[1])

    @property
    def caller(self) -> CallerFacts:
        """What the loop knows of the run."""
        return self._caller or CallerFacts()

    @property
    def has_noisy(self) -> bool:
        """Whether the noisy latents of the next step are known."""
        return not self._denoised or self._before is not None

    def close(self) -> None:
        """Leaves the scheduler as it was."""
        for stop_listening in self._stops:
            stop_listening()
        self._before = self._scheduler_step = self._crops = None

    def _of_reported(self, state: Any, frame: FrameType | None) -> StepEstimate:
        """The estimate of a step of a node that reports x0."""
        if self._caller is None:
            self._caller = CallerFacts()
            self._caller = read_callers(frame, state.total_steps)
        scheduler, levels = self._caller.scheduler, self._caller.levels
        if scheduler is not None:
            levels = _scheduler_levels(scheduler, state.order, state.total_steps)
        like = with_batch(state.latents)
        loop = self._loop(frame) if scheduler is not None or self._needs_noisy else None
        begin = self._begin(state.step, loop, is_whole=levels is not None and levels[0] == 1)
        noisy = None if begin is None or not self._needs_noisy else _unpacked(_as_shown(begin, like), like)
        if levels is None or not 1 <= state.step < len(levels):
            return StepEstimate(state.latents, noisy=noisy)
        sigma, after = levels[state.step - 1 : state.step + 1]
        x0 = None if scheduler is None else self._x0_of_loop(loop, begin, sigma, after)
        shown = None if x0 is None else _unpacked(x0, like)
        return StepEstimate(state.latents if shown is None else shown, sigma, noisy)

    def _loop(self, frame: FrameType | None) -> FrameType | None:
        """The frame of the loop that samples."""
        return next((caller for caller in _callers(frame) if caller.f_code is self.caller.loop), None)

    def _begin(self, step: int, loop: FrameType | None, *, is_whole: bool) -> Tensor | None:
        """The state before a step, as packed as it is; None if it is unknown. That after it is stored for the next one.

        Args:
            step: number of the step.
            loop: frame of the loop.
            is_whole: whether the run begins with noise alone.
        """
        before, self._before = self._before, None
        variables = {} if loop is None else loop.f_locals
        reached = next((found for name in STATES if isinstance(found := variables.get(name), Tensor)), None)
        if reached is None:
            return None
        self._before = step, reached
        if before is not None and before[0] == step - 1:
            return before[1]
        return _first_state(loop, reached.shape) if step == 1 and is_whole else None

    def _x0_of_loop(self, loop: FrameType | None, begin: Tensor | None, sigma: float, after: float) -> Tensor | None:
        """x0 from the variables of a loop with a scheduler, as packed as they are; None if they are not known.

        Args:
            loop: frame of the loop.
            begin: state before the step; None if unknown.
            sigma: noise level of that state.
            after: noise level after the step.
        """
        variables = {} if loop is None else loop.f_locals
        reached, prediction = variables.get(STATE), variables.get(PREDICTION)
        if not isinstance(reached, Tensor) or not isinstance(prediction, Tensor) or reached.shape != prediction.shape:
            return None
        if self.caller.is_straight:
            x0 = reached.float() - after * prediction.float()
        elif begin is not None:
            x0 = begin.float() - sigma * prediction.float()
        else:
            return None
        inpainting = variables.get(INPAINTING)
        return x0 if inpainting is None else inpainting.merge_intermediate_latents_with_init_latents(x0, 0.0)

    def _read_callers(self, frame: FrameType | None, total: int) -> CallerFacts:
        self._caller = CallerFacts()  # if reading fails, it is not tried again
        self._caller = read_callers(frame, total)
        scheduler, parts = self._caller.scheduler, self._caller.part_schedulers
        if parts:
            self._stops = [listen(part, partial(self._on_part, part)) for part in parts]
        elif scheduler is not None:
            self._stops = [listen(scheduler, partial(self._on_step, scheduler))]
        return self._caller

    def _on_step(self, scheduler: Any, call: SchedulerCall) -> None:
        self._scheduler_step = call.sample, estimate_x0(scheduler, call, self._tables, needs_x0=self._needs_x0)

    def _on_part(self, scheduler: Any, call: SchedulerCall) -> None:
        """Adds a part of the latents, which Tiled Multi-Diffusion samples one after another in each step."""
        try:
            self._add_part(estimate_x0(scheduler, call, self._tables, needs_x0=self._needs_x0), call.sample)
        except Exception:  # must not stop the sampler
            log.debug("a part of a step is not shown", exc_info=True)
            self._crops = None

    def _add_part(self, estimate: X0Estimate, sample: Tensor) -> None:
        if self._before is None:
            return
        whole = self._before[1]
        if self._crops is None:
            self._crops = Crops(whole, PART_AXES, None, estimate.sigma, estimate.gain)
        x0 = estimate.x0 if self._needs_x0 else sample  # without it, only the noisy latents are shown
        if x0 is None or not self._crops.add(sample, x0):
            raise LatentsError("a part is not found in the latents")


def read_callers(frame: FrameType | None, total: int) -> CallerFacts:
    """Returns what `frame` and its callers know of a run of `total` steps."""
    for caller in _callers(frame):
        variables = caller.f_locals
        scheduler = _scheduler(variables)
        candidates = (*(variables.get(name) for name in LEVELS), getattr(variables.get("scheduler"), "sigmas", None))
        levels = next((found for candidate in candidates if (found := _levels(candidate, total))), None)
        if scheduler is not None or levels is not None:
            is_straight = type(scheduler).__name__ != "FlowMatchLCMScheduler"  # which adds noise
            schedules = (variables.get("timesteps"), getattr(scheduler, "timesteps", None))
            timesteps = next((found for each in schedules if (found := _timesteps(each, total))), None)
            parts = _part_schedulers(variables)
            return CallerFacts(
                scheduler=scheduler,
                part_schedulers=parts,
                levels=levels,
                timesteps=timesteps,
                fractions=_levels(variables.get(FRACTIONS), total),
                loop=caller.f_code,
                is_straight=is_straight,
            )
    return CallerFacts()


def _part_schedulers(variables: Mapping[str, Any]) -> Sequence[Any]:
    lists = (value for value in variables.values() if isinstance(value, list) and value)
    return next((found for found in lists if all(map(_is_scheduler, found))), ())


def _timesteps(candidate: Any, total: int) -> list[float] | None:
    return candidate.tolist() if isinstance(candidate, Tensor) and candidate.shape == (total,) else None


def of_step(before: Tensor, after: Tensor, velocity: Tensor | None, sigma: float, sigma_after: float) -> Tensor:
    """Returns x0 of a step of a flow model's Euler sampler.

    Args:
        before: state at the start of the step.
        after: state at its end, of the same shape.
        velocity: the model's prediction, if known. It is used only where it leads from `before` to `after`, so not
            where inpainting puts an image over the state.
        sigma: noise level of `before`, in 0..1.
        sigma_after: noise level of `after`, smaller.
    """
    x0 = x0_from_states(before, after, sigma, sigma_after)
    if velocity is None:
        return x0
    x, y, v = before.float(), after.float(), velocity.float()
    slack = torch.finfo(after.dtype).eps * y.abs() + ROUNDING * (x.abs() + v.abs())
    explained = (y - x - (sigma_after - sigma) * v).abs() <= slack
    return torch.where(explained, (y - sigma_after * v).to(after.dtype), x0)


def _prediction(frame: FrameType | None, loop: CodeType | None) -> Tensor | None:
    """The model's prediction for the step that was just taken; None if unknown."""
    return _variable(frame, loop, VELOCITY)


def _variable(frame: FrameType | None, loop: CodeType | None, name: str) -> Tensor | None:
    """The tensor that the loop has under this name; None if it has none."""
    found = next((caller.f_locals.get(name) for caller in _callers(frame) if caller.f_code is loop), None)
    return found if isinstance(found, Tensor) else None


def _of_first_step(state: Any, frame: FrameType | None, facts: CallerFacts, sigma: float, after: float) -> StepEstimate:
    """The estimate of the first step, if InvokeAI did not report the state before it."""
    latents: Tensor = state.latents
    prediction = _prediction(frame, facts.loop)
    velocity = None if prediction is None else _velocity(prediction, latents)
    if prediction is None or velocity is None:
        return StepEstimate(None, sigma, latents)
    if not facts.is_straight:
        noise = _variable(frame, facts.loop, NOISE)
        if sigma != 1 or noise is None or noise.shape != latents.shape:
            return StepEstimate(None, sigma, latents)
        return StepEstimate((noise.float() - velocity.float()).to(latents.dtype), sigma, noise)
    if state.order > 1:  # the prediction is that of the step's last call, at the level where the step ends
        sigma = after = _second_level(facts.scheduler, after)
    x0 = (latents.float() - after * velocity.float()).to(latents.dtype)
    return StepEstimate(x0, sigma, middle_frame=_is_middle_frame(prediction, latents))


def _velocity(prediction: Tensor, like: Tensor) -> Tensor | None:
    """The prediction in the layout of `like`; None if it does not fit."""
    return _unpacked(_as_shown(prediction, like), like)


def _unpacked(latents: Tensor, like: Tensor) -> Tensor | None:
    """`latents` in the layout `[B, C, H, W]` of `like`; None if they do not fit.

    Args:
        latents: in this layout, or in 2x2 patches: `[B, 4 * C, H / 2, W / 2]`, or a sequence `[B, H * W / 4, 4 * C]`.
        like: latents in the wanted layout.
    """
    if like.ndim == PACKED_NDIM + 1 and latents.shape != like.shape:
        batch, channels, height, width = like.shape
        patches = (batch, 4 * channels, height // 2, width // 2)
        if latents.shape == (batch, patches[2] * patches[3], patches[1]):
            latents = latents.mT.reshape(patches)
        if latents.shape == patches:
            latents = pixel_shuffle(latents, 2)
    return latents if latents.shape == like.shape else None


def _first_state(loop: FrameType | None, shape: torch.Size) -> Tensor | None:
    """The state before the first step of a whole run, from the variables of the loop or of its caller."""
    if loop is None:
        return None
    of_caller = {} if loop.f_back is None else loop.f_back.f_locals
    found = (loop.f_locals.get(NOISE), *(of_caller.get(name) for name in FIRST_STATES))
    return next((each for each in found if isinstance(each, Tensor) and each.shape == shape), None)


def _second_level(scheduler: Any, otherwise: float) -> float:
    """The noise level of the second call of a scheduler; `otherwise` if it is unknown."""
    levels = getattr(scheduler, "sigmas", None)
    return float(levels[1]) if isinstance(levels, Tensor) and len(levels) > 1 else otherwise


def _scheduler_levels(scheduler: Any, order: int, total: int) -> list[float] | None:
    """The noise levels of a scheduler that is called `total` times; None if they are unknown."""
    levels = getattr(scheduler, "sigmas", None)
    if order != 1 or not isinstance(levels, Tensor) or len(levels) - total not in (1, 2):  # FLUX's ends with two zeros
        return None
    return _levels(levels[: total + 1], total)


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    # As few as possible: before Python 3.13, a frame whose variables were read keeps them all alive.
    for _ in range(MAX_FRAMES):
        if frame is None or frame.f_code.co_name == NODE:
            return
        yield frame
        frame = frame.f_back


def _scheduler(variables: Mapping[str, Any]) -> Any:
    for candidate in (variables.get("scheduler"), getattr(variables.get("self"), "scheduler", None)):
        if _is_scheduler(candidate):
            return candidate
    return None


def _is_scheduler(candidate: Any) -> bool:
    return callable(getattr(candidate, "step", None)) and hasattr(candidate, "timesteps")


def _levels(candidate: Any, total: int) -> list[float] | None:
    """`candidate` as noise levels, if it is that: `total + 1` numbers, from at most 1 down to at least 0."""
    if isinstance(candidate, Tensor):
        candidate = candidate.detach().flatten().tolist() if candidate.numel() == total + 1 else None
    if not isinstance(candidate, list | tuple) or len(candidate) != total + 1:
        return None
    try:
        levels = [float(level) for level in candidate]
    except (TypeError, ValueError):
        return None
    falling = all(after <= level for level, after in pairwise(levels))
    return levels if falling and levels[0] <= 1 + 1e-6 and levels[-1] >= 0 else None


def _as_shown(latents: Tensor, like: Tensor) -> Tensor:
    """The middle frame of a video's `latents` `[B, C, T, H, W]`, if `like` is a single frame."""
    if latents.ndim == VIDEO_NDIM and like.ndim == VIDEO_NDIM - 1:
        return latents[:, :, latents.shape[2] // 2]
    return latents


def _is_middle_frame(latents: Tensor, like: Tensor) -> bool:
    """Whether `like` is one frame of a video's `latents`."""
    return latents.ndim == VIDEO_NDIM > like.ndim and latents.shape[2] > 1


def caller(depth: int) -> FrameType | None:
    """The frame `depth` calls above the function that calls this; None if Python has no frames."""
    try:
        return sys._getframe(depth + 1)  # noqa: SLF001, what inspect.currentframe is made of
    except (AttributeError, ValueError):
        return None


def with_batch(latents: Tensor) -> Tensor:
    """Adds the batch axis that FLUX's `[C, H, W]` lacks."""
    return latents.unsqueeze(0) if latents.ndim == 3 else latents


def meta_tensor(shape: torch.Size) -> Tensor:
    """A tensor of this shape without values."""
    return torch.empty(shape, device="meta")
