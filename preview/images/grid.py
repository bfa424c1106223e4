"""The pictures of a batch side by side in one."""

import math
from collections.abc import Sequence

from PIL import Image

from ..picture import Picture
from .encode import shrink

GROUND = (18, 18, 20)
GAP = 1 / 128  # of a picture's longer side
MAX_SIDE_PX = 8192  # a batch of 64 full-size pictures would be one that few programs open


def lay(images: Sequence[Image.Image]) -> Image.Image:
    """Pictures of one size, row by row, as near to a square as their number allows; the whole has a limit."""
    if len(images) == 1:
        return images[0]
    longer = max(laid_size(len(images), images[0].size))
    if longer > MAX_SIDE_PX:
        images = [shrink(image, max(1, max(image.size) * MAX_SIDE_PX // longer - 1)) for image in images]
    width, height = images[0].size
    columns, _ = places(len(images))
    whole = Image.new("RGB", laid_size(len(images), images[0].size), GROUND)
    for i, image in enumerate(images):
        space = gap(image.size)
        whole.paste(image, (i % columns * (width + space), i // columns * (height + space)))
    return whole


def still(picture: Picture) -> Image.Image:
    """A step in one picture that does not move: all of a batch, of a video the frame in the middle."""
    return lay([Image.fromarray(frames[len(frames) // 2]) for frames in picture.pixels])


def laid_size(count: int, one: tuple[int, int]) -> tuple[int, int]:
    """Width and height of so many pictures, each of the width and height `one`, without the limit."""
    columns, rows = places(count)
    return columns * one[0] + (columns - 1) * gap(one), rows * one[1] + (rows - 1) * gap(one)


def places(count: int) -> tuple[int, int]:
    """Columns and rows for so many pictures."""
    columns = math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)


def gap(one: tuple[int, int]) -> int:
    """Pixels between pictures of the width and height `one`."""
    return max(1, round(max(one) * GAP))
