"""A run in the terminal of whoever started the script, also over ssh."""

import os
import shutil
import struct
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, TextIO, cast, final

from PIL import Image
from tqdm import tqdm

from ..preview.images.encode import shrink
from ..preview.images.grid import still_image
from ..preview.picture import DecodedPicture
from ..preview.run import State
from ..preview.sinks.base import Delivery, Sink
from .terminal_graphics import Cells, CellSize, fit, half_blocks, iterm, kitty, sixel

Graphics = Literal["kitty", "iterm", "sixel", "blocks", "blocks-256", "line"]

CHOICE = "SAFELIGHT_TERMINAL"  # what the user says goes
ANYTHING = ""


class Sign(NamedTuple):
    """A variable of the environment that tells what a terminal can draw: by how its value begins, or ends with `*`."""

    variable: str
    values: tuple[str, ...]
    graphics: Graphics

    def is_in(self, environment: Mapping[str, str]) -> bool:
        value = environment.get(self.variable)
        return bool(value) and any(
            value.endswith(one[1:]) if one.startswith("*") else value.startswith(one) for one in self.values
        )


# The first that is found counts. Nothing is asked of the terminal itself: one that does not answer would be waited for,
# and one that answers late types into the user's shell. Over ssh, only TERM and at times LC_* come along.
# Source: documentation of each; Konsole and VS Code draw more than blocks, but not in every version or setting.
SIGNS = (
    Sign("TERM", ("xterm-kitty", "xterm-ghostty"), "kitty"),
    Sign("KITTY_WINDOW_ID", (ANYTHING,), "kitty"),
    Sign("TERM_PROGRAM", ("ghostty",), "kitty"),
    Sign("TERM_PROGRAM", ("iTerm", "WezTerm", "mintty"), "iterm"),
    Sign("LC_TERMINAL", ("iTerm",), "iterm"),
    Sign("TERM", ("foot", "mlterm", "contour", "yaft"), "sixel"),
    Sign("COLORTERM", ("truecolor", "24bit"), "blocks"),
    Sign("TERM", ("*-direct",), "blocks"),
    Sign("WT_SESSION", (ANYTHING,), "blocks"),
    Sign("TERM", ("*256color",), "blocks-256"),
)
# What is between the terminal and us passes text on, and no pictures.
MULTIPLEXERS = (Sign("TMUX", (ANYTHING,), "blocks"), Sign("STY", (ANYTHING,), "blocks"))
MULTIPLEXERS += (Sign("TERM", ("screen", "tmux"), "blocks"),)
PLAIN = (Sign("NO_COLOR", (ANYTHING,), "line"), Sign("TERM", ("dumb", "linux"), "line"))
TEXT: frozenset[Graphics] = frozenset({"blocks", "blocks-256", "line"})

MAX_ROOM = Cells(96, 28)
BELOW = 3  # rows that are left for the caption, a progress bar and the prompt
UNKNOWN_CELL = CellSize(6, 12)  # smaller than they are: a picture must not be taller than its place
MAX_SIXEL_SIDE_PX = 640
MIN_SIDE_PX = 256
MIN_INTERVAL_S = 0.1
SHARE = 0.25  # of the time, at most, that is spent writing: a slow line gets fewer pictures

BEGIN, END = "\x1b[?2026h\x1b[?25l", "\x1b[?25h\x1b[?2026l"  # drawn at once, without a cursor that flits about
LAMP, DIM, RESET = "\x1b[38;2;255;138;61m", "\x1b[2m", "\x1b[0m"
LAMPS: Mapping[str, str] = {"blocks-256": "\x1b[38;5;208m"}
BAR_COLUMNS = 20


def graphics_here(environment: Mapping[str, str] | None = None, stream: TextIO | None = None) -> Graphics:
    """What the terminal behind `stream`, stderr if None, can draw; `line` where it is none, or says that it cannot."""
    environment = os.environ if environment is None else environment
    stream = stream or sys.stderr
    chosen = environment.get(CHOICE, "")
    if chosen in DRAW or chosen == "line":
        return cast("Graphics", chosen)
    if (
        stream is None
        or not stream.isatty()
        or not _writes_blocks(stream)
        or any(sign.is_in(environment) for sign in PLAIN)
    ):
        return "line"
    between = any(sign.is_in(environment) for sign in MULTIPLEXERS)
    for sign in SIGNS:
        if sign.is_in(environment) and (not between or sign.graphics in TEXT):
            return sign.graphics
    return "line"


def _writes_blocks(stream: TextIO) -> bool:
    try:
        "▀━─σ".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def terminal(stream: TextIO | None = None, environment: Mapping[str, str] | None = None) -> Sink:
    """The screen that this terminal can be: live pictures, otherwise a progress line."""
    graphics = graphics_here(environment, stream)
    return ProgressLine(stream) if graphics == "line" else TerminalScreen(graphics, stream)


@final
class ProgressLine(Sink):
    """One line that says how far a run is."""

    name = "progress"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._bar: Any = None

    def open(self) -> None:
        pass

    def show(self, picture: DecodedPicture) -> None:
        if self._bar is None:
            self._bar = tqdm(total=picture.total, unit="step", file=self._stream or sys.stderr)
        self._bar.update(picture.index - self._bar.n)

    def close(self, state: State) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Spot(NamedTuple):
    """Where a picture is: its cells, those of the window, the lines between its caption and the cursor, and the
    progress bars of others that were drawn there.
    """

    place: Cells
    window: Cells
    below: int
    bars: tuple[Any, ...]


@final
class TerminalScreen(Sink):
    """Draws the newest step in a terminal, over the one before, with a line below that says which it is.

    Progress bars of tqdm, the host's perhaps, go on below. Each drawing leaves the terminal as it found it, so there is
    nothing to put right when the script is killed.

    Args:
        graphics: what the terminal can draw; as it seems if None.
        stream: to the terminal; stderr if None.
        room: how large a picture is at most.
        clock: seconds, monotonic.
    """

    name: ClassVar[str] = "terminal"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(
        self,
        graphics: Graphics | None = None,
        stream: TextIO | None = None,
        *,
        room: Cells = MAX_ROOM,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._graphics: Graphics = graphics or graphics_here(stream=self._stream)
        self._room, self._clock = room, clock
        self._number = 1 + int.from_bytes(os.urandom(3), "big")
        self._forget()

    def _forget(self) -> None:
        self._spot: Spot | None = None
        self._waiting: DecodedPicture | None = None
        self._last: DecodedPicture | None = None
        self._next_s = float("-inf")

    def open(self) -> None:
        self._forget()

    def show(self, picture: DecodedPicture) -> None:
        self._waiting = picture
        if self._clock() >= self._next_s:
            self._draw(picture, "")

    def close(self, state: State) -> None:
        picture = self._waiting or self._last
        if picture is not None:
            self._draw(picture, "" if state == "finished" else state)
        self._forget()

    def _draw(self, picture: DecodedPicture, said: str) -> None:
        began = self._clock()
        window, cell = window_of(self._stream)
        room = Cells(min(self._room.columns, window.columns - 1), min(self._room.rows, window.rows - BELOW))
        if min(room) > 0:
            cell = cell or UNKNOWN_CELL
            place = fit(picture.shown, room, cell)
            image = DRAW[self._graphics](Drawing(still_image(picture), place, cell, self._number))
            line = caption(picture, said, window.columns - 1, LAMPS.get(self._graphics, LAMP))
            self._put(image, line, place, window)
        self._waiting, self._last = None, picture
        ended = self._clock()
        self._next_s = ended + max(MIN_INTERVAL_S, (ended - began) * (1 / SHARE - 1))

    def _put(self, image: str, line: str, place: Cells, window: Cells) -> None:
        """Draws in the same place as before, or where the cursor is, which then is below all of it again."""
        # Bars are taken away, and come back where the cursor is; meanwhile nobody else draws one.
        with tqdm.external_write_mode(file=self._stream):
            below, make_room = 0, "\r\n" * (place.rows + 1)
            if (before := self._spot) is not None and before[:2] == (place, window):
                lines = before.below + sum(map(_left_a_line, before.bars))
                if place.rows + 1 + lines < window.rows:
                    below, make_room = lines, ""
            up, back = place.rows + 1 + below, 1 + below
            self._stream.write(f"{BEGIN}\r{make_room}\x1b[{up}A{image}\x1b[2K{line}\r\x1b[{back}B{END}")
            self._stream.flush()
            self._spot = Spot(place, window, below, _bars_on(self._stream))


def _bars_on(stream: TextIO) -> tuple[Any, ...]:
    """The progress bars that are drawn there now."""
    return tuple(bar for bar in getattr(tqdm, "_instances", ()) if getattr(bar, "fp", None) == stream)


def _left_a_line(bar: Any) -> bool:
    """Whether a bar has ended, and stays where it was."""
    return bool(bar.disable) and bar.leave is not False


def window_of(stream: TextIO) -> tuple[Cells, CellSize | None]:
    """How large the terminal's window is, and its cells, where it tells."""
    try:
        import fcntl
        import termios

        told = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, bytes(8))
        rows, columns, width, height = struct.unpack("HHHH", told)
    except (ImportError, OSError, ValueError):  # not on this system; or no terminal of its own is behind it
        rows = columns = width = height = 0
    if not rows or not columns:
        columns, rows = shutil.get_terminal_size()
    cell = CellSize(width // columns, height // rows)
    return Cells(columns, rows), cell if min(cell) > 0 else None


def caption(picture: DecodedPicture, said: str, columns: int, lamp: str) -> str:
    """Which step it is, in one line of at most so many columns; what matters least is left out."""
    sigma = None if picture.sigma is None else f"σ {picture.sigma:.3g}"
    step = f"step {picture.index} / {picture.total}"
    parts = [part for part in (said, step, sigma, picture.decoder, f"{picture.at_s:.1f} s") if part]
    lit = min(BAR_COLUMNS, round(BAR_COLUMNS * picture.index / max(1, picture.total)))
    while len(parts) > 1 and BAR_COLUMNS + sum(3 + len(part) for part in parts) > columns:
        parts.pop()
    text = "   ".join(part if part.isprintable() else repr(part) for part in parts)
    bar = f"{lamp}{'━' * lit}{RESET}{DIM}{'─' * (BAR_COLUMNS - lit)}{RESET}"
    return f"{bar}   {text}" if BAR_COLUMNS + 3 + len(text) <= columns else text[:columns]


class Drawing(NamedTuple):
    """A picture that is to be drawn in a place of cells that have a size, under a number."""

    image: Image.Image
    place: Cells
    cell: CellSize
    number: int

    def no_larger(self) -> Image.Image:
        """What the terminal enlarges itself is not sent larger than its place."""
        (columns, rows), (width, height) = self.place, self.cell
        return shrink(self.image, max(columns * width, rows * height, MIN_SIDE_PX))


def _kitty(drawing: Drawing) -> str:
    return _beside_the_cursor(kitty(drawing.no_larger(), drawing.place, drawing.number), drawing.place)


def _iterm(drawing: Drawing) -> str:
    return _beside_the_cursor(iterm(drawing.no_larger(), drawing.place), drawing.place)


def _sixel(drawing: Drawing) -> str:
    (columns, rows), (width, height) = drawing.place, drawing.cell
    scale = min(1.0, MAX_SIXEL_SIDE_PX / max(columns * width, rows * height))
    size = max(1, int(columns * width * scale)), max(1, int(rows * height * scale))
    return _beside_the_cursor(sixel(drawing.image.resize(size, Image.Resampling.LANCZOS)), drawing.place)


def _beside_the_cursor(drawn: str, place: Cells) -> str:
    """Draws something after which nobody knows where the cursor is, and puts it below."""
    return f"\x1b7{drawn}\x1b8\r\x1b[{place.rows}B"


DRAW: Mapping[str, Callable[[Drawing], str]] = {
    "kitty": _kitty,
    "iterm": _iterm,
    "sixel": _sixel,
    "blocks": lambda drawing: half_blocks(drawing.image, drawing.place),
    "blocks-256": lambda drawing: half_blocks(drawing.image, drawing.place, "256"),
}
