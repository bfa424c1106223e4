"""The finished latents that a denoise node of InvokeAI believes in, whatever it reports of a step.

Some families report x0, of some the scheduler knows it, and the Euler flow models report only the noisy latents: there
it follows from two states and their noise levels. States are often of half precision, and what they were rounded by
counts as many times as a step is smaller than the noise that is left: where the model's own prediction explains the
step, x0 is taken from that. Neither scheduler nor levels nor prediction are handed to a step callback; they are local
variables of the functions that call it, which are read and never written.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any, final

import torch
from torch import Tensor

from ..x0 import X0Estimate, between, watch

# Where InvokeAI 5.0 to 6.14 keep a flow model's noise levels, the one in use first.
LEVELS = ("sigmas_sched", "sigmas", "timesteps")
VELOCITY = "noise_pred"  # of the step that was just taken
ROUNDING = 1e-5  # of sums in float32, beside their largest part, with room to spare
MAX_FRAMES = 16  # from a callback up to the loop that samples
NODE = "invoke"  # what calls that loop, and knows nothing of it
VIDEO_NDIM = 5
PACKED_NDIM = 3  # of Qwen-Image: patches of 2x2 in a row

log = logging.getLogger("safelight.invokeai")


@dataclass(frozen=True, kw_only=True)
class CallerFacts:
    """What the callers of a step callback know; None where they do not.

    Args:
        scheduler: that the node steps with, or only takes its noise levels from.
        levels: noise levels from 1 to 0, one more than there are steps.
        loop: the code that knows what the model predicted; its frame is not kept, it would keep everything alive.
    """

    scheduler: Any = None
    levels: list[float] | None = None
    loop: CodeType | None = None


@final
class X0Estimates:
    """x0 of each step of one run.

    Args:
        denoised: whether the node reports x0 itself.
    """

    def __init__(self, *, denoised: bool) -> None:
        self._denoised = denoised
        self._around: CallerFacts | None = None
        self._told: X0Estimate | None = None
        self._before: tuple[int, Tensor] | None = None
        self._end = lambda: None

    def of(self, state: Any, frame: FrameType | None) -> X0Estimate:
        """What is believed at `state`, the host's `PipelineIntermediateState`; `frame` is what called its callback."""
        latents: Tensor = state.latents
        if self._denoised:
            return X0Estimate(latents, None)
        around = self._around or self._look_around(frame, state.total_steps)
        told, self._told = self._told, None
        before, self._before = self._before, (state.step, latents)
        if told is not None and told.x0 is not None:
            return X0Estimate(_as_shown(told.x0, latents), told.sigma)
        if state.predicted_original is not None:
            return X0Estimate(state.predicted_original, None)
        if around.levels is None or not 1 <= state.step < len(around.levels):
            return X0Estimate(None, None)
        sigma, after = around.levels[state.step - 1 : state.step + 1]
        velocity = _velocity(frame, around.loop, latents)
        if before is not None and before[0] == state.step - 1 and sigma > after:
            return X0Estimate(of_step(before[1], latents, velocity, sigma, after), sigma)
        if before is None and velocity is not None and state.order == 1:
            return X0Estimate((latents.float() - after * velocity.float()).to(latents.dtype), sigma)
        return X0Estimate(None, sigma)

    def close(self) -> None:
        """Leaves the scheduler as it was."""
        self._end()
        self._before = self._told = None

    def _look_around(self, frame: FrameType | None, total: int) -> CallerFacts:
        self._around = CallerFacts()  # whatever comes of looking: once
        self._around = read_callers(frame, total)
        if self._around.scheduler is not None:
            self._end = watch(self._around.scheduler, self._hear)
        return self._around

    def _hear(self, believed: X0Estimate) -> None:
        self._told = believed


def read_callers(frame: FrameType | None, total: int) -> CallerFacts:
    """What `frame` and its callers know of a run of `total` steps."""
    for one in _callers(frame):
        known = one.f_locals
        scheduler = _scheduler(known)
        candidates = (*(known.get(name) for name in LEVELS), getattr(known.get("scheduler"), "sigmas", None))
        levels = next((found for candidate in candidates if (found := _levels(candidate, total))), None)
        if scheduler is not None or levels is not None:
            # This one adds noise of its own, so a state does not lie on the way from the one before.
            straight = type(scheduler).__name__ != "FlowMatchLCMScheduler"
            return CallerFacts(scheduler=scheduler, levels=levels, loop=one.f_code if straight else None)
    return CallerFacts()


def of_step(before: Tensor, after: Tensor, velocity: Tensor | None, sigma: float, sigma_after: float) -> Tensor:
    """x0 of a step of an Euler sampler of a flow model.

    Args:
        before: the state that the step began with.
        after: that it ended with, of the same shape.
        velocity: what the model predicted, if that is known; taken wherever it leads from `before` to `after`, so not
            where a picture is put over it, as inpainting does.
        sigma: the noise level of `before`, in 0..1.
        sigma_after: of `after`, smaller.
    """
    x0 = between(before, after, sigma, sigma_after)
    if velocity is None:
        return x0
    x, y, v = before.float(), after.float(), velocity.float()
    slack = torch.finfo(after.dtype).eps * y.abs() + ROUNDING * (x.abs() + v.abs())
    explained = (y - x - (sigma_after - sigma) * v).abs() <= slack
    return torch.where(explained, (y - sigma_after * v).to(after.dtype), x0)


def _velocity(frame: FrameType | None, loop: CodeType | None, like: Tensor) -> Tensor | None:
    """What the model predicted at the step that was just taken, laid out as `like`; None where nobody says."""
    known = next((one.f_locals.get(VELOCITY) for one in _callers(frame) if one.f_code is loop), None)
    if not isinstance(known, Tensor):
        return None
    velocity = _as_shown(known, like)
    if velocity.ndim == PACKED_NDIM and like.ndim == PACKED_NDIM + 1:
        batch, channels, height, width = like.shape
        if velocity.shape != (batch, (height // 2) * (width // 2), 4 * channels) or height % 2 or width % 2:
            return None
        patches = velocity.reshape(batch, height // 2, width // 2, channels, 2, 2)
        velocity = patches.permute(0, 3, 1, 4, 2, 5).reshape(like.shape)
    return velocity if velocity.shape == like.shape else None


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    # No further than need be: before Python 3.13 a frame that was asked for its variables keeps them all alive.
    for _ in range(MAX_FRAMES):
        if frame is None or frame.f_code.co_name == NODE:
            return
        yield frame
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


def meta_tensor(shape: torch.Size) -> Tensor:
    """A tensor of this shape without values."""
    return torch.empty(shape, device="meta")
