"""Escape sequences of pictures, parsed by a separate reader for each protocol."""

import base64
import io
import re
import unicodedata
import zlib
from itertools import product

import numpy as np
import pytest
from PIL import Image
from safelight.screens.terminal_graphics import (
    ROW_MARKS,
    Cells,
    CellSize,
    fit,
    half_blocks,
    iterm,
    kitty,
    kitty_in_tmux,
    sixel,
)

LEVELS = (0, 95, 135, 175, 215, 255)
XTERM = [*product(LEVELS, repeat=3), *((8 + 10 * i,) * 3 for i in range(24))]  # colors 16 to 255
LINE = re.compile(r"\x1b\[38;(2;\d+;\d+;\d+|5;\d+);48;(2;\d+;\d+;\d+|5;\d+)m|\x1b\[0m\r\n|([▀ ])")


def gradient(width=24, height=16):
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([255 * x // (width - 1), 255 * y // (height - 1), 90 + 0 * x], -1).astype(np.uint8))


def noise(width, height, colors=None):
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels if colors is None else pixels // (256 // colors) * (256 // colors))


def read_blocks(text, read_color):
    """Returns the pixels of half blocks; `read_color` parses a color."""
    rows, upper, lower, pair = [], [], [], None
    for match in LINE.finditer(text):
        if match[1]:
            pair = read_color(match[1]), read_color(match[2])
        elif match[3]:
            assert match[3] == "▀" or pair[0] == pair[1]
            upper.append(pair[0])
            lower.append(pair[1])
        else:
            rows += [upper, lower]
            upper, lower = [], []
    assert "".join(match[0] for match in LINE.finditer(text)) == text, "unexpected text"
    return np.array(rows)


def true_color(code):
    kind, *rgb = map(int, code.split(";"))
    assert kind == 2
    return rgb


def palette_color(code):
    kind, number = map(int, code.split(";"))
    assert kind == 5
    assert 16 <= number <= 255
    return XTERM[number - 16]


def read_sixel(text):
    """Returns the picture of a sixel sequence, as a VT340 would draw it; -1 for pixels that are not drawn."""
    head, body = re.fullmatch(r"\x1bP0;1;0q(.*)\x1b\\", text, re.DOTALL)[1], None
    width, height = map(int, re.match(r'"1;1;(\d+);(\d+)', head).groups())
    body = head[re.match(r'"[\d;]+', head).end() :]
    pixels = np.full((height + 6, width, 3), -1)
    table, color, x, y = {}, None, 0, 0
    for token in re.finditer(r"#(\d+);2;(\d+);(\d+);(\d+)|#(\d+)|!(\d+)([?-~])|([?-~])|([$-])", body):
        define, r, g, b, choose, count, repeated, once, move = token.groups()
        if define:
            table[int(define)] = [round(int(v) * 2.55) for v in (r, g, b)]
        elif choose:
            color = table[int(choose)]
        elif move:
            x, y = 0, y + 6 * (move == "-")
        else:
            stroke = slice(x, x + int(count or 1))
            for row in range(6):
                if ord(repeated or once) - 63 >> row & 1:
                    assert (pixels[y + row, stroke] == -1).all(), "drawn twice"
                    pixels[y + row, stroke] = color
            x = stroke.stop
    assert (pixels[height:] == -1).all(), "drawn below the picture"
    return pixels[:height]


def read_kitty(text):
    """Returns the keys of the first sequence, and the data of all sequences."""
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", text)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in parts) == text
    keys = [dict(pair.split("=") for pair in part.split(",")) for part, _ in parts]
    assert [part["m"] for part in keys] == ["1"] * (len(parts) - 1) + ["0"]
    assert all(len(data) <= 4096 and len(data) % 4 == 0 for _, data in parts)
    assert all(part["q"] == "2" for part in keys), "the terminal's answer would appear in the shell"
    return keys[0], base64.b64decode("".join(data for _, data in parts))


@pytest.mark.parametrize(
    ("shown", "room", "cell", "area"),
    [
        ((1024, 1024), (80, 24), (8, 16), (48, 24)),
        ((1024, 512), (80, 24), (8, 16), (80, 20)),
        ((1024, 512), (80, 24), (10, 16), (77, 24)),
        ((512, 2048), (80, 24), (8, 16), (12, 24)),
        ((4096, 8), (80, 24), (8, 16), (80, 1)),
    ],
)
def test_fit_returns_the_largest_area_with_the_aspect_ratio(shown, room, cell, area):
    assert fit(shown, Cells(*room), CellSize(*cell)) == area


def test_half_blocks_draw_two_exact_pixels_per_cell():
    image = noise(13, 10)
    assert np.array_equal(read_blocks(half_blocks(image, Cells(13, 5)), true_color), np.asarray(image))


def test_half_blocks_scale_a_picture_to_its_area():
    image = gradient(120, 80)
    expected = np.asarray(image.resize((30, 20), Image.Resampling.LANCZOS))
    assert np.array_equal(read_blocks(half_blocks(image, Cells(30, 10)), true_color), expected)


def test_equal_cells_set_their_color_once():
    text = half_blocks(Image.new("RGB", (40, 2), (1, 2, 3)), Cells(40, 1))
    assert text == "\x1b[38;2;1;2;3;48;2;1;2;3m" + " " * 40 + "\x1b[0m\r\n"


def test_only_the_fixed_colors_of_the_256_are_used():
    image = Image.fromarray(np.array(XTERM, np.uint8).reshape(10, 24, 3))
    assert np.array_equal(read_blocks(half_blocks(image, Cells(24, 5), "256"), palette_color), np.asarray(image))
    drawn = read_blocks(half_blocks(gradient(), Cells(24, 8), "256"), palette_color)
    assert (
        np.abs(drawn - np.asarray(gradient()).astype(int)).max() <= 64
    )  # half of the widest gap, and Pillow's rounding


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 6), (30, 13), (64, 48)])
def test_sixels_are_exact_for_a_picture_with_few_colors(width, height):
    image = noise(width, height, colors=4)  # per channel, 64 in all
    assert np.abs(read_sixel(sixel(image)) - np.asarray(image).astype(int)).max() <= 2  # a percent is 2.55 levels


def test_sixels_draw_every_pixel_of_a_picture_with_many_colors():
    image = gradient(90, 50)
    drawn = read_sixel(sixel(image))
    assert drawn.min() >= 0
    assert np.abs(drawn - np.asarray(image).astype(int)).mean() < 10


def test_equal_sixels_are_run_length_encoded():
    assert len(sixel(Image.new("RGB", (600, 6), (200, 0, 0)))) < 60


def test_behind_tmux_kitty_receives_the_same_pixels_and_tmux_the_places_of_the_parts():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8))
    drawn = kitty_in_tmux(image, Cells(20, 9), 300)
    parts = re.findall(r"\x1bPtmux;((?:\x1b\x1b|[^\x1b])*)\x1b\\", drawn)
    assert len(parts) > 1, "every chunk is passed through on its own"
    keys, data = read_kitty("".join(part.replace("\x1b\x1b", "\x1b") for part in parts))
    assert zlib.decompress(data) == image.tobytes()
    assert (keys["U"], keys["i"], keys["c"], keys["r"], keys["q"]) == ("1", "44", "20", "9", "2")
    assert not {"p", "C"} & set(keys)
    lines = drawn.rpartition("\x1b\\")[2].split("\r\n")
    assert lines.pop() == ""
    for row, line in enumerate(lines):
        cells = line.removeprefix("\x1b[38;5;44m").removesuffix("\x1b[39m")
        assert cells == "\U0010eeee" + chr(ROW_MARKS[row]) + "\u0305" + "\U0010eeee" * 19
    assert len(lines) == 9
    assert {unicodedata.combining(chr(mark)) for mark in ROW_MARKS} == {230}


def test_kitty_receives_the_exact_pixels_and_the_area():
    image = noise(70, 50)
    keys, data = read_kitty(kitty(image, Cells(20, 9), 17))
    assert zlib.decompress(data) == image.tobytes()
    expected = {"a": "T", "f": "24", "o": "z", "s": "70", "v": "50", "c": "20", "r": "9", "i": "17", "p": "1", "C": "1"}
    assert expected.items() <= keys.items()


def test_iterm_receives_a_picture_file_and_the_area():
    keys, data = re.fullmatch(r"\x1b\]1337;File=([^:]*):([^\x07]*)\x07", iterm(gradient(), Cells(20, 9))).groups()
    file = base64.b64decode(data)
    assert {"inline=1", "width=20", "height=9", f"size={len(file)}", "doNotMoveCursor=1"} <= set(keys.split(";"))
    with Image.open(io.BytesIO(file)) as image:
        assert np.abs(np.asarray(image).astype(int) - np.asarray(gradient())).mean() < 4
