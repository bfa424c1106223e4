"""Pixels become what a terminal draws: text with escape sequences."""

import base64
import io
import re
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

Colours = Literal["true", "256"]

KITTY_CHUNK = 4096  # characters of base64 in one escape sequence, the most that the protocol allows
SIXEL_COLOURS = 255
SIXEL_ROWS = 6
REPEATED = re.compile(rb"(.)\1{3,}", re.DOTALL)
CUBE = np.array([0, 95, 135, 175, 215, 255])
GREYS = 8 + 10 * np.arange(24)
UPPER_HALF, SPACE = "▀", " "


class Cells(NamedTuple):
    """A place of so many character cells."""

    columns: int
    rows: int


class CellSize(NamedTuple):
    """Of one cell, in pixels."""

    width: int
    height: int


def fit(shown: tuple[int, int], room: Cells, cell: CellSize) -> Cells:
    """The largest place of a picture's aspect within `room`.

    Args:
        shown: width and height of the final image.
        room: what there is.
        cell: only its aspect matters.
    """
    width, height = shown[0] / cell.width, shown[1] / cell.height
    scale = min(room.columns / width, room.rows / height)
    return Cells(max(1, round(width * scale)), max(1, round(height * scale)))


def half_blocks(image: Image.Image, place: Cells, colours: Colours = "true") -> str:
    """Two pixels a cell, one above the other; a line for each row of cells, each ended.

    Args:
        image: any size.
        place: that it fills.
        colours: `true`: 24 bits; `256`: xterm's palette, for terminals that do not say they know more.
    """
    pixels = np.asarray(image.convert("RGB").resize((place.columns, 2 * place.rows), Image.Resampling.LANCZOS))
    codes = _true_colour(pixels) if colours == "true" else _palette(pixels)
    return "".join(_line(codes[y], codes[y + 1]) for y in range(0, len(codes), 2))


def _line(upper: list[str], lower: list[str]) -> str:
    parts: list[str] = []
    before: tuple[str, str] | None = None
    for pair in zip(upper, lower, strict=True):
        face = SPACE if pair[0] == pair[1] else UPPER_HALF  # in some fonts a half is not quite one
        parts.append(face if pair == before else f"\x1b[38;{pair[0]};48;{pair[1]}m{face}")
        before = pair
    return "".join(parts) + "\x1b[0m\r\n"


def _true_colour(pixels: np.ndarray) -> list[list[str]]:
    return [[f"2;{r};{g};{b}" for r, g, b in row] for row in pixels.tolist()]


def _palette(pixels: np.ndarray) -> list[list[str]]:
    return [[f"5;{code}" for code in row] for row in nearest_of_256(pixels).tolist()]


def nearest_of_256(pixels: np.ndarray) -> np.ndarray:
    """For pixels `[..., 3]` the nearest of xterm's colours from 16 on: a cube, then greys. The first 16 are the user's.

    Not dithered: pixels as large as these would look like noise.

    Source: 256colres.pl of xterm, https://invisible-island.net/xterm/
    """
    values = pixels.astype(np.int32)
    level = np.abs(values[..., None] - CUBE).argmin(-1)
    grey = np.abs(values.mean(-1)[..., None] - GREYS).argmin(-1)
    to_cube = np.square(CUBE[level] - values).sum(-1)
    to_grey = np.square(GREYS[grey][..., None] - values).sum(-1)
    return np.where(to_grey < to_cube, 232 + grey, 16 + level @ np.array([36, 6, 1]))


def kitty(image: Image.Image, place: Cells, number: int) -> str:
    """The picture at the cursor, which stays where it is; one of the same number is replaced.

    Args:
        image: any size; the terminal brings it to that of its place.
        place: that it fills.
        number: from 1 to 2**32 - 1.

    Source: https://sw.kovidgoyal.net/kitty/graphics-protocol/
    """
    data = base64.b64encode(zlib.compress(image.convert("RGB").tobytes(), 1)).decode()
    told = f"a=T,f=24,o=z,t=d,q=2,C=1,i={number},p=1,s={image.width},v={image.height},c={place.columns},r={place.rows},"
    chunks = [data[i : i + KITTY_CHUNK] for i in range(0, len(data), KITTY_CHUNK)]
    return "".join(
        f"\x1b_G{'' if i else told}{'' if i == 0 else 'q=2,'}m={int(i < len(chunks) - 1)};{chunk}\x1b\\"
        for i, chunk in enumerate(chunks)
    )


def iterm(image: Image.Image, place: Cells) -> str:
    """The picture at the cursor, as iTerm2, WezTerm and mintty take it.

    Source: https://iterm2.com/documentation-images.html
    """
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=90, subsampling=0)
    told = f"inline=1;size={file.tell()};width={place.columns};height={place.rows};preserveAspectRatio=0"
    return f"\x1b]1337;File={told};doNotMoveCursor=1:{base64.b64encode(file.getvalue()).decode()}\x07"


def sixel(image: Image.Image) -> str:
    """The picture at the cursor, pixel for pixel, in up to 255 colours of its own.

    Source: https://vt100.net/docs/vt3xx-gp/chapter14.html
    """
    # An octree takes a hundredth of the time of a median cut, for a mean error of 3.7 levels instead of 2.9.
    paletted = image.convert("RGB").quantize(SIXEL_COLOURS, Image.Quantize.FASTOCTREE)
    indices = np.asarray(paletted)
    height, width = indices.shape
    # In a band that is not full, rows below the picture have a colour that nothing has.
    bands = np.full((-(-height // SIXEL_ROWS) * SIXEL_ROWS, width), SIXEL_COLOURS, np.uint8)
    bands[:height] = indices
    percent = np.rint(np.array(paletted.getpalette()).reshape(-1, 3) / 2.55).astype(int).tolist()
    table = "".join("#{};2;{};{};{}".format(i, *percent[i]) for i in np.unique(indices).tolist())
    data = b"-".join(b"$".join(_strokes(band)) for band in bands.reshape(-1, SIXEL_ROWS, width))
    return f'\x1bP0;1;0q"1;1;{width};{height}{table}{data.decode()}\x1b\\'


def _strokes(band: np.ndarray) -> Iterator[bytes]:
    """What each colour of a band `[6, W]` draws, from the left edge; runs of the same are counted."""
    columns = np.arange(band.shape[1])
    drawn = np.full((SIXEL_COLOURS + 1, band.shape[1]), ord("?"), np.uint8)
    for row, colours in enumerate(band):
        drawn[colours, columns] += 1 << row
    for colour in np.unique(band).tolist():
        if colour != SIXEL_COLOURS:
            yield b"#%d" % colour + REPEATED.sub(_counted, drawn[colour].tobytes().rstrip(b"?"))


def _counted(run: re.Match[bytes]) -> bytes:
    return b"!%d%b" % (len(run[0]), run[1])
