"""Reads pairs from a folder of latent files and their pictures, as people have them from ComfyUI's Save Latent."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..decoders.latents.space import LatentSpace, Spaces
from ..errors import FitError, LatentsError
from ..fitting.image_crops import IMAGE_SUFFIXES, read_image
from ..fitting.image_ids import image_id
from ..fitting.pairs import Pairs
from ..hosts.latents_input import LATENT_SUFFIXES, HowToRead, read_latents


class CutPair(NamedTuple):
    """A crop of latents `[C, h, w]` with its pixels `[3, H, W]` uint8, and the id of the picture."""

    latents: torch.Tensor
    pixels: torch.Tensor
    image: str


class UnsuitableError(FitError):
    """A latent file and its picture give no pair; the message says why, in the same words for all such files."""


def read_latent_folder(
    folder: Path, space: LatentSpace, size_px: int, per_image: int, seed: int
) -> tuple[Pairs, list[str]]:
    """Reads latent files with a picture of the same name, and cuts crops of one size from both.

    Args:
        folder: folder that holds the latents and the pictures, also in folders inside it.
        space: latent space of the latents.
        size_px: side of a crop in pixels.
        per_image: number of crops per picture.
        seed: random seed for the places of the crops.

    Returns:
        The pairs, and notes about files that were left out.

    Raises:
        FitError: the crops are no whole number of latent pixels, or no file gives a pair.
    """
    side, rest = divmod(size_px, space.downscale)
    if rest or not side:
        raise FitError(f"expected crops (--size) of a multiple of {space.downscale} pixels, got {size_px}")
    rng = random.Random(seed)  # noqa: S311, no secret
    found: list[CutPair] = []
    left_out: Counter[str] = Counter()
    pictures = _pictures(folder)
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in LATENT_SUFFIXES):
        try:
            found += _cut(path, pictures, space, side, per_image, rng)
        except (UnsuitableError, LatentsError) as error:
            left_out[str(error) if isinstance(error, UnsuitableError) else "unreadable, or of another space"] += 1
    notes = [f"{folder.name}: {count} latent files are left out: {reason}" for reason, count in left_out.items()]
    if not found:
        reasons = "; ".join(notes) or f"{folder}: it holds no latent file ({', '.join(LATENT_SUFFIXES)})"
        raise FitError(f"expected latent files of {space.title} with a picture of the same name, found none: {reasons}")
    latents, pixels, images = zip(*found, strict=True)
    return Pairs(torch.stack(latents).half(), torch.stack(pixels), images), notes


def _pictures(folder: Path) -> dict[str, list[Path]]:
    """The pictures in a folder and in those inside it, by stem."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            found.setdefault(path.stem, []).append(path)
    return found


def _cut(
    path: Path, pictures: dict[str, list[Path]], space: LatentSpace, side: int, per_image: int, rng: random.Random
) -> Iterator[CutPair]:
    named = pictures.get(path.stem, [])
    beside = [picture for picture in named if picture.parent == path.parent] or named
    if len(beside) != 1:
        raise UnsuitableError("several pictures of this name" if beside else "no picture of the same name")
    latents = read_latents(path, Spaces((space,)), HowToRead(space=space)).latents
    image = read_image(beside[0])
    if image is None:
        raise UnsuitableError("the picture cannot be read")
    if latents.shape[0] * latents.shape[2] > 1:
        raise UnsuitableError("latents of several pictures")
    height, width = latents.shape[3:]
    if image.size != (width * space.downscale, height * space.downscale):
        raise UnsuitableError("the picture has another size than the VAE gives")
    if min(height, width) < side:
        raise UnsuitableError("smaller than a crop (--size)")
    if not torch.isfinite(latents.half()).all():
        raise UnsuitableError("NaN, infinity or numbers beyond float16")
    array = np.asarray(image)
    pixels = torch.from_numpy(array.copy()).movedim(-1, 0)
    for _ in range(per_image):
        top, left = rng.randint(0, height - side), rng.randint(0, width - side)
        rows, columns = (slice(start * space.downscale, (start + side) * space.downscale) for start in (top, left))
        yield CutPair(
            latents[0, :, 0, top : top + side, left : left + side].clone(),
            pixels[:, rows, columns].contiguous(),
            image_id(array),
        )
