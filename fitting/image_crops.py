"""Pictures to fit on, as square crops of one size."""

import logging
import random
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ..errors import FitError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_SHORT_SIDE = 2.5  # of a picture before a crop is cut from it, in crop sizes: detail at several scales
# What Pillow raises for files that are not what their name says, or are cut short.
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)
MIN_SPREAD = 2.0  # standard deviation, in 1/255, below which a crop says nothing

log = logging.getLogger("safelight.fitting")


def find(places: Sequence[Path]) -> list[Path]:
    """The picture files in folders and lists of files, sorted, each once.

    Raises:
        FitError: there are none, or one of the places is missing.
    """
    if missing := [str(place) for place in places if not place.exists()]:
        raise FitError(f"{', '.join(missing)}: no such file or folder; expected pictures, or folders of them")
    found = {
        path
        for place in places
        for path in (place.rglob("*") if place.is_dir() else (place,))
        if path.suffix.lower() in SUFFIXES and path.is_file()
    }
    if not found:
        raise FitError(f"no picture in {', '.join(map(str, places))}; expected files ending in {', '.join(SUFFIXES)}")
    return sorted(found)


def crops(paths: Iterable[Path], size_px: int, per_picture: int, seed: int) -> Iterator[np.ndarray]:
    """Crops `[size_px, size_px, 3]` uint8: of each picture one that shows as much as fits, the others at random scales.

    Pictures that cannot be read are left out with a warning, crops of one colour without.

    Args:
        paths: of pictures.
        size_px: of a crop.
        per_picture: crops of each picture.
        seed: for where they are cut.
    """
    choose = random.Random(seed)  # noqa: S311, no secret
    for path in paths:
        try:
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file).convert("RGB")
        except UNREADABLE as error:
            log.warning("%s is left out: %s", path, error)
            continue
        yield from cut(image, size_px, per_picture, choose)


def cut(image: Image.Image, size_px: int, count: int, choose: random.Random) -> Iterator[np.ndarray]:
    """Crops of one picture, at most `count`, as `crops` makes them."""
    for i in range(count):
        crop = np.asarray(_crop(image, size_px, choose, closest=i > 0))
        if crop.std(axis=(0, 1)).max() >= MIN_SPREAD:
            yield crop


def _crop(image: Image.Image, size_px: int, choose: random.Random, *, closest: bool) -> Image.Image:
    most = max(size_px, min(*image.size, round(MAX_SHORT_SIDE * size_px)))
    short = choose.randint(size_px, most) if closest else size_px
    # Only what is shown is scaled: a picture of 30000 x 1 pixels would become one of gigabytes.
    side = min(image.size) * size_px / short
    left, top = (choose.uniform(0, length - side) for length in image.size)
    box = (left, top, min(left + side, image.width), min(top + side, image.height))
    crop = image.resize((size_px, size_px), Image.Resampling.LANCZOS, box)
    return ImageOps.mirror(crop) if choose.random() < 0.5 else crop
