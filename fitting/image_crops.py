"""Cuts images into square crops of one size."""

import logging
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..errors import FitError, describe, printable
from .image_ids import image_id

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_SHORT_SIDE = 2.5  # short side of the scaled image in crop sizes: crops show detail at several scales
PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # for some others Pillow starts a program
TURNED_ORIENTATIONS = (5, 6, 7, 8)  # of EXIF: width and height are exchanged
MIN_SPREAD = 2.0  # standard deviation in 1/255; a crop below it has one color

log = logging.getLogger("safelight.fitting")


def find_images(places: Sequence[Path]) -> list[Path]:
    """Lists the image files in folders and lists of files, sorted, without duplicates.

    Raises:
        FitError: there are no images, or a place does not exist.
    """
    if missing := [str(place) for place in places if not place.exists()]:
        raise FitError(f"{', '.join(missing)}: no such file or folder; expected images, or folders of images")
    found = {
        path
        for place in places
        for path in (place.rglob("*") if place.is_dir() else (place,))
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    }
    if not found:
        raise FitError(
            f"no image in {', '.join(map(str, places))}; expected files ending in {', '.join(IMAGE_SUFFIXES)}"
        )
    return sorted(found)


def read_crops(paths: Iterable[Path], size_px: int, per_image: int, seed: int) -> Iterator[np.ndarray]:
    """Reads images and yields crops `[size_px, size_px, 3]` uint8.

    The first crop of an image shows as much of it as fits, the others have random scales. Images that cannot be read
    are skipped with a warning, crops of one color without.

    Args:
        paths: paths of the images.
        size_px: side of a crop.
        per_image: number of crops per image.
        seed: random seed for the places of the crops.
    """
    for _, crop in cut_crops_of(map(read_image, paths), size_px, per_image, seed):
        yield crop


def cut_crops_of(
    images: Iterable[Image.Image | None],
    size_px: int,
    per_image: int | Sequence[int],
    seed: int,
    sizes_before: Iterable[tuple[int, int] | None] = (),
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields crops as `read_crops` does, each with the id of its image.

    Args:
        images: images; None for one that cannot be read.
        size_px: side of a crop.
        per_image: number of crops per image, or of each image, those of `sizes_before` first.
        seed: random seed for the places of the crops.
        sizes_before: sizes of images before these, which other processes cut; None for one that cannot be read. The
            crops are then those that one process would cut after them.
    """
    rng = random.Random(seed)  # noqa: S311, no secret
    counts = repeat(per_image) if isinstance(per_image, int) else iter(per_image)
    for size, count in zip(sizes_before, counts, strict=False):
        for i in range(count):
            if size is not None:
                _place(size, size_px, rng, random_scale=i > 0)
    for image, count in zip(images, counts, strict=False):
        if image is None or not count:
            continue
        identity = image_id(np.asarray(image))
        for crop in cut_crops(image, size_px, count, rng):
            yield identity, crop


def read_image(path: Path) -> Image.Image | None:
    """Reads an image, upright, in RGB. None if that fails; the log says why."""
    try:
        with Image.open(path, formats=PILLOW_FORMATS) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    except Exception as error:  # Pillow may raise anything for a damaged file
        log.warning("%s is skipped: %s", printable(str(path)), describe(error))
        return None


def image_size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image as `read_image` returns it, from its header. None if it cannot be read."""
    try:
        with Image.open(path, formats=PILLOW_FORMATS) as file:
            turned = file.getexif().get(ExifTags.Base.Orientation, 1) in TURNED_ORIENTATIONS
            return (file.height, file.width) if turned else file.size
    except Exception as error:
        log.warning("%s is skipped: %s", printable(str(path)), describe(error))
        return None


def cut_crops(image: Image.Image, size_px: int, count: int, rng: random.Random) -> Iterator[np.ndarray]:
    """Yields up to `count` crops of one image, as `read_crops` does."""
    for i in range(count):
        crop = np.asarray(_cut(image, size_px, rng, random_scale=i > 0))
        if crop.std(axis=(0, 1)).max() >= MIN_SPREAD:
            yield crop


class _Placement(NamedTuple):
    """The place of a crop: its box in the image, in pixels, and whether it is mirrored."""

    box: tuple[float, float, float, float]
    is_mirrored: bool


def _place(size: tuple[int, int], size_px: int, rng: random.Random, *, random_scale: bool) -> _Placement:
    """Draws the place of a crop in an image of this width and height."""
    most = max(size_px, min(*size, round(MAX_SHORT_SIDE * size_px)))
    short = rng.randint(size_px, most) if random_scale else size_px
    side = min(size) * size_px / short
    left, top = (rng.uniform(0, length - side) for length in size)
    width, height = size
    return _Placement((left, top, min(left + side, width), min(top + side, height)), rng.random() < 0.5)


def _cut(image: Image.Image, size_px: int, rng: random.Random, *, random_scale: bool) -> Image.Image:
    place = _place(image.size, size_px, rng, random_scale=random_scale)
    # Only the crop is scaled: a whole image of 30000 x 1 pixels would become one of gigabytes.
    crop = image.resize((size_px, size_px), Image.Resampling.LANCZOS, place.box)
    return ImageOps.mirror(crop) if place.is_mirrored else crop
