"""A readable picture of a latent over time, for audio and other sequences.

Time runs from left to right, channels from top to bottom; blue is negative, red positive, dark is near zero.
"""

from typing import final

import torch
from torch import Tensor

from .base import Net

SPREAD = 2.5  # standard deviations from dark to full colour
NEGATIVE, POSITIVE = (0.25, 0.55, 1.0), (1.0, 0.45, 0.2)  # colours at full strength, 0..1
MIN_HEIGHT_PX = 256  # a channel is at least this share of it tall, so that eight of them can be seen


@final
class Heatmap(Net):
    """`[B, C, 1, L]` to `[B, 3, C*r, L]`, r whole rows per channel.

    Args:
        channels: of the latents; None for any number.
    """

    def __init__(self, channels: int | None = None) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, latents: Tensor) -> Tensor:
        x = torch.nan_to_num(latents, posinf=0.0, neginf=0.0).flatten(2)  # [B, C, L]
        x = x / (SPREAD * x.std(dim=(1, 2), keepdim=True, correction=0).clamp(min=1e-6))
        negative = torch.tensor(NEGATIVE, dtype=x.dtype, device=x.device)[:, None, None]
        positive = torch.tensor(POSITIVE, dtype=x.dtype, device=x.device)[:, None, None]
        rgb = x[:, None].clamp(0, 1) * positive + (-x[:, None]).clamp(0, 1) * negative
        return rgb.repeat_interleave(max(1, MIN_HEIGHT_PX // x.shape[1]), dim=2)
