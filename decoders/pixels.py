"""Pixel-space models: the latent is the picture."""

from torch import Tensor, nn


class Pixels(nn.Module):
    """Red, green and blue in -1..1, as they are."""

    scale = 1
    channels = 3

    def forward(self, latents: Tensor) -> Tensor:
        return latents * 0.5 + 0.5
