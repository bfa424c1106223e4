"""Converts pictures to text with escape sequences, which a terminal draws."""

import base64
import io
import re
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

ColorMode = Literal["true", "256"]

KITTY_CHUNK = 4096  # characters of base64 in one escape sequence, the most that the protocol allows
SIXEL_COLORS = 255
SIXEL_ROWS = 6
REPEATED_BYTES = re.compile(rb"(.)\1{3,}", re.DOTALL)
CUBE_LEVELS = np.array([0, 95, 135, 175, 215, 255])
GRAY_LEVELS = 8 + 10 * np.arange(24)
UPPER_HALF_BLOCK, BLANK = "▀", " "
ESC = "\x1b"
PLACEHOLDER = "\U0010eeee"
# Combining characters that number the rows and columns of a picture, the first 30 of kitty's rowcolumn-diacritics.txt.
ROW_MARKS = (
    *(0x305, 0x30D, 0x30E, 0x310, 0x312, 0x33D, 0x33E, 0x33F, 0x346, 0x34A, 0x34B, 0x34C, 0x350, 0x351, 0x352, 0x357),
    *(0x35B, *range(0x363, 0x370)),
)


class Cells(NamedTuple):
    """A size in character cells."""

    columns: int
    rows: int


class CellSize(NamedTuple):
    """The size of one cell, in pixels."""

    width: int
    height: int


def fit(shown: tuple[int, int], room: Cells, cell: CellSize) -> Cells:
    """Returns the largest area within `room` that has the aspect ratio of a picture.

    Args:
        shown: width and height of the final image.
        room: available area.
        cell: size of one cell; only its aspect ratio matters.
    """
    width, height = shown[0] / cell.width, shown[1] / cell.height
    scale = min(room.columns / width, room.rows / height)
    return Cells(max(1, round(width * scale)), max(1, round(height * scale)))


def half_blocks(image: Image.Image, area: Cells, colors: ColorMode = "true") -> str:
    """Draws two pixels in each cell, one above the other. Each row of cells is a line that ends with a line break.

    Args:
        image: picture, of any size.
        area: area that it fills.
        colors: `true` for 24 bits; `256` for xterm's palette, for terminals that do not announce more.
    """
    pixels = np.asarray(image.convert("RGB").resize((area.columns, 2 * area.rows), Image.Resampling.LANCZOS))
    codes = _true_color_codes(pixels) if colors == "true" else _palette_codes(pixels)
    return "".join(_line(codes[y], codes[y + 1]) for y in range(0, len(codes), 2))


def _line(upper: list[str], lower: list[str]) -> str:
    parts: list[str] = []
    previous: tuple[str, str] | None = None
    for pair in zip(upper, lower, strict=True):
        character = (
            BLANK if pair[0] == pair[1] else UPPER_HALF_BLOCK
        )  # in some fonts a half block is not exactly half a cell
        parts.append(character if pair == previous else f"\x1b[38;{pair[0]};48;{pair[1]}m{character}")
        previous = pair
    return "".join(parts) + "\x1b[0m\r\n"


def _true_color_codes(pixels: np.ndarray) -> list[list[str]]:
    return [[f"2;{r};{g};{b}" for r, g, b in row] for row in pixels.tolist()]


def _palette_codes(pixels: np.ndarray) -> list[list[str]]:
    return [[f"5;{code}" for code in row] for row in nearest_of_256(pixels).tolist()]


def nearest_of_256(pixels: np.ndarray) -> np.ndarray:
    """Returns the nearest xterm color for each pixel `[..., 3]`, from 16 up: a cube, then grays. Users define 0 to 15.

    There is no dithering: with pixels this large it would look like noise.

    Source: 256colres.pl of xterm, https://invisible-island.net/xterm/
    """
    values = pixels.astype(np.int32)
    level = np.abs(values[..., None] - CUBE_LEVELS).argmin(-1)
    gray = np.abs(values.mean(-1)[..., None] - GRAY_LEVELS).argmin(-1)
    to_cube = np.square(CUBE_LEVELS[level] - values).sum(-1)
    to_gray = np.square(GRAY_LEVELS[gray][..., None] - values).sum(-1)
    return np.where(to_gray < to_cube, 232 + gray, 16 + level @ np.array([36, 6, 1]))


def kitty(image: Image.Image, area: Cells, number: int) -> str:
    """Draws a picture at the cursor, which does not move. It replaces the picture of the same number.

    Args:
        image: picture, of any size; the terminal scales it.
        area: area that it fills.
        number: number of the picture, from 1 to 2**32 - 1.

    Source: https://sw.kovidgoyal.net/kitty/graphics-protocol/
    """
    return "".join(_kitty_commands(image, area, f"C=1,i={number},p=1,"))


def kitty_in_tmux(image: Image.Image, area: Cells, number: int) -> str:
    """Draws a picture from the cursor down, for kitty behind tmux with `set -g allow-passthrough on`.

    tmux does not know where kitty draws. So kitty receives the picture without a place, over tmux's passthrough, and
    tmux receives text that kitty replaces by the parts of the picture. It moves and scrolls with the text.

    Args:
        image: picture, of any size; the terminal scales it.
        area: area that it fills, at most `len(ROW_MARKS)` rows.
        number: number of the picture; its last eight bits count, as a color of the text holds them.

    Source: https://sw.kovidgoyal.net/kitty/graphics-protocol/#unicode-placeholders
    """
    number = number % 256 or 1
    sent = "".join(
        f"\x1bPtmux;{part.replace(ESC, ESC * 2)}{ESC}\\" for part in _kitty_commands(image, area, f"U=1,i={number},")
    )
    first_column, others = chr(ROW_MARKS[0]), PLACEHOLDER * (area.columns - 1)
    rows = (f"{PLACEHOLDER}{chr(ROW_MARKS[row])}{first_column}{others}" for row in range(area.rows))
    return sent + "".join(f"\x1b[38;5;{number}m{row}\x1b[39m\r\n" for row in rows)


def _kitty_commands(image: Image.Image, area: Cells, keys: str) -> Iterator[str]:
    """Yields the commands that send and show a picture, each at most `KITTY_CHUNK` long."""
    data = base64.b64encode(zlib.compress(image.convert("RGB").tobytes(), 1)).decode()
    keys = f"a=T,f=24,o=z,t=d,q=2,{keys}s={image.width},v={image.height},c={area.columns},r={area.rows},"
    chunks = [data[i : i + KITTY_CHUNK] for i in range(0, len(data), KITTY_CHUNK)]
    for i, chunk in enumerate(chunks):
        yield f"\x1b_G{'' if i else keys}{'' if i == 0 else 'q=2,'}m={int(i < len(chunks) - 1)};{chunk}\x1b\\"


def iterm(image: Image.Image, area: Cells) -> str:
    """Draws a picture at the cursor, for iTerm2, WezTerm and mintty.

    Source: https://iterm2.com/documentation-images.html
    """
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=90, subsampling=0)
    keys = f"inline=1;size={file.tell()};width={area.columns};height={area.rows};preserveAspectRatio=0"
    return f"\x1b]1337;File={keys};doNotMoveCursor=1:{base64.b64encode(file.getvalue()).decode()}\x07"


def sixel(image: Image.Image) -> str:
    """Draws a picture at the cursor, pixel for pixel, with a palette of up to 255 colors.

    Source: https://vt100.net/docs/vt3xx-gp/chapter14.html
    """
    # FASTOCTREE takes a hundredth of the time of MEDIANCUT; its mean error is 3.7 levels instead of 2.9.
    paletted = image.convert("RGB").quantize(SIXEL_COLORS, Image.Quantize.FASTOCTREE)
    indices = np.asarray(paletted)
    height, width = indices.shape
    # Rows below the picture, in the last band, have an unused color.
    bands = np.full((-(-height // SIXEL_ROWS) * SIXEL_ROWS, width), SIXEL_COLORS, np.uint8)
    bands[:height] = indices
    percent = np.rint(np.array(paletted.getpalette()).reshape(-1, 3) / 2.55).astype(int).tolist()
    table = "".join("#{};2;{};{};{}".format(i, *percent[i]) for i in np.unique(indices).tolist())
    data = b"-".join(b"$".join(_strokes(band)) for band in bands.reshape(-1, SIXEL_ROWS, width))
    return f'\x1bP0;1;0q"1;1;{width};{height}{table}{data.decode()}\x1b\\'


def _strokes(band: np.ndarray) -> Iterator[bytes]:
    """Yields what each color of a band `[6, W]` draws, from the left edge, with run lengths."""
    columns = np.arange(band.shape[1])
    drawn = np.full((SIXEL_COLORS + 1, band.shape[1]), ord("?"), np.uint8)
    for row, colors in enumerate(band):
        drawn[colors, columns] += 1 << row
    for color in np.unique(band).tolist():
        if color != SIXEL_COLORS:
            yield b"#%d" % color + REPEATED_BYTES.sub(_run_length, drawn[color].tobytes().rstrip(b"?"))


def _run_length(run: re.Match[bytes]) -> bytes:
    return b"!%d%b" % (len(run[0]), run[1])
