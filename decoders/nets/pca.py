"""The first three principal components of the latents, for a space that nothing else decodes.

What varies most becomes luminance, what varies next the two colour axes. The components and the stretch to visible
range follow the run slowly, so that a picture does not jump from step to step.
"""

from typing import NamedTuple, final

import torch
from torch import Tensor

from .base import Net

MOMENTUM = 0.7  # how much of the last step's statistics is kept
SPREAD = 2.5  # standard deviations of luminance between mid grey and white
LIMIT = 1e6  # latents are around 1; the square of what a run that explodes makes would be infinite
PIXELS = 16384  # looked at to find the components; more would not change them

# Luminance and two opposing colour axes, orthogonal, as rows: grey; orange to blue; green to magenta.
AXES = ((1.0, 1.0, 1.0), (0.6, 0.0, -0.6), (-0.3, 0.6, -0.3))


@final
class PrincipalComponents(Net):
    """Principal components as luminance and colour. Remembers the last call: use one object per run.

    Args:
        channels: of the latents; None for any number.
    """

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        self.channels = channels
        self._last: RunningStatistics | None = None

    def forward(self, latents: Tensor) -> Tensor:
        latents = torch.nan_to_num(latents, posinf=0.0, neginf=0.0).clamp(-LIMIT, LIMIT)
        now = self._last = follow(latents, self._last)
        x = torch.einsum("bchw,ck->bkhw", latents - now.mean[:, None, None], now.basis)
        # One stretch for all three keeps their proportion: a weak third component is a faint tint, not confetti.
        luminance = (now.basis[:, 0] @ now.covariance @ now.basis[:, 0]).clamp(min=1e-12).sqrt()
        axes = torch.tensor(AXES[: x.shape[1]], dtype=x.dtype, device=x.device)
        return torch.einsum("bkhw,kr->brhw", x / (2 * SPREAD * luminance), axes) + 0.5


class RunningStatistics(NamedTuple):
    """Of the latents so far: `mean` `[C]`, `covariance` `[C, C]`, and its first components `basis` `[C, 3]`."""

    mean: Tensor
    covariance: Tensor
    basis: Tensor


def follow(latents: Tensor, last: RunningStatistics | None) -> RunningStatistics:
    """The statistics of `latents` `[B, C, H, W]`, moved only part of the way from the `last` ones."""
    pixels = latents.movedim(1, -1).flatten(0, -2)
    pixels = pixels[:: max(1, len(pixels) // PIXELS)]
    mean = pixels.mean(0)
    covariance = (pixels - mean).T @ (pixels - mean) / len(pixels)
    if last is not None:
        mean = torch.lerp(mean, last.mean, MOMENTUM)
        covariance = torch.lerp(covariance, last.covariance, MOMENTUM)
    basis = torch.linalg.eigh(covariance.double().cpu())[1].flip(1)[:, :3].to(covariance)
    # Eigenvectors have no sign: take the last step's, at first the one whose sum is positive.
    like = torch.ones_like(basis) if last is None else last.basis
    basis = torch.where((basis * like).sum(0) < 0, -basis, basis)
    if last is not None:
        # Components that become equally strong trade places at once; turned part of the way, their colours do not.
        # U Vᵀ is the nearest orthonormal basis to the one between.
        u, _, vt = torch.linalg.svd(torch.lerp(basis, last.basis, MOMENTUM).double().cpu(), full_matrices=False)
        basis = (u @ vt).to(basis)
    return RunningStatistics(mean, covariance, basis)
