"""A contact sheet: the steps of a run side by side in one picture."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import final

from PIL import Image, ImageDraw, ImageFont

from ..images.encode import ImageEncoding
from ..images.grid import GRID_COLOR
from ..images.thumbnails import StepImage, Thumbnails
from ..picture import DecodedPicture
from ..run import State
from .base import Sink
from .run_folder import RunFolder

NAME = "sheet.png"
MAX_PICTURES = 48  # of a longer run every other step is left out, as often as needed
TILE_PX, GAP_PX, CAPTION_PX = 256, 8, 22
TEXT_COLOR = (190, 190, 196)
FONT_PX = 14
ASPECT = 1.5  # width to height of the whole sheet


@final
class ContactSheet(Sink):
    """Writes `sheet.png` when the run has ended, each picture with its step and sigma below.

    Args:
        folder: folder of the run.
    """

    name = "sheet"

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._pictures = Thumbnails(MAX_PICTURES, TILE_PX)

    def show(self, picture: DecodedPicture) -> None:
        self._pictures.add(picture)

    def close(self, state: State) -> None:
        if images := self._with_total(self._pictures.all()):
            self._folder.write(NAME, ImageEncoding().save([lay_out(images)]))
            self._folder.announce(sheet=NAME)

    def _with_total(self, images: Sequence[StepImage]) -> list[StepImage]:
        """The images with the number of steps that the run had: some samplers take fewer or more than they report."""
        announced = self._folder.run.sampler.get("steps")
        last = max((image.index for image in images), default=0)
        return [replace(image, total=max(announced or image.total, last)) for image in images]


def lay_out(images: Sequence[StepImage]) -> Image.Image:
    """Arranges the pictures of steps in rows, each with its step and sigma below."""
    return lay_out_captioned([step_image.image for step_image in images], list(map(caption, images)))


def lay_out_captioned(images: Sequence[Image.Image], captions: Sequence[str]) -> Image.Image:
    """Arranges pictures in rows, with few empty cells and an aspect near `ASPECT`."""
    scale = TILE_PX / max(images[-1].size)
    width, height = (max(1, round(side * scale)) for side in images[-1].size)
    cell_w, cell_h = width + GAP_PX, height + CAPTION_PX + GAP_PX
    count = len(images)
    ideal = math.sqrt(count * ASPECT * cell_h / cell_w)
    columns = min(range(1, count + 1), key=lambda n: -count % n + abs(n - ideal))
    rows = math.ceil(count / columns)
    sheet = Image.new("RGB", (columns * cell_w + GAP_PX, rows * cell_h + GAP_PX), GRID_COLOR)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_PX)
    for i, (image, text) in enumerate(zip(images, captions, strict=True)):
        x, y = GAP_PX + i % columns * cell_w, GAP_PX + i // columns * cell_h
        sheet.paste(image.resize((width, height), Image.Resampling.BICUBIC), (x, y))
        draw.text((x + 2, y + height + 3), text, TEXT_COLOR, font)
    return sheet


def caption(step_image: StepImage) -> str:
    """`7 / 20   sigma 0.42`; Pillow's own font has no σ."""
    step = f"{step_image.index} / {step_image.total}"
    return step if step_image.sigma is None else f"{step}   sigma {step_image.sigma:.3g}"
