"""Shows a run in the terminal, also over ssh."""

import os
import shutil
import struct
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, NamedTuple, TextIO, cast, final

from PIL import Image
from tqdm import tqdm

from ..errors import printable
from ..preview.images.encode import shrink
from ..preview.images.grid import still_image
from ..preview.picture import DecodedPicture
from ..preview.run import State
from ..preview.sinks.base import Delivery, Sink
from .colors import ACCENT, ACCENT_OF_256
from .terminal_graphics import ROW_MARKS, Cells, CellSize, fit, half_blocks, iterm, kitty, kitty_in_tmux, sixel

Graphics = Literal["kitty", "kitty-tmux", "iterm", "sixel", "blocks", "blocks-256", "line"]

GRAPHICS_VARIABLE = "SAFELIGHT_TERMINAL"  # the user's choice
ANY_VALUE = ""


class TerminalRule(NamedTuple):
    """An environment variable that reveals the graphics of a terminal.

    A rule matches if the variable begins with one of the values; if a value begins with `*`, if it ends with the rest.
    """

    variable: str
    values: tuple[str, ...]
    graphics: Graphics

    def matches(self, environment: Mapping[str, str]) -> bool:
        found = environment.get(self.variable)
        return bool(found) and any(
            found.endswith(value[1:]) if value.startswith("*") else found.startswith(value) for value in self.values
        )


# The first match decides. The terminal itself is not queried: if it did not answer, the script would wait, and a late
# answer would appear in the user's shell. ssh passes on only TERM and sometimes LC_*.
# Source: documentation of each; Konsole and VS Code draw more than blocks, but not in every version or setting.
TERMINAL_RULES = (
    TerminalRule("TERM", ("xterm-kitty", "xterm-ghostty"), "kitty"),
    TerminalRule("KITTY_WINDOW_ID", (ANY_VALUE,), "kitty"),
    TerminalRule("TERM_PROGRAM", ("ghostty",), "kitty"),
    TerminalRule("TERM_PROGRAM", ("iTerm", "WezTerm", "mintty"), "iterm"),
    TerminalRule("LC_TERMINAL", ("iTerm",), "iterm"),
    TerminalRule("TERM", ("foot", "mlterm", "contour", "yaft"), "sixel"),
    TerminalRule("COLORTERM", ("truecolor", "24bit"), "blocks"),
    TerminalRule("TERM", ("*-direct",), "blocks"),
    TerminalRule("WT_SESSION", (ANY_VALUE,), "blocks"),
    TerminalRule("TERM", ("*256color",), "blocks-256"),
)
# A multiplexer passes text to the terminal, but pictures only if the user has set it up to do so.
MULTIPLEXER_RULES = (TerminalRule("TMUX", (ANY_VALUE,), "blocks"), TerminalRule("STY", (ANY_VALUE,), "blocks"))
MULTIPLEXER_RULES += (TerminalRule("TERM", ("screen", "tmux"), "blocks"),)
TMUX_RULES = (TerminalRule("TMUX", (ANY_VALUE,), "kitty-tmux"), TerminalRule("TERM", ("tmux",), "kitty-tmux"))
NO_GRAPHICS_RULES = (TerminalRule("NO_COLOR", (ANY_VALUE,), "line"), TerminalRule("TERM", ("dumb", "linux"), "line"))
# Services that build and test software may give a script a terminal, but what it writes becomes a log.
# Source: documentation of each; most of them set CI.
LOG_VARIABLES = ("CI", "TF_BUILD", "TEAMCITY_VERSION", "JENKINS_URL")
OFF_VALUES = ("", "0", "false", "no")
TEXT_GRAPHICS: frozenset[Graphics] = frozenset({"blocks", "blocks-256", "line"})

MAX_CELLS = Cells(96, 28)
ROWS_BELOW = 3  # rows for the caption, a progress bar and the prompt
DEFAULT_CELL = CellSize(6, 12)  # smaller than real cells: a picture must not be taller than its area
MAX_SIXEL_SIDE_PX = 640
MIN_SENT_SIDE_PX = 256
MIN_DRAW_INTERVAL_S = 0.1
MAX_WRITING_SHARE = 0.25  # of the time; a slow connection gets fewer pictures

BEGIN, END = "\x1b[?2026h\x1b[?25l", "\x1b[?25h\x1b[?2026l"  # one update of the screen, with a hidden cursor
DIM, RESET = "\x1b[2m", "\x1b[0m"
ACCENT_OF_ALL = "\x1b[38;2;{};{};{}m".format(*ACCENT)
ACCENTS: Mapping[str, str] = {"blocks-256": f"\x1b[38;5;{ACCENT_OF_256}m"}
BAR_COLUMNS = 20


def graphics_here(environment: Mapping[str, str] | None = None, stream: TextIO | None = None) -> Graphics:
    """Returns the graphics of a terminal; `line` if it cannot draw pictures, or if the stream is not a terminal.

    Args:
        environment: environment variables that describe the terminal; None for those of the process.
        stream: stream to the terminal; None for stderr.
    """
    environment = os.environ if environment is None else environment
    stream = stream or sys.stderr
    chosen = environment.get(GRAPHICS_VARIABLE, "")
    if chosen == "kitty" and any(rule.matches(environment) for rule in TMUX_RULES):
        return "kitty-tmux"
    if chosen in DRAW or chosen == "line":
        return cast("Graphics", chosen)
    if (
        stream is None
        or not stream.isatty()
        or not _can_encode_blocks(stream)
        or any(rule.matches(environment) for rule in NO_GRAPHICS_RULES)
        or any(environment.get(name, "").lower() not in OFF_VALUES for name in LOG_VARIABLES)
    ):
        return "line"
    in_multiplexer = any(rule.matches(environment) for rule in MULTIPLEXER_RULES)
    for rule in TERMINAL_RULES:
        if rule.matches(environment) and (not in_multiplexer or rule.graphics in TEXT_GRAPHICS):
            return rule.graphics
    return "line"


def _can_encode_blocks(stream: TextIO) -> bool:
    try:
        "▀━─σ".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def terminal(stream: TextIO | None = None, environment: Mapping[str, str] | None = None) -> Sink:
    """Returns a screen with live pictures, or a progress line if the terminal cannot draw.

    Args:
        stream: stream to the terminal; None for stderr.
        environment: environment variables that describe the terminal; None for those of the process.
    """
    graphics = graphics_here(environment, stream)
    return ProgressLine(stream) if graphics == "line" else TerminalScreen(graphics, stream)


@final
class ProgressLine(Sink):
    """Shows a progress bar."""

    name = "progress"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._bar: Any = None

    def show(self, picture: DecodedPicture) -> None:
        if self._bar is None:
            self._bar = tqdm(total=picture.total, unit="step", file=self._stream or sys.stderr)
        self._bar.update(picture.index - self._bar.n)

    def close(self, state: State) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class DrawnArea(NamedTuple):
    """Where the last picture was drawn.

    Args:
        area: size of the picture, in cells.
        window: size of the window at that time.
        lines_below: number of lines between the caption and the cursor.
        bars: progress bars of other programs that were drawn there.
    """

    area: Cells
    window: Cells
    lines_below: int
    bars: tuple[Any, ...]


@final
class TerminalScreen(Sink):
    """Draws the newest step in a terminal, over the previous one, with a caption below.

    Progress bars of tqdm, such as the host's, continue below. Each drawing restores the state of the terminal, so a
    script can be killed at any time.

    Args:
        graphics: graphics of the terminal; None to detect them.
        stream: stream to the terminal; None for stderr.
        max_cells: largest size of a picture, in cells.
        clock: monotonic clock, in seconds.
    """

    name: ClassVar[str] = "terminal"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(
        self,
        graphics: Graphics | None = None,
        stream: TextIO | None = None,
        *,
        max_cells: Cells = MAX_CELLS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._graphics: Graphics = graphics or graphics_here(stream=self._stream)
        if self._graphics == "kitty-tmux":
            max_cells = max_cells._replace(rows=min(max_cells.rows, len(ROW_MARKS)))
        self._max_cells, self._clock = max_cells, clock
        self._image_number = 1 + int.from_bytes(os.urandom(3), "big")
        self._forget()

    def _forget(self) -> None:
        self._drawn: DrawnArea | None = None
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

    def _draw(self, picture: DecodedPicture, state: str) -> None:
        began = self._clock()
        window, cell = window_of(self._stream)
        limit = self._max_cells
        room = Cells(min(limit.columns, window.columns - 1), min(limit.rows, window.rows - ROWS_BELOW))
        if min(room) > 0:
            cell = cell or DEFAULT_CELL
            area = fit(picture.shown, room, cell)
            image = DRAW[self._graphics](Drawing(still_image(picture), area, cell, self._image_number))
            line = caption(picture, state, window.columns - 1, ACCENTS.get(self._graphics, ACCENT_OF_ALL))
            self._write(image, line, area, window)
        self._waiting, self._last = None, picture
        ended = self._clock()
        self._next_s = ended + max(MIN_DRAW_INTERVAL_S, (ended - began) * (1 / MAX_WRITING_SHARE - 1))

    def _write(self, image: str, line: str, area: Cells, window: Cells) -> None:
        """Draws over the previous picture, or at the cursor, and leaves the cursor below the caption."""
        # tqdm removes its bars meanwhile, draws none, and then draws them at the cursor.
        with tqdm.external_write_mode(file=self._stream):
            below, new_lines = 0, "\r\n" * (area.rows + 1)
            if (drawn := self._drawn) is not None and (drawn.area, drawn.window) == (area, window):
                lines = drawn.lines_below + sum(map(_left_a_line, drawn.bars))
                if area.rows + 1 + lines < window.rows:
                    below, new_lines = lines, ""
            up, down = area.rows + 1 + below, 1 + below
            self._stream.write(f"{BEGIN}\r{new_lines}\x1b[{up}A{image}\x1b[2K{line}\r\x1b[{down}B{END}")
            self._stream.flush()
            self._drawn = DrawnArea(area, window, below, _bars_on(self._stream))


def _bars_on(stream: TextIO) -> tuple[Any, ...]:
    """The progress bars of tqdm on this stream."""
    return tuple(bar for bar in getattr(tqdm, "_instances", ()) if getattr(bar, "fp", None) == stream)


def _left_a_line(bar: Any) -> bool:
    """Whether a bar has ended and its line stays."""
    return bool(bar.disable) and bar.leave is not False


def window_of(stream: TextIO) -> tuple[Cells, CellSize | None]:
    """Returns the size of the terminal's window, and of one cell; None if the cell's size is unknown."""
    try:
        import fcntl
        import termios

        answer = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, bytes(8))
        rows, columns, width, height = struct.unpack("HHHH", answer)
    except (ImportError, OSError, ValueError):  # Windows has no termios; the stream may not be a terminal
        rows = columns = width = height = 0
    if not rows or not columns:
        columns, rows = shutil.get_terminal_size()
    cell = CellSize(width // columns, height // rows)
    return Cells(columns, rows), cell if min(cell) > 0 else None


def caption(picture: DecodedPicture, state: str, columns: int, accent: str) -> str:
    """Returns the caption of a step, in one line. The last parts are dropped if they do not fit.

    Args:
        picture: picture of the step.
        state: how the run ended; empty if it is running or finished.
        columns: largest length.
        accent: escape sequence for the color of the progress bar.
    """
    sigma = None if picture.sigma is None else f"σ {picture.sigma:.3g}"
    step = f"step {picture.index} / {picture.total}"
    parts = [part for part in (state, step, sigma, printable(picture.decoder), f"{picture.at_s:.1f} s") if part]
    filled = min(BAR_COLUMNS, round(BAR_COLUMNS * picture.index / max(1, picture.total)))
    while len(parts) > 1 and BAR_COLUMNS + sum(3 + columns_of(part) for part in parts) > columns:
        parts.pop()
    text = "   ".join(parts)
    bar = f"{accent}{'━' * filled}{RESET}{DIM}{'─' * (BAR_COLUMNS - filled)}{RESET}"
    return f"{bar}   {text}" if BAR_COLUMNS + 3 + columns_of(text) <= columns else text[:columns]


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes: Chinese letters and emoji take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


class Drawing(NamedTuple):
    """A picture to draw.

    Args:
        image: picture, of any size.
        area: size on the screen, in cells.
        cell: size of one cell, in pixels.
        number: number of the image for kitty, which replaces an image of the same number.
    """

    image: Image.Image
    area: Cells
    cell: CellSize
    number: int

    def sent_image(self) -> Image.Image:
        """The picture for terminals that scale it themselves, not larger than its area on the screen."""
        (columns, rows), (width, height) = self.area, self.cell
        return shrink(self.image, max(columns * width, rows * height, MIN_SENT_SIDE_PX))


def _kitty(drawing: Drawing) -> str:
    return _with_known_cursor(kitty(drawing.sent_image(), drawing.area, drawing.number), drawing.area)


def _kitty_in_tmux(drawing: Drawing) -> str:
    return kitty_in_tmux(drawing.sent_image(), drawing.area, drawing.number)


def _iterm(drawing: Drawing) -> str:
    return _with_known_cursor(iterm(drawing.sent_image(), drawing.area), drawing.area)


def _sixel(drawing: Drawing) -> str:
    (columns, rows), (width, height) = drawing.area, drawing.cell
    scale = min(1.0, MAX_SIXEL_SIDE_PX / max(columns * width, rows * height))
    size = max(1, int(columns * width * scale)), max(1, int(rows * height * scale))
    return _with_known_cursor(sixel(drawing.image.resize(size, Image.Resampling.LANCZOS)), drawing.area)


def _with_known_cursor(drawn: str, area: Cells) -> str:
    """Adds sequences that put the cursor below a picture: terminals leave it at different places."""
    return f"\x1b7{drawn}\x1b8\r\x1b[{area.rows}B"


DRAW: Mapping[str, Callable[[Drawing], str]] = {
    "kitty": _kitty,
    "kitty-tmux": _kitty_in_tmux,
    "iterm": _iterm,
    "sixel": _sixel,
    "blocks": lambda drawing: half_blocks(drawing.image, drawing.area),
    "blocks-256": lambda drawing: half_blocks(drawing.image, drawing.area, "256"),
}
