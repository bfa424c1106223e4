"""A contact sheet: the steps of a run side by side in one picture."""

import io
import math
from typing import final

from PIL import Image, ImageDraw, ImageFont

from ..images.encode import SAVING
from ..images.thumbnails import StepImage, Thumbnails
from ..picture import Picture
from ..run import State
from .base import Sink
from .run_folder import RunFolder

NAME = "sheet.png"
TILE_PX, GAP_PX, CAPTION_PX = 256, 8, 22
GROUND, INK = (18, 18, 20), (190, 190, 196)
FONT_PX = 14
ASPECT = 1.5  # of the whole sheet, width to height


@final
class ContactSheet(Sink):
    """Writes `sheet.png` when the run has ended, each picture with its step and sigma below.

    Args:
        folder: of the run.
        limit: pictures at most; of a longer run every other one is left out, as often as needed.
    """

    name = "sheet"

    def __init__(self, folder: RunFolder, *, limit: int = 48) -> None:
        self._folder = folder
        self._pictures = Thumbnails(limit, TILE_PX)

    def open(self) -> None:
        pass

    def show(self, picture: Picture) -> None:
        self._pictures.add(picture)

    def close(self, state: State) -> None:
        if kept := self._pictures.all():
            file = io.BytesIO()
            lay_out(kept).save(file, **SAVING["png"])
            self._folder.write(NAME, file.getvalue())
            self._folder.announce(sheet=NAME)


def lay_out(kept: list[StepImage]) -> Image.Image:
    """The pictures in rows, of a length that leaves few places empty and comes near the sheet's aspect."""
    scale = TILE_PX / max(kept[-1].image.size)
    width, height = (max(1, round(side * scale)) for side in kept[-1].image.size)
    cell_w, cell_h = width + GAP_PX, height + CAPTION_PX + GAP_PX
    ideal = math.sqrt(len(kept) * ASPECT * cell_h / cell_w)
    columns = min(range(1, len(kept) + 1), key=lambda n: -len(kept) % n + abs(n - ideal))
    rows = math.ceil(len(kept) / columns)
    sheet = Image.new("RGB", (columns * cell_w + GAP_PX, rows * cell_h + GAP_PX), GROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_PX)
    for i, one in enumerate(kept):
        x, y = GAP_PX + i % columns * cell_w, GAP_PX + i // columns * cell_h
        sheet.paste(one.image.resize((width, height), Image.Resampling.BICUBIC), (x, y))
        draw.text((x + 2, y + height + 3), caption(one), INK, font)
    return sheet


def caption(one: StepImage) -> str:
    """`7 / 20   sigma 0.42`; Pillow's own font has no σ."""
    step = f"{one.index} / {one.total}"
    return step if one.sigma is None else f"{step}   sigma {one.sigma:.3g}"
