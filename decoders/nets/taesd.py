"""TAESD and all decoders like it: a list of convolutions, blocks and upscalings, of any width and depth.

Source: https://github.com/madebyollin/taesd/blob/5cccb12dc72074a4be35680c3b108548a7c69978/taesd.py (TAESD, TAESDXL,
TAESD3, TAEF1, TAEF2, TAESANA), and the same file at 401ce45e5c1451c41ccdb92feea99609015822fc (TAEQI2.1).
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, final

import torch
from torch import Tensor, nn

from ...errors import brief
from ..latents.space import MAX_STRIDE
from .base import MAX_LAYERS, Net
from .checkerboard import over_checkerboard

MAX_WIDTH = 1 << 16  # channels of a layer; a decoder file sets them
Layer = Sequence[Any]  # a name in `LAYERS` and whole numbers, such as `("conv", 4, 64)`


def conv(n_in: int, n_out: int, kernel: int = 3, bias: int = 1) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=bool(bias))


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


class Block(nn.Module):
    """Three convolutions and a skip; `pooled` adds TAEF2's normalized 1x1 branch before them."""

    def __init__(self, n_in: int, n_out: int, pooled: int = 0) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv(n_in, n_out), nn.ReLU(), conv(n_out, n_out), nn.ReLU(), conv(n_out, n_out))
        self.skip = conv(n_in, n_out, 1, bias=0) if n_in != n_out else nn.Identity()
        self.fuse = nn.ReLU()
        self.pool = None
        if pooled:
            norm = nn.GroupNorm(4, 4 * n_in)
            self.pool = nn.Sequential(conv(n_in, 4 * n_in, 1, 0), norm, nn.ReLU(), conv(4 * n_in, n_in, 1, 0))

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return self.fuse(self.conv(x) + self.skip(x))


LAYERS: Mapping[str, Callable[..., nn.Module]] = {
    "clamp": Clamp,
    "conv": conv,
    "relu": nn.ReLU,
    "block": Block,
    "up": lambda: nn.Upsample(scale_factor=2),
    "shuffle": nn.PixelShuffle,
}


def stack(layers: Sequence[Layer], kinds: Mapping[str, Callable[..., nn.Module]]) -> nn.Sequential:
    """Creates the layers.

    Args:
        layers: names in `kinds`, each with its whole numbers.
        kinds: constructor of each kind of layer.

    Raises:
        ValueError: there are too many layers, or one of them is invalid.
    """
    if not 0 < len(layers) <= MAX_LAYERS:
        raise ValueError(f"expected 1 to {MAX_LAYERS} layers, got {len(layers):,}")
    for name, *numbers in layers:
        if name not in kinds:
            raise ValueError(f"expected a layer among {', '.join(kinds)}, got {brief(name)}")
        if any(type(n) is not int or n > MAX_WIDTH for n in numbers) or any(n < 1 for n in numbers[:2]):
            raise ValueError(f"expected a layer {name} with numbers of 1 to {MAX_WIDTH:,}, got {brief(numbers)}")
    return nn.Sequential(*(kinds[name](*numbers) for name, *numbers in layers))


def channels_of(layers: Sequence[Layer]) -> int:
    """Returns the channels of the latents: the first number of the first layer that has one."""
    return next((numbers[0] for _, *numbers in layers if numbers), 0)


def growth(layer: nn.Module) -> int:
    """Returns by how many times a layer enlarges the picture, along one side."""
    return layer.upscale_factor if isinstance(layer, nn.PixelShuffle) else 1 + isinstance(layer, nn.Upsample)


def scale_of(layers: nn.Sequential) -> int:
    """Returns image pixels per latent pixel, along one side.

    Raises:
        ValueError: they are more than any VAE has.
    """
    scale = prod(map(growth, layers))
    if scale > MAX_STRIDE:
        raise ValueError(f"expected at most {MAX_STRIDE} image pixels per latent pixel, got {scale:,}")
    return scale


@final
class Taesd(Net):
    """Maps model space to 0..1. Transparent pictures are shown over a checkerboard.

    Args:
        layers: names in `LAYERS` and their numbers, such as those of `taesd`.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = stack(layers, LAYERS)
        self.channels, self.scale = channels_of(layers), scale_of(self.layers)

    @property
    def cost(self) -> int:
        total, area = 0, 1
        for layer in self.layers:
            total += area * sum(tensor.numel() for tensor in layer.parameters() if tensor.ndim == 4)
            area *= growth(layer) ** 2
        return total

    def forward(self, latents: Tensor) -> Tensor:
        return over_checkerboard(self.layers(latents))


def taesd(channels: int, pooled: int = 0) -> list[Layer]:
    """Returns the layers for 8x: TAESD, TAESDXL (4 channels), TAESD3, TAEF1 (16); with `pooled`, TAEF2 (32)."""
    return _between(channels, 64, [*_stage(64, 64, *[1][:pooled]), *_stage(64, 64) * 2], 3)


def taesana(channels: int) -> list[Layer]:
    """Returns the layers for 32x: TAESANA (32 channels)."""
    return _between(channels, 256, [*_stage(256, 128), *_stage(128, 64), *_stage(64, 64) * 3], 3)


def taeqi(channels: int) -> list[Layer]:
    """Returns the layers for 16x with transparency: TAEQI2.1 (64 channels)."""
    stages = [*_stage(256, 128), *_stage(128, 64), *_stage(64, 64)]
    return [*_between(channels, 256, stages, 16), ("shuffle", 2)]


def _stage(n_in: int, n_out: int, *pooled: int) -> list[Layer]:
    return [*[("block", n_in, n_in, *pooled)] * 3, ("up",), ("conv", n_in, n_out, 3, 0)]


def _between(channels: int, width: int, stages: Sequence[Layer], outputs: int) -> list[Layer]:
    return [("clamp",), ("conv", channels, width), ("relu",), *stages, ("block", 64, 64), ("conv", 64, outputs)]
