"""A user's pictures, encoded by a host's VAE: what a node of a host fits on."""

import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..decoders.catalogue import PIXELS
from ..decoders.latents.identify import UNKNOWN
from ..decoders.latents.space import AUDIO, LatentSpace
from ..errors import FitError
from . import procedural_images
from .dataset import Dataset, split
from .image_crops import cut
from .pairs import Encode, encode_pairs

CROP_PX = (256, 512)  # a side of a crop, at least and at most
LATENT_SIDE = 32  # of a crop that gets by with it: a neighbourhood of 7x7 still has a middle
LEAST_SIDE = 4  # latent pixels a side, below which a picture says nothing
CROPS_MOST = 8  # of one picture
PROCEDURAL = 96  # pictures, where none are given


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """A user's pictures, opened one after the other.

    Args:
        sizes: width and height of each.
        each: RGB, of these sizes.
    """

    sizes: Sequence[tuple[int, int]]
    each: Iterable[Image.Image]


def encode_images(
    encode: Encode,
    pictures: ImageSet | None,
    space: LatentSpace,
    step: int,
    seed: int,
    encoder: str,
    tell: Callable[[float], None],
) -> Dataset:
    """Pairs to fit on, to choose and to judge by.

    Args:
        encode: rgb `[B, 3, H, W]` in 0..1 to model space latents `[B, C, h, w]`.
        pictures: the user's; None for procedural ones.
        space: of the latents.
        step: picture pixels per latent pixel, as far as it is known.
        seed: of crops and procedural pictures.
        encoder: what people call it.
        tell: is told which share of the pictures is encoded; what it raises ends it.

    Raises:
        FitError: the pictures are too few or too small, or the latents are not of the space.
    """
    if pictures is None:
        count, side = PROCEDURAL, _side(step, ())
        stream = enumerate(procedural_images.pictures(count, side, seed))
        what = f"procedural pictures of {side} px, seed {seed}"
    else:
        side = _side(step, pictures.sizes)
        shares = [min(CROPS_MOST, math.ceil(width * height / side**2)) for width, height in pictures.sizes]
        count = sum(shares)
        stream = _crops(pictures.each, side, shares, seed)
        what = f"crops of {side} px from {len(shares)} pictures of the user's"
    numbers: list[int] = []

    def crops() -> Iterator[np.ndarray]:
        for number, crop in stream:
            numbers.append(number)
            tell(min(1.0, len(numbers) / count))
            yield crop

    pairs = encode_pairs(encode, crops(), space.channels)
    if space.name != UNKNOWN and pairs.downscale != space.downscale:
        raise FitError(
            f"expected a VAE that makes latents of 1/{space.downscale} of the picture, as {space.title} "
            f"({space.name}) has them, got 1/{pairs.downscale}; is it the VAE of this model?"
        )
    return split(pairs, f"{len(pairs)} {what}, encoded by {encoder}", numbers)


def expect_visible(space: LatentSpace) -> None:
    """Raises `FitError` where there is nothing to fit."""
    if space.dims == AUDIO or space.name == PIXELS:
        what = "already pictures" if space.name == PIXELS else "no pictures"
        raise FitError(
            f"expected latents of pictures or video, those of {space.title} are {what}; nothing is to be fitted"
        )


def _side(step: int, sizes: Sequence[tuple[int, int]]) -> int:
    """Of a square crop: whole latent pixels, and enough of them where the pictures are large enough."""
    least, most = CROP_PX
    side = max(least, min(most, LATENT_SIDE * step)) // step * step
    if sizes:
        smallest = min(sizes, key=min)
        side = min(side, min(smallest) // step * step)
        if side < LEAST_SIDE * step:
            raise FitError(
                f"expected pictures of at least {LEAST_SIDE * step} pixels a side for a VAE that makes latents of "
                f"1/{step}, got {smallest[0]}x{smallest[1]}; give larger ones, or none to use procedural ones"
            )
    return side


def _crops(
    images: Iterable[Image.Image], side: int, shares: Sequence[int], seed: int
) -> Iterator[tuple[int, np.ndarray]]:
    choose = random.Random(seed)  # noqa: S311, no secret
    for number, (image, share) in enumerate(zip(images, shares, strict=True)):
        for crop in cut(image, side, share, choose):
            yield number, crop
