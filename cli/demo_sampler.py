"""Samples without a model, with the exact denoiser of a few shipped latents.

The prior is the set of all crops of these latents, each with the same probability. For this prior, the posterior mean
of the clean latents is known in closed form. So the sampler takes the steps that a perfect model would take: first a
blur of all crops, then one of the pictures, then its exact position.
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

DEMO_LATENTS = "demo-flux2-latents.safetensors"
SPACE = "flux2"
CROP_MARGIN = 16  # latent pixels by which a crop is smaller than the latents
SCHEDULE_SHIFT = 40.0  # large: the content of pictures of this size is decided at very high noise levels

Denoise = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class SamplerStep:
    """The state before step `index`, from 1: noisy latents at noise level `sigma`, and the denoiser's estimate."""

    index: int
    sigma: float
    noisy: Tensor
    denoised: Tensor


@final
class ExactDenoiser:
    """The posterior mean of a clean crop, given `x = (1 - sigma) * crop + sigma * noise`.

    Args:
        latents: `[K, C, H, W]`; crops are taken from them.
        size: height and width of a crop, in latent pixels.
    """

    def __init__(self, latents: Tensor, size: tuple[int, int]) -> None:
        self._latents = latents
        self._energy = F.conv2d(latents.square().sum(1, keepdim=True), latents.new_ones(1, 1, *size))  # [K, 1, U, V]

    @torch.no_grad()
    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Returns the denoised latents of `x` `[1, C, h, w]`."""
        if sigma == 0:
            return x
        clean = 1 - sigma
        # |x - clean * crop|² for every crop, without the terms that are equal for all crops.
        distance = clean**2 * self._energy - 2 * clean * F.conv2d(self._latents, x)
        weights = torch.softmax(-distance.flatten() / (2 * sigma**2), dim=0).view_as(distance)
        # The correlation with the weights is the weighted sum of the crops.
        mean = F.conv2d(self._latents.transpose(0, 1), weights.transpose(0, 1))
        return mean.transpose(0, 1)


def load_latents() -> Tensor:
    """Returns the shipped FLUX.2 latents `[K, 32, H, W]`, float32."""
    return load(shipped_bytes(DEMO_LATENTS))["latents"].float()


def schedule(steps: int) -> list[float]:
    """Returns `steps + 1` noise levels from 1 to 0, most of them at high noise.

    Source: `shift * t / (1 + (shift - 1) * t)`, https://arxiv.org/abs/2403.03206, section 5.3.2.
    """
    shift = SCHEDULE_SHIFT
    return [shift * t / (1 + (shift - 1) * t) for t in (1 - i / steps for i in range(steps + 1))]


def euler(denoise: Denoise, noise: Tensor, sigmas: list[float]) -> Iterator[SamplerStep]:
    """Samples with Euler's method: first order, one call of the denoiser per step."""
    x = noise
    for index, (sigma, after) in enumerate(pairwise(sigmas), 1):
        denoised = denoise(x, sigma)
        yield SamplerStep(index, sigma, x, denoised)
        x = x + (x - denoised) / sigma * (after - sigma)


def heun(denoise: Denoise, noise: Tensor, sigmas: list[float]) -> Iterator[SamplerStep]:
    """Samples with Heun's method: second order, a step along the mean of two slopes.

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
    """Yields the steps of the demo's run.

    Args:
        steps: number of steps, at least 1.
        seed: random seed of the noise.
        sampler: name of the sampler, a key of `SAMPLERS`.
    """
    latents = load_latents()
    size = latents.shape[2] - CROP_MARGIN, latents.shape[3] - CROP_MARGIN
    noise = torch.randn((1, latents.shape[1], *size), generator=torch.Generator().manual_seed(seed))
    yield from SAMPLERS[sampler](ExactDenoiser(latents, size), noise, schedule(steps))
