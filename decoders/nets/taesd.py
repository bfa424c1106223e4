"""TAESD, TAESDXL, TAESD3, TAEF1, TAEF2 and TAESANA: small convolutional decoders, close to the VAE.

Source: https://github.com/madebyollin/taesd/blob/5cccb12dc72074a4be35680c3b108548a7c69978/taesd.py
"""

from typing import Any, final

import torch
from torch import Tensor, nn

from .base import Net


def conv(n_in: int, n_out: int, **kwargs: Any) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, 3, padding=1, **kwargs)


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    """Three convolutions and a skip; `pooled` adds TAEF2's normalized 1x1 branch before them."""

    def __init__(self, n: int, *, pooled: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv(n, n), nn.ReLU(), conv(n, n), nn.ReLU(), conv(n, n))
        self.fuse = nn.ReLU()
        if pooled:
            self.pool = nn.Sequential(
                nn.Conv2d(n, 4 * n, 1, bias=False),
                nn.GroupNorm(4, 4 * n),
                nn.ReLU(),
                nn.Conv2d(4 * n, n, 1, bias=False),
            )
        self.pooled = pooled

    def forward(self, x: Tensor) -> Tensor:
        if self.pooled:
            x = x + self.pool(x)
        return self.fuse(self.conv(x) + x)


def blocks(n: int, **kwargs: Any) -> list[nn.Module]:
    return [Block(n, **kwargs) for _ in range(3)]


def up(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), conv(n_in, n_out, bias=False)]


def taesd(channels: int, *, pooled: bool = False) -> nn.Sequential:
    """8x: TAESD, TAESDXL (4 channels), TAESD3, TAEF1 (16); with `pooled`, TAEF2 (32)."""
    return nn.Sequential(
        *(Clamp(), conv(channels, 64), nn.ReLU()),
        *(*blocks(64, pooled=pooled), *up(64, 64)),
        *(*blocks(64), *up(64, 64)),
        *(*blocks(64), *up(64, 64)),
        *(Block(64), conv(64, 3)),
    )


def taesana(channels: int) -> nn.Sequential:
    """32x: TAESANA (32 channels)."""
    return nn.Sequential(
        *(Clamp(), conv(channels, 256), nn.ReLU()),
        *(*blocks(256), *up(256, 128)),
        *(*blocks(128), *up(128, 64)),
        *(*blocks(64), *up(64, 64)),
        *(*blocks(64), *up(64, 64)),
        *(*blocks(64), *up(64, 64)),
        *(Block(64), conv(64, 3)),
    )


TAESD_ARCHITECTURES = {
    "taesd": taesd,
    "taef2": lambda channels: taesd(channels, pooled=True),
    "taesana": taesana,
}


@final
class Taesd(Net):
    """Maps model space to 0..1 with one of `TAESD_ARCHITECTURES`.

    Args:
        architecture: name in `TAESD_ARCHITECTURES`.
        channels: C of the latents.
    """

    def __init__(self, architecture: str, channels: int) -> None:
        super().__init__()
        if architecture not in TAESD_ARCHITECTURES:
            raise ValueError(f"expected an architecture among {', '.join(TAESD_ARCHITECTURES)}, got {architecture!r}")
        self.layers = TAESD_ARCHITECTURES[architecture](channels)
        self.channels = channels
        self.scale = 2 ** sum(isinstance(layer, nn.Upsample) for layer in self.layers)

    @property
    def cost(self) -> int:
        total, area = 0, 1
        for layer in self.layers:
            area *= 4 if isinstance(layer, nn.Upsample) else 1
            total += area * sum(tensor.numel() for tensor in layer.parameters() if tensor.ndim == 4)
        return total

    def forward(self, latents: Tensor) -> Tensor:
        return self.layers(latents)
