"""The finished latents that a denoise node of InvokeAI believes in, whatever it reports of a step.

Some families report x0, of some the scheduler knows it, and the Euler flow models report only the noisy latents: there
it follows from two states and their noise levels. Neither the scheduler nor the levels are handed to a step callback;
both are local variables of the functions that call it. They are read once, at the first callback, and never written.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import FrameType
from typing import Any, final

import torch
from torch import Tensor

from ..x0 import Believed, between, watch

# Where InvokeAI 5.0 to 6.14 keep a flow model's noise levels, the one in use first.
LEVELS = ("sigmas_sched", "sigmas", "timesteps")
VELOCITY = "noise_pred"  # of the step that was just taken
MAX_FRAMES = 16  # from a callback up to the loop that samples
NODE = "invoke"  # what calls that loop, and knows nothing of it
VIDEO_NDIM = 5

log = logging.getLogger("safelight.invokeai")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What the callers of a step callback know; None where they do not.

    Args:
        scheduler: that the node steps with, or only takes its noise levels from.
        levels: noise levels from 1 to 0, one more than there are steps.
        velocity: what the model predicted at the step before, laid out as the node has it.
    """

    scheduler: Any = None
    levels: list[float] | None = None
    velocity: Tensor | None = None


@final
class Beliefs:
    """x0 of each step of one run.

    Args:
        denoised: whether the node reports x0 itself.
    """

    def __init__(self, *, denoised: bool) -> None:
        self._denoised = denoised
        self._around: Surroundings | None = None
        self._told: Believed | None = None
        self._before: tuple[int, Tensor] | None = None
        self._end = lambda: None

    def of(self, state: Any, frame: FrameType | None) -> Believed:
        """What is believed at `state`, the host's `PipelineIntermediateState`; `frame` is what called its callback."""
        latents: Tensor = state.latents
        if self._denoised:
            return Believed(latents, None)
        first = self._around is None
        around = self._around or self._look_around(frame, state.total_steps)
        told, self._told = self._told, None
        before, self._before = self._before, (state.step, latents)
        if told is not None and told.x0 is not None:
            return Believed(_as_shown(told.x0, latents), told.sigma)
        if state.predicted_original is not None:
            return Believed(state.predicted_original, None)
        if around.levels is None or not 1 <= state.step < len(around.levels):
            return Believed(None, None)
        sigma, after = around.levels[state.step - 1 : state.step + 1]
        if before is not None and before[0] == state.step - 1 and sigma > after:
            return Believed(between(before[1], latents, sigma, after), sigma)
        if first and around.velocity is not None and state.order == 1:
            velocity = _as_shown(around.velocity, latents)
            if velocity.shape == latents.shape:
                return Believed((latents.float() - after * velocity.float()).to(latents.dtype), sigma)
        return Believed(None, sigma)

    def close(self) -> None:
        """Leaves the scheduler as it was."""
        self._end()
        self._before = self._told = None

    def _look_around(self, frame: FrameType | None, total: int) -> Surroundings:
        self._around = Surroundings()  # whatever comes of looking: once
        around = look_around(frame, total)
        if around.scheduler is not None:
            self._end = watch(around.scheduler, self._hear)
        # A first prediction is of use at once or never: it is not kept.
        self._around = Surroundings(scheduler=around.scheduler, levels=around.levels)
        return around

    def _hear(self, believed: Believed) -> None:
        self._told = believed


def look_around(frame: FrameType | None, total: int) -> Surroundings:
    """What `frame` and its callers know of a run of `total` steps."""
    scheduler, levels, velocity = None, None, None
    for known in _variables(frame):
        scheduler = _scheduler(known)
        candidates = (*(known.get(name) for name in LEVELS), getattr(known.get("scheduler"), "sigmas", None))
        levels = next((found for one in candidates if (found := _levels(one, total))), None)
        if scheduler is not None or levels is not None:
            velocity = known[VELOCITY] if isinstance(known.get(VELOCITY), Tensor) else None
            break
    if type(scheduler).__name__ == "FlowMatchLCMScheduler":
        velocity = None  # it adds noise of its own, so a state does not lie on the way from the one before
    return Surroundings(scheduler=scheduler, levels=levels, velocity=velocity)


def _variables(frame: FrameType | None) -> Iterator[Mapping[str, Any]]:
    # No further than need be: before Python 3.13 a frame that was asked for its variables keeps them all alive.
    for _ in range(MAX_FRAMES):
        if frame is None or frame.f_code.co_name == NODE:
            return
        yield frame.f_locals
        frame = frame.f_back


def _scheduler(known: Mapping[str, Any]) -> Any:
    for candidate in (known.get("scheduler"), getattr(known.get("self"), "scheduler", None)):
        if callable(getattr(candidate, "step", None)) and hasattr(candidate, "timesteps"):
            return candidate
    return None


def _levels(candidate: Any, total: int) -> list[float] | None:
    """`candidate` as noise levels, if that is what it is: one more than steps, from at most 1 down to at least 0."""
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
    """Of a video's `latents` `[B, C, T, H, W]` the frame in the middle, if that is all that `like` has."""
    if latents.ndim == VIDEO_NDIM and like.ndim == VIDEO_NDIM - 1:
        return latents[:, :, latents.shape[2] // 2]
    return latents


def caller(depth: int) -> FrameType | None:
    """The frame `depth` calls above the function that asks; None where Python has no frames."""
    try:
        return sys._getframe(depth + 1)  # noqa: SLF001, what inspect.currentframe is made of
    except (AttributeError, ValueError):
        return None


def with_batch(latents: Tensor) -> Tensor:
    """FLUX reports `[C, H, W]`."""
    return latents.unsqueeze(0) if latents.ndim == 3 else latents


def stands_for(shape: torch.Size) -> Tensor:
    """A tensor of this shape without values."""
    return torch.empty(shape, device="meta")
