"""A real sampling run without a model: the exact denoiser of a few shipped latents.

Its prior is every crop of those latents, each as likely as the next. For that prior the posterior mean of the clean
latents given the noisy ones is known in closed form, so a sampler that follows it goes the way that a perfect model
would: out of the noise first comes a blur of all that is possible, then one picture, then its exact place.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor

from ..decoders.files.shipped import shipped_bytes

LATENTS = "demo-flux2-latents.safetensors"
SPACE = "flux2"
MARGIN = 16  # latent pixels by which a crop is smaller than what it is cut from
SHIFT = 40.0  # of the schedule: pictures this large are decided while there is still almost only noise

Denoise = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class SamplerStep:
    """Before step `index` (from 1): the noisy latents at `sigma` and what the denoiser makes of them."""

    index: int
    sigma: float
    noisy: Tensor
    denoised: Tensor


@final
class ExactDenoiser:
    """The posterior mean of a clean crop, given `x = (1 - sigma) * crop + sigma * noise`.

    Args:
        latents: `[K, C, H, W]`, what crops are cut from.
        size: height and width of a crop.
    """

    def __init__(self, latents: Tensor, size: tuple[int, int]) -> None:
        self._latents = latents
        self._energy = F.conv2d(latents.square().sum(1, keepdim=True), latents.new_ones(1, 1, *size))  # [K, 1, U, V]

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """The denoised latents of `x` `[1, C, h, w]`."""
        if sigma == 0:
            return x
        clean = 1 - sigma
        # |x - clean * crop|², without what all crops share, for every picture and place at once.
        distance = clean**2 * self._energy - 2 * clean * F.conv2d(self._latents, x)
        weights = torch.softmax(-distance.flatten() / (2 * sigma**2), dim=0).view_as(distance)
        # Correlating with the weights adds up the crops, each by its weight.
        mean = F.conv2d(self._latents.transpose(0, 1), weights.transpose(0, 1))
        return mean.transpose(0, 1)


def load_latents() -> Tensor:
    """The shipped FLUX.2 latents `[K, 32, H, W]`, float32."""
    return load(shipped_bytes(LATENTS))["latents"].float()


def schedule(steps: int, shift: float = SHIFT) -> list[float]:
    """`steps + 1` noise levels from 1 to 0, more of them where there is much noise.

    Source: `shift * t / (1 + (shift - 1) * t)`, https://arxiv.org/abs/2403.03206, section 5.3.2.
    """
    return [shift * t / (1 + (shift - 1) * t) for t in (1 - i / steps for i in range(steps + 1))]


def euler(denoise: Denoise, noise: Tensor, sigmas: list[float]) -> Iterator[SamplerStep]:
    """First order: one look at the denoiser a step."""
    x = noise
    for index, (sigma, after) in enumerate(pairwise(sigmas), 1):
        denoised = denoise(x, sigma)
        yield SamplerStep(index, sigma, x, denoised)
        x = x + (x - denoised) / sigma * (after - sigma)


def heun(denoise: Denoise, noise: Tensor, sigmas: list[float]) -> Iterator[SamplerStep]:
    """Second order: a look ahead, then a step along the mean of both slopes.

    Source: https://arxiv.org/abs/2206.00364, algorithm 1.
    """
    x = noise
    for index, (sigma, after) in enumerate(pairwise(sigmas), 1):
        denoised = denoise(x, sigma)
        yield SamplerStep(index, sigma, x, denoised)
        slope = (x - denoised) / sigma
        ahead = x + slope * (after - sigma)
        if after > 0:
            slope = (slope + (ahead - denoise(ahead, after)) / after) / 2
        x = x + slope * (after - sigma)


SAMPLERS = {"euler": euler, "heun": heun}


def sample(steps: int, seed: int, sampler: str = "euler") -> Iterator[SamplerStep]:
    """The demo's run, step by step.

    Args:
        steps: at least 1.
        seed: of the noise.
        sampler: a name in `SAMPLERS`.
    """
    latents = load_latents()
    size = latents.shape[2] - MARGIN, latents.shape[3] - MARGIN
    noise = torch.randn((1, latents.shape[1], *size), generator=torch.Generator().manual_seed(seed))
    yield from SAMPLERS[sampler](ExactDenoiser(latents, size), noise, schedule(steps))
