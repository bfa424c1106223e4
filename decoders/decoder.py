"""A decoder: a net that maps latents to RGB, with its card."""

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

IMAGE_ID_DIGITS = 12  # hexadecimal digits of the hash of an image


@dataclass(frozen=True, kw_only=True)
class Card:
    """The facts about a decoder besides its weights: the metadata of a decoder file.

    Args:
        name: unique name among the available decoders, such as `flux2-affine-comfyui`.
        space: name of the latent space that it decodes; None if the file does not determine it (see `catalogue`).
        kind: name in `registry.KINDS`.
        settings: arguments of the kind's net, besides tensors.
        channels: channels of its latents; None for any number.
        scale: image pixels per latent pixel, along one side.
        parameters: number of weights.
        cost: multiplications per latent pixel.
        latent_space: row of its space, if Safelight has no space of this name; it is stored in the file.
        source: where it was published, or what created it.
        fitted_on: images that it was fitted on, if known.
        image_ids: hashes of the images that it was fitted and chosen on; None if unknown.
        metrics: its scores and their test images, see `ranking`.
        vae: fingerprint of the VAE that it was learned from, empty if unknown; None if it is for each VAE of its space.
        measured: its scores on the user's own pictures, see `measured_scores`. They are not stored in its file.
        recognized: whether only a file's layout and name say what it decodes, so that a trial has to settle it.
        licence: SPDX name, or a sentence.
        notes: further remarks for the user.
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
    image_ids: frozenset[str] | None = field(default=None, repr=False)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    vae: str | None = None
    measured: Mapping[str, Any] = field(default_factory=dict)
    recognized: bool = False
    licence: str | None = None
    notes: str | None = None


@final
class Decoder:
    """A net with its card; `decode` and `frames` run it.

    Args:
        card: facts about the net.
        net: net to run.
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
        """Frames per latent frame; 1 for a decoder that decodes each frame alone."""
        return self.net.stride

    def to(self, device: torch.device | str) -> "Decoder":
        """Moves the weights to `device` and returns the decoder.

        On a CPU the weights are channels last, which saves a third of the time of convolutions. Other devices were not
        measured.
        """
        layout = torch.channels_last if torch.device(device).type == "cpu" else torch.contiguous_format
        self.net.to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
        return self

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes model space `latents` `[B, C, H, W]` to `rgb` `[B, 3, H*scale, W*scale]`.

        The result is sRGB, float32 in 0..1, on the device of `latents`. NaN latents decode to black.

        Raises:
            LatentsError: `latents` is not `[B, C, H, W]` with the channels of the decoder.
            DecoderError: the output of the net is not an image, or finite latents decode only to NaN or infinity.
        """
        self._expect(latents, "[B, {}, H, W]")
        with _in_full_precision(latents):
            return self._visible(self.net(latents.detach().float()), latents)

    def frames(self, latents: Tensor) -> Iterator[Tensor]:
        """Decodes a video, `[B, C, T, H, W]`, and yields one frame as from `decode` at a time, in bounded memory.

        A decoder with `stride` above 1 yields more than T frames.

        Raises:
            LatentsError: `latents` is not `[B, C, T, H, W]` with the channels of the decoder.
            DecoderError: as for `decode`.
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
                f"decoder {self.name} returned {list(rgb.shape)} {rgb.dtype} for latents {list(latents.shape)}, "
                f"expected [{len(latents)}, 3, H, W]; choose another decoder"
            )
        if not math.isfinite(rgb.sum().item()):  # three times as fast as a test of each value
            if not rgb.isfinite().any() and latents.isfinite().all():
                raise DecoderError(
                    f"decoder {self.name} returned no finite number for finite latents; choose another decoder"
                )
            rgb = torch.nan_to_num(rgb, nan=0.0, posinf=1.0, neginf=0.0)
        return rgb.float().clamp(0.0, 1.0)


def _in_full_precision(latents: Tensor) -> AbstractContextManager[object]:
    """Disables the caller's autocast, which would round the image to bfloat16.

    Without autocast it does nothing, because entering the context takes as long as a matrix product.
    """
    device = latents.device.type
    return torch.autocast(device, enabled=False) if _is_autocast_on(device) else nullcontext()


def _is_autocast_on(device: str) -> bool:
    try:
        return torch.is_autocast_enabled(device)
    except TypeError:  # PyTorch before 2.4 answers only for CUDA
        return device in ("cpu", "cuda")
    except RuntimeError:  # a device without autocast
        return False


def to_bytes(rgb: Tensor) -> Tensor:
    """Converts `rgb` `[B, 3, H, W]` in 0..1 to `pixels` `[B, H, W, 3]` uint8, rounded to nearest, on the same device.

    All conversions of floats to bytes use this function.
    """
    pixels = rgb.mul(255.0).round_().to(torch.uint8)
    if pixels.is_contiguous(memory_format=torch.channels_last):
        return pixels.movedim(1, -1)
    return torch.stack(pixels.unbind(1), dim=-1)  # takes two thirds of the time of `movedim` on floats or bytes
