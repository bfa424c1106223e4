"""The VAE-approx nets of AUTOMATIC1111's web UI: eight plain convolutions at twice the latent size.

Source: https://github.com/AUTOMATIC1111/stable-diffusion-webui/blob/82a973c04367123ae98bd9abdf80d9eda9b910e2/modules/sd_vae_approx.py
(the architecture; the published files are AGPL-3.0 and do not ship).
"""

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from .base import Net

WIDTHS = (8, 16, 32, 64, 32, 16, 8, 3)
KERNELS = (7, 5, 3, 3, 3, 3, 3, 3)
MARGIN = 11  # what the unpadded convolutions eat: 3 + 2 + 6 * 1


@final
class VaeApprox(Net):
    """Enlarge twice, pad with zeros, eight convolutions without padding, each with a leaky ReLU; -1..1."""

    scale = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        for i, (n_in, n_out, kernel) in enumerate(zip((channels, *WIDTHS[:-1]), WIDTHS, KERNELS, strict=True), 1):
            setattr(self, f"conv{i}", nn.Conv2d(n_in, n_out, kernel))

    @property
    def cost(self) -> int:
        return self.scale**2 * super().cost

    def forward(self, latents: Tensor) -> Tensor:
        x = F.interpolate(latents, scale_factor=2, mode="nearest")
        x = F.pad(x, (MARGIN,) * 4)
        for conv in self.children():
            x = F.leaky_relu(conv(x), 0.1)
        return x * 0.5 + 0.5
