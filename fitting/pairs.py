"""Pairs of latents and the pictures they stand for."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoders.files.tensor_file import open_tensors, write_tensors
from ..errors import DecoderFileError, FitError

FORMAT = "safelight.pairs/1"
BATCH = 8
MAX_BYTES = 1 << 36  # 18,000 pictures of 512 px, a byte counted as four

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pairs:
    """Latents with their pictures.

    Args:
        latents: `[N, C, h, w]`, model space, any floating type.
        pixels: `[N, 3, h*s, w*s]` uint8, sRGB.

    Raises:
        FitError: they do not belong together, or there are none.
    """

    latents: Tensor
    pixels: Tensor

    def __post_init__(self) -> None:
        fits = self.latents.ndim == self.pixels.ndim == 4 and self.latents.numel() and self.pixels.shape[1] == 3
        if not fits or len(self.latents) != len(self.pixels):
            raise FitError(
                f"expected latents [N, C, h, w] and as many pictures [N, 3, H, W], "
                f"got {list(self.latents.shape)} and {list(self.pixels.shape)}"
            )
        if not self.latents.is_floating_point() or self.pixels.dtype != torch.uint8:
            raise FitError(
                f"expected latents in floats and pictures in bytes, got {self.latents.dtype} and {self.pixels.dtype}"
            )
        (h, w), (height, width) = self.latents.shape[2:], self.pixels.shape[2:]
        if not height or height % h or width % w or height // h != width // w:
            raise FitError(
                f"expected pictures a whole number of times the size of the latents, got {width}x{height} for {w}x{h}; "
                "take sides that what the VAE shrinks by divides: multiples of 64 suit every one that is known"
            )
        if not torch.isfinite(self.latents).all():
            raise FitError("expected finite latents, got NaN or infinity among them")

    def __len__(self) -> int:
        return len(self.latents)

    def __add__(self, other: "Pairs") -> "Pairs":
        if self.latents.shape[1:] != other.latents.shape[1:] or self.pixels.shape[1:] != other.pixels.shape[1:]:
            raise FitError(
                f"expected pairs of one size, got {list(self.latents.shape[1:])} for {list(self.pixels.shape[1:])} "
                f"and {list(other.latents.shape[1:])} for {list(other.pixels.shape[1:])}"
            )
        return Pairs(torch.cat([self.latents, other.latents]), torch.cat([self.pixels, other.pixels]))

    @property
    def channels(self) -> int:
        return self.latents.shape[1]

    @property
    def downscale(self) -> int:
        """Picture pixels per latent pixel, along one side."""
        return self.pixels.shape[2] // self.latents.shape[2]

    def rgb(self, scale: int, at: slice | Tensor = slice(None)) -> Tensor:
        """The pictures at `scale` times the latents' size, `[n, 3, h*scale, w*scale]` float32 in 0..1, averaged.

        Raises:
            FitError: that is not a whole part of their own size.
        """
        if self.downscale % scale:
            raise FitError(f"expected a scale that {self.downscale} can be divided by, got {scale}")
        rgb = self.pixels[at].float().div_(255.0)
        return F.avg_pool2d(rgb, self.downscale // scale) if scale < self.downscale else rgb

    def save(self, path: Path) -> None:
        """Writes the pairs as safetensors, whole or not at all.

        Raises:
            OSError: they cannot be written.
        """
        write_tensors(path, {"latents": self.latents, "pixels": self.pixels}, {"format": FORMAT})

    @classmethod
    def load(cls, path: Path) -> "Pairs":
        """Reads pairs: safetensors with `latents` and `pixels`.

        Raises:
            FitError: there is no such file, it has none, or they do not belong together.
        """
        try:
            _, tensors = open_tensors(path, what="a file of pairs", max_bytes=MAX_BYTES, mapped=True)
        except DecoderFileError as error:
            raise FitError(f"{error}; expected pairs") from None
        if missing := {"latents", "pixels"} - tensors.keys():
            raise FitError(f"{path}: expected tensors `latents` and `pixels`, {' and '.join(sorted(missing))} missing")
        try:
            return cls(tensors["latents"], tensors["pixels"])
        except FitError as error:
            raise FitError(f"{path}: {error}") from None


@torch.no_grad()
def encode_pairs(encode: Encode, crops: Iterable[np.ndarray], space_channels: int) -> Pairs:
    """Encodes pictures.

    Args:
        encode: rgb `[B, 3, H, W]` in 0..1 to model space latents `[B, C, h, w]`.
        crops: `[H, W, 3]` uint8, all of one size.
        space_channels: C.

    Raises:
        FitError: there is no picture, they differ in size, or the encoder gives values that are not finite or of
            another shape.
    """
    batches: list[Pairs] = []
    first: list[np.ndarray] = []
    stream = iter(crops)
    while batch := list(islice(stream, BATCH)):
        if len(sizes := {crop.shape for crop in (*batch, *first)}) > 1:
            raise FitError(f"expected pictures of one size, got {' and '.join(map(str, sorted(sizes)))}")
        first = batch[:1]
        chosen = torch.from_numpy(np.stack(batch)).movedim(-1, 1).contiguous()
        encoded = encode(chosen.float() / 255.0)
        if encoded.ndim != 4 or encoded.shape[1] != space_channels:
            raise FitError(f"expected latents [B, {space_channels}, h, w] from the encoder, got {list(encoded.shape)}")
        encoded = encoded.cpu().half()
        if not torch.isfinite(encoded).all():
            raise FitError("the encoder gave NaN, infinity or numbers beyond float16; try it in float32")
        batches.append(Pairs(encoded, chosen))  # what does not fit is told of now, not after an hour of encoding
    if not batches:
        raise FitError("expected at least one picture with something in it, got none")
    return Pairs(torch.cat([some.latents for some in batches]), torch.cat([some.pixels for some in batches]))
