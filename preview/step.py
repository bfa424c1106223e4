"""What a sampler tells of one step."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

Show = Literal["denoised", "noisy"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of a sampler, with the sampler's own tensors: read them now, never keep or write them.

    Args:
        index: counts from 1.
        total: how many steps the sampler says there are; some say it wrongly.
        sigma: the noise level that the sampler's tensors are of; None where the host does not say.
        denoised: the model's estimate of the finished latents, in model space as the sampler lays it out.
        noisy: what the sampler is working on.
        noisy_gain: brings `noisy` to the spread of clean latents; 1 for flow models.
    """

    index: int
    total: int
    sigma: float | None = None
    denoised: Tensor | None = None
    noisy: Tensor | None = None
    noisy_gain: float = 1.0

    def latents(self, show: Show) -> "Latents":
        """What to look at: what is asked for, or the other one where the sampler does not hand that over."""
        if self.denoised is None or (show == "noisy" and self.noisy is not None):
            return Latents(self.noisy, self.noisy_gain, "noisy")
        return Latents(self.denoised, 1.0, "denoised")


class Latents(NamedTuple):
    """One of a step's tensors, with its gain and with which it is."""

    values: Tensor | None
    gain: float
    show: Show
