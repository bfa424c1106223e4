"""A decoder: latents in, RGB out."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Tensor

from ..errors import DecoderError, LatentsError
from .latents.space import LatentSpace
from .nets.base import Net


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a decoder besides its weights; the metadata of a decoder file.

    Args:
        name: unique among the decoders at hand, such as `flux2-affine-comfyui`.
        space: the name of the latent space it decodes; None where the file cannot say (see `catalogue`).
        kind: a name in `kinds.KINDS`.
        settings: what the kind's `build` needs besides tensors.
        channels: of the latents it takes; None for any number.
        scale: picture pixels it makes per latent pixel, along one side.
        parameters: how many numbers it holds.
        cost: multiplications per latent pixel.
        latent_space: the row of its space, where Safelight has none of that name: it travels with the file.
        source: where it was published, or what made it.
        fitted_on: the pictures it was fitted on, if known.
        metrics: what it scored, on what: see `merit`.
        licence: an SPDX name, or a sentence.
        notes: anything a user should know before trusting it.
    """

    name: str
    space: str | None
    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    channels: int | None = None
    scale: int = 1
    parameters: int = 0
    cost: int = 0
    latent_space: LatentSpace | None = None
    source: str = "unknown"
    fitted_on: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    licence: str | None = None
    notes: str | None = None


@final
class Decoder:
    """A net with its card. `decode` is the only thing anybody calls.

    Args:
        card: what is known of the net.
        net: what it runs.
    """

    def __init__(self, card: Card, net: Net) -> None:
        self.card = card
        self.net = net.eval().requires_grad_(False)

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def scale(self) -> int:
        return self.card.scale

    @property
    def stride(self) -> int:
        """Frames per latent frame; 1 for a decoder that knows no time."""
        return self.net.stride

    def to(self, device: torch.device | str) -> "Decoder":
        """The same decoder with its weights on `device`.

        On a CPU they lie channels last: convolutions then take a third less. Nobody has measured other devices.
        """
        layout = torch.channels_last if torch.device(device).type == "cpu" else torch.contiguous_format
        self.net.to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
        return self

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes model space `latents` `[B, C, H, W]` to `rgb` `[B, 3, H*scale, W*scale]`.

        The result is sRGB, float32 in 0..1, on the device of `latents`. Values that are not numbers come out black; of
        numbers that the net makes nothing but those of, no picture is made.

        Raises:
            LatentsError: `latents` is not `[B, C, H, W]` with the decoder's channel count.
            DecoderError: what the net made is no picture.
        """
        self._expect(latents, "[B, {}, H, W]")
        with _in_full_precision(latents):
            return self._visible(self.net(latents.detach().float()), latents)

    def frames(self, latents: Tensor) -> Iterator[Tensor]:
        """Decodes a video, `[B, C, T, H, W]`: one frame as `decode` gives it after the other, in bounded memory.

        A decoder that knows time makes more than T of them.

        Raises:
            LatentsError: `latents` is not `[B, C, T, H, W]` with the decoder's channel count.
        """
        self._expect(latents, "[B, {}, T, H, W]")
        with _in_full_precision(latents):
            for rgb in self.net.frames(latents.detach().float()):
                yield self._visible(rgb, latents)

    def _expect(self, latents: Tensor, shape: str) -> None:
        channels = self.net.channels
        if latents.ndim != shape.count(",") + 1 or channels not in (None, latents.shape[1]):
            raise LatentsError(
                f"decoder {self.name} expects latents {shape.format(channels or 'C')}, got {list(latents.shape)}; "
                "unpack them with their latent space first, or choose a decoder of that space"
            )

    def _visible(self, rgb: Tensor, latents: Tensor) -> Tensor:
        if rgb.ndim != 4 or rgb.shape[:2] != (len(latents), 3) or not rgb.numel() or rgb.is_complex():
            raise DecoderError(
                f"decoder {self.name} made {list(rgb.shape)} {rgb.dtype} of latents {list(latents.shape)}, "
                f"expected [{len(latents)}, 3, H, W]; choose another"
            )
        if not math.isfinite(rgb.sum().item()):  # of numbers alone it is one: this costs a third of looking at each
            if not rgb.isfinite().any() and latents.isfinite().all():
                raise DecoderError(
                    f"decoder {self.name} made no number of latents that are all numbers; choose another"
                )
            rgb = torch.nan_to_num(rgb, nan=0.0, posinf=1.0, neginf=0.0)
        return rgb.float().clamp(0.0, 1.0)


def _in_full_precision(latents: Tensor) -> AbstractContextManager[object]:
    """Somebody's autocast would round the picture to bfloat16. Switching off what is off takes as long as a product."""
    device = "cuda" if latents.is_cuda else "cpu"
    return torch.autocast(device, enabled=False) if _is_autocast_on(device) else nullcontext()


def _is_autocast_on(device: str) -> bool:
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # PyTorch before 2.4 answers for CUDA alone
        return True


def to_bytes(rgb: Tensor) -> Tensor:
    """`rgb` `[B, 3, H, W]` in 0..1 as `pixels` `[B, H, W, 3]` uint8, rounded to nearest, on the same device.

    Floats become bytes here and nowhere else.
    """
    pixels = rgb.mul(255.0).round_().to(torch.uint8)
    if pixels.is_contiguous(memory_format=torch.channels_last):
        return pixels.movedim(1, -1)
    return torch.stack(pixels.unbind(1), dim=-1)  # takes two thirds of moving floats, or bytes one by one
