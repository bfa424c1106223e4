"""The identity decoder for models that sample in pixel space."""

from typing import final

from torch import Tensor

from .base import Net


@final
class Pixels(Net):
    """Maps red, green and blue from -1..1 to 0..1.

    Args:
        channels: 3.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        if channels != 3:
            raise ValueError(f"expected pixels of 3 channels, got {channels}")
        self.channels = channels

    def forward(self, latents: Tensor) -> Tensor:
        return latents * 0.5 + 0.5
