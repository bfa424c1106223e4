"""The VAE-approx net of AUTOMATIC1111's web UI: eight plain convolutions at twice the latent size.

Source: https://github.com/AUTOMATIC1111/stable-diffusion-webui/blob/82a973c04367123ae98bd9abdf80d9eda9b910e2/modules/sd_vae_approx.py
(the architecture; the published files are AGPL-3.0 and are not shipped).
"""

from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from .base import Net

LAYER_WIDTHS = (8, 16, 32, 64, 32, 16, 8, 3)
LAYER_KERNELS = (7, 5, 3, 3, 3, 3, 3, 3)
PADDING = 11  # pixels that the unpadded convolutions remove at each side: 3 + 2 + 6 * 1


@final
class VaeApprox(Net):
    """Upscales twice, pads with zeros, then runs eight unpadded convolutions with leaky ReLU; the output is -1..1.

    Args:
        channels: C of the latents.
    """

    scale = 2

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        sizes = zip((channels, *LAYER_WIDTHS[:-1]), LAYER_WIDTHS, LAYER_KERNELS, strict=True)
        for i, (n_in, n_out, kernel) in enumerate(sizes, 1):
            setattr(self, f"conv{i}", nn.Conv2d(n_in, n_out, kernel))

    @property
    def cost(self) -> int:
        return self.scale**2 * super().cost

    def forward(self, latents: Tensor) -> Tensor:
        x = F.interpolate(latents, scale_factor=2, mode="nearest")
        x = F.pad(x, (PADDING,) * 4)
        for conv in self.children():
            x = F.leaky_relu(conv(x), 0.1)
        return x * 0.5 + 0.5
