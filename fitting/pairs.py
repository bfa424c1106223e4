"""Pairs of latents and images."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoders.files.tensor_file import open_tensors, write_tensors
from ..errors import DecoderFileError, FitError
from .image_ids import IMAGE_ID_BYTES, UNKNOWN_IMAGE

PAIRS_FORMAT = "safelight.pairs/1"
IDS_TENSOR = "image_ids"
ENCODE_BATCH = 8
MAX_PAIRS_BYTES = 1 << 36  # 18,000 images of 512 px, each byte counted as four

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Pairs:
    """Latents and their images.

    Args:
        latents: latents `[N, C, h, w]` in model space, any floating type.
        pixels: images `[N, 3, h*s, w*s]` uint8, sRGB.
        image_ids: id of the image that each pair was cut from, see `image_ids`; by default unknown.

    Raises:
        FitError: latents and images do not match, or there are none.
    """

    latents: Tensor
    pixels: Tensor
    image_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        fits = self.latents.ndim == self.pixels.ndim == 4 and self.latents.numel() and self.pixels.shape[1] == 3
        if not fits or len(self.latents) != len(self.pixels):
            raise FitError(
                f"expected latents [N, C, h, w] and as many images [N, 3, H, W], "
                f"got {list(self.latents.shape)} and {list(self.pixels.shape)}"
            )
        if not self.latents.is_floating_point() or self.pixels.dtype != torch.uint8:
            raise FitError(
                f"expected floating point latents and uint8 images, got {self.latents.dtype} and {self.pixels.dtype}"
            )
        (h, w), (height, width) = self.latents.shape[2:], self.pixels.shape[2:]
        if not height or height % h or width % w or height // h != width // w:
            raise FitError(
                f"expected an image size that is a whole multiple of the latent size, got {width}x{height} for "
                f"{w}x{h}; image sides must be divisible by the VAE's downscale factor; multiples of 64 always work"
            )
        if not torch.isfinite(self.latents).all():
            raise FitError("expected finite latents, got NaN or infinity")
        if not self.image_ids:
            object.__setattr__(self, "image_ids", (UNKNOWN_IMAGE,) * len(self))
        if len(self.image_ids) != len(self):
            raise FitError(f"expected an image id for each of {len(self)} pairs, got {len(self.image_ids)}")

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, at: slice) -> "Pairs":
        """Some of the pairs, without a copy."""
        return Pairs(self.latents[at], self.pixels[at], self.image_ids[at])

    def select(self, keeps: Sequence[bool]) -> "Pairs":
        """The pairs for which `keeps` is true; a copy."""
        at = torch.tensor(keeps)
        return Pairs(self.latents[at], self.pixels[at], tuple(compress(self.image_ids, keeps)))

    def one_of_each_image(self, most: int) -> "Pairs":
        """The first pair of each image, up to `most` pairs. Pairs of unknown images count as different ones."""
        keys = [(image, i if image == UNKNOWN_IMAGE else 0) for i, image in enumerate(self.image_ids)]
        first = {keys.index(key) for key in list(dict.fromkeys(keys))[:most]}
        return self.select([i in first for i in range(len(self))])

    def __add__(self, other: "Pairs") -> "Pairs":
        if self.latents.shape[1:] != other.latents.shape[1:] or self.pixels.shape[1:] != other.pixels.shape[1:]:
            raise FitError(
                f"expected pairs of one size, got {list(self.latents.shape[1:])} for {list(self.pixels.shape[1:])} "
                f"and {list(other.latents.shape[1:])} for {list(other.pixels.shape[1:])}"
            )
        latents, pixels = torch.cat([self.latents, other.latents]), torch.cat([self.pixels, other.pixels])
        return Pairs(latents, pixels, self.image_ids + other.image_ids)

    @property
    def channels(self) -> int:
        return self.latents.shape[1]

    @property
    def downscale(self) -> int:
        """Image pixels per latent pixel, along one side."""
        return self.pixels.shape[2] // self.latents.shape[2]

    def rgb(self, scale: int, at: slice | Tensor = slice(None)) -> Tensor:
        """Averages the images to `scale` times the latent size: `[n, 3, h*scale, w*scale]` float32 in 0..1.

        Raises:
            FitError: `scale` does not divide the downscale factor.
        """
        if self.downscale % scale:
            raise FitError(f"expected a scale that divides {self.downscale}, got {scale}")
        rgb = self.pixels[at].float().div_(255.0)
        return F.avg_pool2d(rgb, self.downscale // scale) if scale < self.downscale else rgb

    def save(self, path: Path, **facts: str) -> None:
        """Writes the pairs as safetensors; a failed write leaves the old file.

        Args:
            path: path of the file.
            facts: further texts for the metadata.

        Raises:
            OSError: the file cannot be written.
        """
        ids = torch.frombuffer(bytearray.fromhex("".join(self.image_ids)), dtype=torch.uint8)
        tensors = {"latents": self.latents, "pixels": self.pixels, IDS_TENSOR: ids.view(-1, IMAGE_ID_BYTES)}
        write_tensors(path, tensors, {"format": PAIRS_FORMAT, **facts})

    @classmethod
    def load(cls, path: Path, *, max_bytes: int = MAX_PAIRS_BYTES, mapped: bool = True) -> "Pairs":
        """Reads pairs from safetensors with `latents` and `pixels`, and with `image_ids` if they are known.

        Args:
            path: path of the file.
            max_bytes: limit for the file, and for its tensors with four bytes for each number.
            mapped: whether the file is mapped into memory, because it may be larger than that.

        Raises:
            FitError: the file is missing or too large, holds no pairs, or latents and images do not match.
        """
        try:
            _, tensors = open_tensors(path, label="a file of pairs", max_bytes=max_bytes, mapped=mapped)
        except DecoderFileError as error:
            raise FitError(f"{error}; expected pairs") from None
        if missing := {"latents", "pixels"} - tensors.keys():
            raise FitError(f"{path}: expected tensors `latents` and `pixels`, {' and '.join(sorted(missing))} missing")
        try:
            image_ids = _image_ids(tensors.get(IDS_TENSOR), tensors["latents"])
            return cls(tensors["latents"], tensors["pixels"], image_ids)
        except FitError as error:
            raise FitError(f"{path}: {error}") from None


def _image_ids(tensor: Tensor | None, latents: Tensor) -> tuple[str, ...]:
    if tensor is None:
        return ()
    expected = (*latents.shape[:1], IMAGE_ID_BYTES)
    if tensor.dtype != torch.uint8 or tensor.shape != expected:
        raise FitError(f"expected {IDS_TENSOR} {list(expected)} uint8, got {list(tensor.shape)} {tensor.dtype}")
    return tuple(bytes(row).hex() for row in tensor.tolist())


@torch.no_grad()
def encode_pairs(encode: Encode, crops: Iterable[np.ndarray], space_channels: int) -> Pairs:
    """Encodes crops into pairs.

    Args:
        encode: function from rgb `[B, 3, H, W]` in 0..1 to model space latents `[B, C, h, w]`.
        crops: crops `[H, W, 3]` uint8, all of one size.
        space_channels: number of latent channels C.

    Raises:
        FitError: there are no crops, their sizes differ, or the latents have the wrong shape or are not finite.
    """
    batches: list[Pairs] = []
    first: list[np.ndarray] = []
    stream = iter(crops)
    while batch := list(islice(stream, ENCODE_BATCH)):
        if len(sizes := {crop.shape for crop in (*batch, *first)}) > 1:
            raise FitError(f"expected images of one size, got {' and '.join(map(str, sorted(sizes)))}")
        first = batch[:1]
        pixels = torch.from_numpy(np.stack(batch)).movedim(-1, 1).contiguous()
        latents = encode(pixels.float() / 255.0)
        if latents.ndim != 4 or latents.shape[1] != space_channels:
            raise FitError(f"expected latents [B, {space_channels}, h, w] from the encoder, got {list(latents.shape)}")
        latents = latents.cpu().half()
        if not torch.isfinite(latents).all():
            raise FitError("the encoder gave NaN, infinity or numbers beyond float16; try it in float32")
        batches.append(Pairs(latents, pixels))  # a mismatch is reported now, not after an hour of encoding
    if not batches:
        raise FitError("expected at least one image with some content, got none")
    return Pairs(torch.cat([batch.latents for batch in batches]), torch.cat([batch.pixels for batch in batches]))
