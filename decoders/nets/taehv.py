"""TAEHV and its variants: small video decoders with memory, run frame by frame in bounded memory.

Source: https://github.com/madebyollin/taehv/blob/1f14a56/taehv.py (TAEHV, TAEHV1.5, TAEW2.1, TAEW2.2, TAECVX, TAELTX,
TAEH3, their `super` and wide forms), https://github.com/madebyollin/taem1/blob/main/taem1.py (TAEM1).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import brief
from ..latents.space import MAX_STRIDE
from .base import Net
from .taesd import Clamp, conv


class MemBlock(nn.Module):
    """Three convolutions over this frame and the previous one, and a skip."""

    def __init__(self, n: int, slope: float) -> None:
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
        self.conv = nn.Sequential(wide, nn.Conv2d(2 * n, 4 * n, 1), nn.ReLU(), nn.Conv2d(4 * n, n, 1, bias=False))

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        return self.conv(torch.cat([x, past], 1)) + x


class TGrow(nn.Module):
    """Turns one frame into `stride` frames, computed as groups of channels."""

    def __init__(self, n: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n, n * stride, 1, bias=False)
        self.stride = stride

    def forward(self, x: Tensor) -> Sequence[Tensor]:
        return self.conv(x).chunk(self.stride, 1)


def taehv(channels: int, widths: Sequence[int], strides: Sequence[int], patch: int, slope: float) -> nn.Sequential:
    """TAEHV: each stage has three `MemBlock`s, doubles the size and multiplies the frames by its stride."""
    act = nn.LeakyReLU(slope)
    stages = (
        (*(MemBlock(n, slope) for _ in range(3)), nn.Upsample(scale_factor=2), TGrow(n, stride), conv(n, m, bias=False))
        for (n, m), stride in zip(pairwise(widths), strides, strict=True)
    )
    first, last = conv(channels, widths[0]), conv(widths[-1], 3 * patch**2)
    return nn.Sequential(Clamp(), first, act, *(layer for stage in stages for layer in stage), act, last)


def taehv_super(channels: int, widths: Sequence[int], strides: Sequence[int], patch: int) -> nn.Sequential:
    """The `super` form: with `WideMemBlock`s, upscaled by a convolution."""
    stages = (
        (*(WideMemBlock(n) for _ in range(3)), conv(n, 4 * m), nn.ReLU(), nn.PixelShuffle(2), TGrow(m, stride))
        for (n, m), stride in zip(pairwise(widths), strides, strict=True)
    )
    first, last = nn.Conv2d(channels, widths[0], 1, bias=False), conv(widths[-1], 3 * patch**2)
    return nn.Sequential(first, *(layer for stage in stages for layer in stage), last)


@final
class Taehv(Net):
    """Maps model space to 0..1. The first `stride - 1` frames of a video, which lack a past, are left out.

    Args:
        channels: C of the latents.
        widths: channels of the three stages and of the last layer's input.
        strides: output frames per input frame, for each stage.
        patch: image pixels per output pixel of the last layer, along one side.
        slope: slope of the activations below zero.
        wide: whether the net has the `super` form.
        chunk: latent frames that the VAE encodes as one group; each group starts without a past. 0 for one group.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int] = (256, 128, 64, 64),
        strides: Sequence[int] = (1, 2, 2),
        *,
        patch: int = 1,
        slope: float = 0.0,
        wide: bool = False,
        chunk: int = 0,
    ) -> None:
        super().__init__()
        if len(strides) != 3 or len(widths) != 4 or any(type(n) is not int or n < 1 for n in (*widths, *strides)):
            raise ValueError(
                f"expected four widths and three strides of at least 1, got {brief(widths)} and {brief(strides)}"
            )
        if prod(strides) > MAX_STRIDE:  # a small file could otherwise request a million frames per latent frame
            raise ValueError(f"expected at most {MAX_STRIDE} frames per latent frame, got {prod(strides):,}")
        if type(patch) is not int or not 1 <= patch <= 8:
            raise ValueError(f"expected a patch of 1 to 8, got {patch!r}")
        if type(chunk) is not int or chunk < 0 or not isinstance(slope, float | int):
            raise ValueError(f"expected a chunk of at least 0 and a slope, got {chunk!r} and {slope!r}")
        self.layers = (
            taehv_super(channels, widths, strides, patch) if wide else taehv(channels, widths, strides, patch, slope)
        )
        self.channels, self.patch, self.chunk = channels, patch, chunk
        self.stride = prod(strides)
        self.scale = 8 * patch

    @property
    def cost(self) -> int:
        total, area, frames = 0, 1, 1
        for layer in self.layers:
            total += area * frames * sum(tensor.numel() for tensor in layer.parameters() if tensor.ndim == 4)
            area *= 4 if isinstance(layer, nn.Upsample | nn.PixelShuffle) else 1
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
                yield F.pixel_shuffle(rgb, self.patch)

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
