"""One step of a sampler: its tensors, and the facts that go on with its picture."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

Show = Literal["denoised", "noisy"]


@dataclass(frozen=True, kw_only=True)
class StepInfo:
    """Facts about one step.

    Args:
        index: number of the step, from 1.
        total: number of steps that the sampler reports; some samplers report it wrongly.
        sigma: noise level of the latents; None if unknown.
        show: tensor that the picture shows.
        at_s: seconds from the start of the run to the step.
    """

    index: int
    total: int
    sigma: float | None = None
    show: Show = "denoised"
    at_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step with the sampler's own tensors: copy them during the call, never store or change them.

    Args:
        index: number of the step, from 1.
        total: number of steps that the sampler reports; some samplers report it wrongly.
        sigma: noise level of the tensors; None if the host does not report it.
        denoised: the model's estimate of the finished latents (x0), in model space, in the sampler's layout.
        noisy: latents that the sampler works on (x_t).
        noisy_gain: factor that scales `noisy` to the spread of clean latents; 1 for flow models.
    """

    index: int
    total: int
    sigma: float | None = None
    denoised: Tensor | None = None
    noisy: Tensor | None = None
    noisy_gain: float = 1.0

    def latents(self, show: Show) -> "ShownLatents":
        """Returns the tensor that `show` asks for, or the other one if the sampler does not provide it."""
        if self.denoised is None or (show == "noisy" and self.noisy is not None):
            return ShownLatents(self.noisy, self.noisy_gain, "noisy")
        return ShownLatents(self.denoised, 1.0, "denoised")


class ShownLatents(NamedTuple):
    """One of a step's tensors, the gain to apply to it, and its name."""

    values: Tensor | None
    gain: float
    show: Show
