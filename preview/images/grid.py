"""Places the pictures of a batch side by side."""

import math
from collections.abc import Sequence

from PIL import Image

from ..picture import DecodedPicture
from .encode import shrink

GRID_COLOR = (18, 18, 20)
GAP_SHARE = 1 / 128  # gap between pictures, as a share of a picture's longer side
MAX_GRID_SIDE_PX = 8192  # few programs open a picture of 64 full-size images


def lay_grid(images: Sequence[Image.Image]) -> Image.Image:
    """Places images of one size row by row, nearly in a square, at most `MAX_GRID_SIDE_PX` wide and high."""
    if len(images) == 1:
        return images[0]
    longer = max(grid_size(len(images), images[0].size))
    if longer > MAX_GRID_SIDE_PX:
        images = [shrink(image, max(1, max(image.size) * MAX_GRID_SIDE_PX // longer - 1)) for image in images]
    width, height = images[0].size
    columns, _ = grid_shape(len(images))
    grid = Image.new("RGB", grid_size(len(images), images[0].size), GRID_COLOR)
    for i, image in enumerate(images):
        gap = gap_px(image.size)
        grid.paste(image, (i % columns * (width + gap), i // columns * (height + gap)))
    return grid


def still_image(picture: DecodedPicture) -> Image.Image:
    """A step as one still image: all pictures of a batch, the middle frame of a video."""
    return lay_grid([Image.fromarray(frames[len(frames) // 2]) for frames in picture.pixels])


def grid_size(count: int, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a grid of `count` pictures of width and height `size`, without the limit."""
    columns, rows = grid_shape(count)
    gap = gap_px(size)
    return columns * size[0] + (columns - 1) * gap, rows * size[1] + (rows - 1) * gap


def grid_shape(count: int) -> tuple[int, int]:
    """Columns and rows for `count` pictures."""
    columns = math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)


def gap_px(size: tuple[int, int]) -> int:
    """Pixels between pictures of width and height `size`."""
    return max(1, round(max(size) * GAP_SHARE))
