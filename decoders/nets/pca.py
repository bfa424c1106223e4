"""The first three principal components of the latents, for a space that has no other decoder.

The first component becomes luminance, the next two become color. The components and the value range follow the run
slowly, so that the image does not jump from step to step.
"""

from typing import NamedTuple, final

import torch
from torch import Tensor

from .base import Net

PREVIOUS_STEP_WEIGHT = 0.7  # of the previous step's statistics, in 0..1
LUMINANCE_RANGE_STD = 2.5  # standard deviations of luminance between mid gray and white
MAX_LATENT = 1e6  # normal latents are near 1; larger values of a run that diverges would overflow when squared
MAX_SAMPLED_PIXELS = 16384  # used to find the components; more pixels do not change them

# Luminance and two opposing color axes, orthogonal, as rows: gray; orange to blue; green to magenta.
COLOR_AXES = ((1.0, 1.0, 1.0), (0.6, 0.0, -0.6), (-0.3, 0.6, -0.3))


@final
class PrincipalComponents(Net):
    """Shows principal components as luminance and color. It remembers the last call: use one object per run.

    Args:
        channels: C of the latents; None for any number.
    """

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        self.channels = channels
        self._last: RunningStatistics | None = None

    def forward(self, latents: Tensor) -> Tensor:
        latents = torch.nan_to_num(latents, posinf=0.0, neginf=0.0).clamp(-MAX_LATENT, MAX_LATENT)
        now = self._last = follow(latents, self._last)
        x = torch.einsum("bchw,ck->bkhw", latents - now.mean[:, None, None], now.basis)
        # All three are divided by the same number, so that a weak third component is a faint tint, not noise.
        luminance = (now.basis[:, 0] @ now.covariance @ now.basis[:, 0]).clamp(min=1e-12).sqrt()
        axes = torch.tensor(COLOR_AXES[: x.shape[1]], dtype=x.dtype, device=x.device)
        return torch.einsum("bkhw,kr->brhw", x / (2 * LUMINANCE_RANGE_STD * luminance), axes) + 0.5


class RunningStatistics(NamedTuple):
    """`mean` `[C]` and `covariance` `[C, C]` of the latents so far, and its first components `basis` `[C, 3]`."""

    mean: Tensor
    covariance: Tensor
    basis: Tensor


def follow(latents: Tensor, last: RunningStatistics | None) -> RunningStatistics:
    """Moves the `last` statistics a part of the way to those of `latents` `[B, C, H, W]`."""
    pixels = latents.movedim(1, -1).flatten(0, -2)
    pixels = pixels[:: max(1, len(pixels) // MAX_SAMPLED_PIXELS)]
    mean = pixels.mean(0)
    covariance = (pixels - mean).T @ (pixels - mean) / len(pixels)
    if last is not None:
        mean = torch.lerp(mean, last.mean, PREVIOUS_STEP_WEIGHT)
        covariance = torch.lerp(covariance, last.covariance, PREVIOUS_STEP_WEIGHT)
    basis = torch.linalg.eigh(covariance.cpu().double())[1].flip(1)[:, :3].to(covariance)
    # The sign of an eigenvector is arbitrary: use the sign of the last step, at first the one with a positive sum.
    like = torch.ones_like(basis) if last is None else last.basis
    basis = torch.where((basis * like).sum(0) < 0, -basis, basis)
    if last is not None:
        # Two components of equal variance can swap from one step to the next. An interpolated basis avoids a jump of
        # colors. U Vᵀ is the nearest orthonormal basis to the interpolated one.
        u, _, vt = torch.linalg.svd(
            torch.lerp(basis, last.basis, PREVIOUS_STEP_WEIGHT).cpu().double(), full_matrices=False
        )
        basis = (u @ vt).to(basis)
    return RunningStatistics(mean, covariance, basis)
