"""A heatmap of latents over time, for audio and other sequences.

Time runs from left to right, channels from top to bottom. Blue is negative, red is positive, dark is near zero.
"""

from typing import final

import torch
from torch import Tensor

from .base import Net

COLOR_RANGE_STD = 2.5  # standard deviations from dark to full color
NEGATIVE_RGB, POSITIVE_RGB = (0.25, 0.55, 1.0), (1.0, 0.45, 0.2)  # full colors, 0..1
MIN_HEATMAP_HEIGHT_PX = 256  # shared by all channels, so that a few channels still give a visible image


@final
class Heatmap(Net):
    """Maps `[B, C, 1, L]` to `[B, 3, C*r, L]`, with r rows per channel.

    Args:
        channels: C of the latents; None for any number.
    """

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, latents: Tensor) -> Tensor:
        x = torch.nan_to_num(latents, posinf=0.0, neginf=0.0).flatten(2)  # [B, C, L]
        x = x / (COLOR_RANGE_STD * x.std(dim=(1, 2), keepdim=True, correction=0).clamp(min=1e-6))
        negative = torch.tensor(NEGATIVE_RGB, dtype=x.dtype, device=x.device)[:, None, None]
        positive = torch.tensor(POSITIVE_RGB, dtype=x.dtype, device=x.device)[:, None, None]
        rgb = x[:, None].clamp(0, 1) * positive + (-x[:, None]).clamp(0, 1) * negative
        return rgb.repeat_interleave(max(1, MIN_HEATMAP_HEIGHT_PX // x.shape[1]), dim=2)
