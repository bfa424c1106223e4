"""TAEHV and its variants: small video decoders with memory, run frame by frame in bounded memory.

Source: https://github.com/madebyollin/taehv/blob/1f14a56/taehv.py (TAEHV, TAEHV1.5, TAEW2.1, TAEW2.2, TAECVX, TAELTX,
TAEH3, their `super` and wide forms), https://github.com/madebyollin/taem1/blob/main/taem1.py (TAEM1).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import final

import torch
from torch import Tensor, nn

from ..latents.space import MAX_STRIDE
from .base import Net
from .checkerboard import over_checkerboard
from .taesd import LAYERS, Layer, channels_of, conv, growth, scale_of, stack


class MemBlock(nn.Module):
    """Three convolutions over this frame and the previous one, and a skip."""

    def __init__(self, n: int, *, slope: float) -> None:
        super().__init__()
        act = nn.LeakyReLU(slope)
        self.conv = nn.Sequential(conv(2 * n, n), act, conv(n, n), act, conv(n, n))
        self.act = act

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        return self.act(self.conv(torch.cat([x, past], 1)) + x)


class WideMemBlock(nn.Module):
    """The `MemBlock` of the `super` files: one 7x7 per channel, then two 1x1."""

    def __init__(self, n: int) -> None:
        super().__init__()
        wide = nn.Conv2d(2 * n, 2 * n, 7, padding=3, groups=2 * n, bias=False)
        self.conv = nn.Sequential(wide, conv(2 * n, 4 * n, 1), nn.ReLU(), conv(4 * n, n, 1, bias=0))

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        return self.conv(torch.cat([x, past], 1)) + x


class TGrow(nn.Module):
    """Turns one frame into `stride` frames, computed as groups of channels."""

    def __init__(self, n: int, stride: int) -> None:
        super().__init__()
        self.conv = conv(n, n * stride, 1, bias=0)
        self.stride = stride

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        return self.conv(x).chunk(self.stride, 1)


def video_layers(slope: float) -> Mapping[str, Callable[..., nn.Module]]:
    """Returns the constructor of each kind of layer, with activations of this slope below zero."""
    relu = partial(nn.LeakyReLU, slope) if slope else nn.ReLU
    memory = partial(MemBlock, slope=slope)
    return {**LAYERS, "relu": relu, "memory": memory, "wide_memory": WideMemBlock, "grow": TGrow}


@final
class Taehv(Net):
    """Maps model space to 0..1. The first `stride - 1` frames of a video, which lack a past, are left out.

    Args:
        layers: names in `video_layers` and their numbers.
        slope: slope of the activations below zero.
        chunk: latent frames that the VAE encodes as one group; each group starts without a past. 0 for one group.
    """

    def __init__(self, layers: Sequence[Layer], *, slope: float = 0.0, chunk: int = 0) -> None:
        super().__init__()
        if type(chunk) is not int or chunk < 0 or not isinstance(slope, float | int):
            raise ValueError(f"expected a chunk of at least 0 and a slope, got {chunk!r} and {slope!r}")
        self.layers = stack(layers, video_layers(slope))
        self.channels, self.scale, self.chunk = channels_of(layers), scale_of(self.layers), chunk
        self.stride = prod(layer.stride for layer in self.layers if isinstance(layer, TGrow))
        if self.stride > MAX_STRIDE:  # a small file could otherwise request a million frames per latent frame
            raise ValueError(f"expected at most {MAX_STRIDE} frames per latent frame, got {self.stride:,}")

    @property
    def cost(self) -> int:
        total, area, frames = 0, 1, 1
        for layer in self.layers:
            total += area * frames * sum(tensor.numel() for tensor in layer.parameters() if tensor.ndim == 4)
            area *= growth(layer) ** 2
            frames *= layer.stride if isinstance(layer, TGrow) else 1
        return total

    def forward(self, latents: Tensor) -> Tensor:
        """Decodes `[B, C, H, W]` as the first frame of a video."""
        return next(self.frames(latents[:, :, None]))

    def frames(self, latents: Tensor) -> Iterator[Tensor]:
        """Decodes `latents` `[B, C, T, H, W]`, one `rgb` frame `[B, 3, H*scale, W*scale]` at a time."""
        past: dict[int, Tensor] = {}
        decoded = (rgb for frame in latents.unbind(2) for rgb in self._feed(frame, 0, past))
        period = self.chunk * self.stride or latents.shape[2] * self.stride
        for i, rgb in enumerate(decoded):
            if i % period >= self.stride - 1:
                yield over_checkerboard(rgb)

    def _feed(self, x: Tensor, start: int, past: dict[int, Tensor]) -> Iterator[Tensor]:
        """Runs one frame through the layers from `start` on; yields all frames that come out."""
        for i in range(start, len(self.layers)):
            layer = self.layers[i]
            if isinstance(layer, MemBlock | WideMemBlock):
                last = past.get(i)
                past[i] = x
                x = layer(x, torch.zeros_like(x) if last is None else last)
            elif isinstance(layer, TGrow):
                for frame in layer(x):
                    yield from self._feed(frame, i + 1, past)
                return
            else:
                x = layer(x)
        yield x


def taehv(
    channels: int,
    widths: Sequence[int] = (256, 128, 64, 64),
    strides: Sequence[int] = (1, 2, 2),
    *,
    patch: int = 1,
    wide: bool = False,
) -> list[Layer]:
    """Returns the layers of TAEHV, or with `wide` of its `super` form.

    Args:
        channels: C of the latents.
        widths: channels of the stages and of the last layer's input.
        strides: output frames per input frame, for each stage.
        patch: image pixels per output pixel of the last layer, along one side.
        wide: whether the layers have the `super` form.
    """
    head = [("conv", widths[-1], 3 * patch**2), *([("shuffle", patch)] if patch > 1 else [])]
    stages: list[Layer] = []
    for (n, m), stride in zip(pairwise(widths), strides, strict=True):
        if wide:
            enlarge = [("conv", n, 4 * m), ("relu",), ("shuffle", 2), ("grow", m, stride)]
            stages += [*[("wide_memory", n)] * 3, *enlarge]
        else:
            stages += [*[("memory", n)] * 3, ("up",), ("grow", n, stride), ("conv", n, m, 3, 0)]
    if wide:
        return [("conv", channels, widths[0], 1, 0), *stages, *head]
    return [("clamp",), ("conv", channels, widths[0]), ("relu",), *stages, ("relu",), *head]
