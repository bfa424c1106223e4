"""Encodes a user's images with a host's VAE into a dataset."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from ..decoders.latents.identify import UNKNOWN
from ..decoders.latents.space import AUDIO, LatentSpace
from ..decoders.latents.space_table import PIXEL_SPACE
from ..errors import FitError
from .dataset import Dataset, split_pairs
from .image_crops import cut_crops_of
from .image_ids import image_id
from .pairs import Encode, encode_pairs
from .procedural_images import generate_images

CROP_SIDES_PX = (256, 512)
CROP_SIDE_LATENT = 32  # latent pixels that are enough for a crop: a neighborhood of 7x7 still has a middle
MIN_SIDE_LATENT = 4  # latent pixels a side; smaller images hold too little
MAX_CROPS_PER_IMAGE = 8
LEFT_OUT_SHARE = 4  # one image in four may be smaller than a crop
GENERATED_IMAGES = 96


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """A user's images, opened one after the other.

    Args:
        sizes: width and height of each image.
        images: RGB images of these sizes; None for one that cannot be read.
    """

    sizes: Sequence[tuple[int, int]]
    images: Iterable[Image.Image | None]


def encode_images(
    encode: Encode,
    images: ImageSet | None,
    space: LatentSpace,
    downscale: int,
    seed: int,
    encoder_name: str,
    on_progress: Callable[[float], None],
    seen: Collection[str] = (),
) -> Dataset:
    """Encodes images and splits the pairs into training, validation and test pairs.

    Args:
        encode: function from rgb `[B, 3, H, W]` in 0..1 to model space latents `[B, C, h, w]`.
        images: the user's images; None to generate some.
        space: latent space of the latents.
        downscale: image pixels per latent pixel, along one side, as the host reports it.
        seed: random seed for crops and generated images.
        encoder_name: name of the encoder, for the card.
        on_progress: callback for the share of the images that is encoded, 0..1; an exception from it ends the work.
        seen: ids of images that installed decoders were fitted on; the test takes others where there are some.

    Raises:
        FitError: the images are too few or too small, or the latents do not match the space.
    """
    if images is None:
        count, side = GENERATED_IMAGES, _crop_side(downscale, ())
        stream = ((image_id(image), image) for image in generate_images(count, side, seed))
        description = f"procedural pictures of {side} px, seed {seed}"
    else:
        side = _crop_side(downscale, images.sizes)
        crop_counts = [_crop_count(size, side) for size in images.sizes]
        count = sum(crop_counts)
        stream = cut_crops_of(images.images, side, crop_counts, seed)
        used = sum(number > 0 for number in crop_counts)
        small = f" ({len(crop_counts) - used} are smaller and left out)" if used < len(crop_counts) else ""
        description = f"crops of {side} px from {used} pictures of the user's{small}"
    ids: list[str] = []

    def crops() -> Iterator[np.ndarray]:
        for image, crop in stream:
            ids.append(image)
            on_progress(min(1.0, len(ids) / count))
            yield crop

    pairs = replace(encode_pairs(encode, crops(), space.channels), image_ids=tuple(ids))
    if space.name != UNKNOWN and pairs.downscale != space.downscale:
        raise FitError(
            f"expected a VAE with latents of 1/{space.downscale} of the image size, as {space.title} "
            f"({space.name}) has them, got 1/{pairs.downscale}; is it the VAE of this model?"
        )
    return split_pairs(pairs, f"{len(pairs)} {description}, encoded by {encoder_name}", ids, seen=seen)


def require_image_latents(space: LatentSpace) -> None:
    """Raises `FitError` unless the latents need a decoder to become images."""
    if space.dims == AUDIO or space.name == PIXEL_SPACE:
        reason = "pixels already" if space.name == PIXEL_SPACE else "audio"
        raise FitError(
            f"expected latents of images or video, but latents of {space.title} are {reason}: no decoder can be fitted"
        )


def _crop_side(downscale: int, sizes: Sequence[tuple[int, int]]) -> int:
    """Side of a square crop in pixels: whole latent pixels, and enough of them where the images are large enough."""
    least, most = CROP_SIDES_PX
    side = max(least, min(most, CROP_SIDE_LATENT * downscale)) // downscale * downscale
    if sizes:
        # A few small images must not make the crops of all others small: they are left out.
        smallest = sorted(sizes, key=min)[len(sizes) // LEFT_OUT_SHARE]
        side = min(side, min(smallest) // downscale * downscale)
        if side < MIN_SIDE_LATENT * downscale:
            raise FitError(
                f"expected images of at least {MIN_SIDE_LATENT * downscale} pixels a side for a VAE with latents of "
                f"1/{downscale}, got {smallest[0]}x{smallest[1]}; give larger images, or none to use generated images"
            )
    return side


def _crop_count(size: tuple[int, int], side: int) -> int:
    """Number of crops of an image; 0 if it is smaller than a crop."""
    width, height = size
    return min(MAX_CROPS_PER_IMAGE, math.ceil(width * height / side**2)) if min(size) >= side else 0
