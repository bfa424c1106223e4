"""Compares what a browser paints on the screen with the picture that should be there."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

GRID = 20  # the pictures are compared at this size: browsers smooth and round differently
MIDDLE = 0.7  # share of the width and the height that is compared: buttons lie over the edges
MAX_DISTANCE = 9.0  # of 255: a picture that a browser has scaled
SIMILAR = 1.0  # of 255: the last steps of a run are nearly equal


def image_of(content: str | bytes) -> Image.Image:
    """A picture from the bytes of its file, or from base64."""
    return Image.open(io.BytesIO(base64.b64decode(content) if isinstance(content, str) else content)).convert("RGB")


def part(image: Image.Image, left: float, right: float) -> Image.Image:
    """The columns of a picture between two fractions of its width."""
    return image.crop((round(image.width * left), 0, round(image.width * right), image.height))


def distance(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of two pictures, 0 to 255; of their middle, at a small size."""
    return float(np.abs(_small(a) - _small(b)).mean())


def nearest(shown: Image.Image, pictures: Sequence[Image.Image]) -> int:
    """The index of the picture that is shown.

    Raises:
        AssertionError: none of them is shown, or the screen is as near to another one.
    """
    distances = [distance(shown, picture) for picture in pictures]
    best, *others = sorted(distances)
    assert best < MAX_DISTANCE, f"none of {len(pictures)} pictures is on the screen; distances {distances}"
    assert not others or best < 0.6 * others[0], f"the pictures are too similar; distances {distances}"
    return distances.index(best)


def assert_shows(shown: Image.Image, pictures: Sequence[Image.Image], index: int) -> None:
    """Asserts that one of the pictures is shown, and none that differs from it."""
    distances = [distance(shown, picture) for picture in pictures]
    assert distances[index] < MAX_DISTANCE, f"picture {index} is not on the screen; distances {distances}"
    assert distances[index] < min(distances) + SIMILAR, f"another picture is on the screen; distances {distances}"


def _small(image: Image.Image) -> np.ndarray:
    rim_x, rim_y = ((1 - MIDDLE) / 2 * side for side in image.size)
    box = (rim_x, rim_y, image.width - rim_x, image.height - rim_y)
    return np.asarray(image.convert("RGB").resize((GRID, GRID), Image.Resampling.BOX, box=box), dtype=np.float64)
