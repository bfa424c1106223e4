"""Reads the steps of Ideogram 4, whose node signals progress with a picture of its own in place of a step callback.

The loop's variables are read, never written. Source: InvokeAI 6.14 `backend/ideogram4/denoise.py`.
"""

from dataclasses import dataclass
from types import FrameType
from typing import final

from torch import Tensor

from .x0 import CallerFacts, StepEstimate

IDEOGRAM = "ideogram-4"  # InvokeAI's base model
LOOP = "run_ideogram4_denoise"  # the function that samples
PATCH = 2  # a token has 2x2 latent pixels


@dataclass(frozen=True, kw_only=True)
class SignaledState:
    """A step of Ideogram 4, with what Safelight reads of InvokeAI's `PipelineIntermediateState`.

    Args:
        step: number of the step, from 1.
        total_steps: number of steps.
        latents: state after the step, `[1, 128, h, w]` in FLUX.2's order of channels.
        estimate: what is known about the step.
        order: number of calls of the model in a step.
    """

    step: int
    total_steps: int
    latents: Tensor
    estimate: StepEstimate
    order: int = 1


@final
class SignaledEstimates:
    """The estimates of a run of Ideogram 4, in place of `X0Estimates`: each state has its own."""

    caller = CallerFacts()
    has_noisy = True

    def of(self, state: SignaledState, _: FrameType | None) -> StepEstimate:
        """The estimate of a step."""
        return state.estimate

    def close(self) -> None:
        """Does nothing: nothing is listened to."""


def signaled_state(frame: FrameType | None) -> SignaledState | None:
    """The step whose progress a function signals; None if it is not that of Ideogram 4.

    The model counts from noise, at 0, to the image, at 1: `z = t * x0 + (1 - t) * noise`. It predicts `x0 - noise`.

    Args:
        frame: frame of the function, which the loop calls after each step.
    """
    loop = frame.f_back if frame is not None else None
    if frame is None or loop is None or loop.f_code.co_name != LOOP:
        return None
    signal, variables = frame.f_locals, loop.f_locals
    after, velocity = variables["z"], variables["v"]
    begin, end = variables["t_val"], variables["s_val"]
    size = variables["grid_h"], variables["grid_w"]
    x0, before = after + (1 - end) * velocity, after - (end - begin) * velocity
    return SignaledState(
        step=signal["step"],
        total_steps=signal["total"],
        latents=_as_flux2(after, size),
        estimate=StepEstimate(_as_flux2(x0, size), 1 - begin, _as_flux2(before, size)),
    )


def _as_flux2(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Converts tokens `[1, h * w, 128]` to FLUX.2's packed latents `[1, 128, h, w]`.

    The channels of a token are ordered by row, column and channel of a patch, those of FLUX.2 by channel, row and
    column.
    """
    batch, _, channels = tokens.shape
    height, width = size
    patches = tokens.reshape(batch, height, width, PATCH, PATCH, channels // PATCH**2)
    return patches.permute(0, 5, 3, 4, 1, 2).reshape(batch, channels, height, width)
