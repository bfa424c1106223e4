"""The terminal: its graphics are detected, pictures are drawn in one place, and its state is restored."""

import io
import re
import sys
import types
import unicodedata
from itertools import count

import numpy as np
import pytest
from safelight.decoders.decoder import Card
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.script import recording
from safelight.preview.picture import DecodedPicture
from safelight.preview.sinks.base import NoSink
from safelight.preview.step import Step, StepInfo
from safelight.screens import auto, colors
from safelight.screens import terminal as terminal_module
from safelight.screens.auto import in_notebook, screen_here
from safelight.screens.terminal import DRAW, ProgressLine, TerminalScreen, caption, columns_of, graphics_here, terminal
from safelight.screens.terminal_graphics import Cells
from tqdm import tqdm

SIZE = Cells(80, 24)  # the default if a terminal does not report its size


class Terminal(io.StringIO):
    """A terminal of 80 by 24 cells that stores all its lines, also those that scrolled out, and its cursor."""

    def __init__(self, tty=True, encoding="utf-8"):
        super().__init__()
        self.lines, self.y, self.x, self.saved, self.hidden = [""], 0, 0, (0, 0), False
        self.writes, self.tty, self.stream_encoding = [], tty, encoding

    @property
    def encoding(self):
        return self.stream_encoding

    def isatty(self):
        return self.tty

    def write(self, text):
        self.writes.append(text)
        token = (
            r"\x1bPtmux;(?:\x1b\x1b|[^\x1b])*\x1b\\|"
            r"\x1b\[(\??)([\d;]*)([A-Za-z])|\x1b_G[^\x1b]*\x1b\\|\x1bP[^\x1b]*\x1b\\|\x1b\][^\x07]*\x07|\x1b([78])|."
        )
        for match in re.finditer(token, text, re.DOTALL):
            self._do(match)
        return len(text)

    def _do(self, match):
        private, number, command, cursor = match.groups()
        if command:
            self._command(private + command, int(number) if number.isdigit() else 0)
        elif cursor:
            self.saved, (self.y, self.x) = ((self.y, self.x), (self.y, self.x)) if cursor == "7" else (self.saved,) * 2
        elif match[0] == "\n":
            self.y += 1
            self.lines += [""] * (self.y + 1 - len(self.lines))
        elif match[0] == "\r":
            self.x = 0
        elif len(match[0]) == 1 and not unicodedata.combining(match[0]):
            line = self.lines[self.y].ljust(self.x)
            self.lines[self.y] = line[: self.x] + match[0] + line[self.x + 1 :]
            self.x += 1

    def _command(self, command, number):
        top = max(0, len(self.lines) - SIZE.rows)
        if command in "AB":
            self.y = min(max(self.y + (number if command == "B" else -number), top), len(self.lines) - 1)
        elif command == "K":
            assert number == 2
            self.lines[self.y] = ""
        elif command in ("?h", "?l") and number == 25:
            self.hidden = command == "?l"
        else:
            assert command in ("m", "?h", "?l"), command

    @property
    def text(self):
        return [line.rstrip() for line in self.lines]


@pytest.fixture(autouse=True)
def window(monkeypatch):
    """Replaces the size of this machine's own terminal."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda: SIZE)


def picture_of(index, total=6, **fields):
    pixels = np.random.default_rng(index).integers(0, 256, (1, 1, 8, 12, 3), np.uint8)
    step = StepInfo(index=index, total=total, sigma=fields.pop("sigma", 0.5), at_s=0.2 * index)
    card = Card(name=fields.pop("decoder", "d"), space="sd1", kind="test")
    return DecodedPicture(step=step, card=card, **({"pixels": pixels, "shown": (96, 64), "decode_ms": 1.0} | fields))


class Clock:
    """A clock that the test sets."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def fast_clock():
    """A clock that returns ten times its previous value, so that every step may be drawn."""
    return (10.0**i for i in count()).__next__


def screen_on(stream, graphics="blocks", clock=None):
    return TerminalScreen(graphics, stream, max_cells=Cells(30, 10), clock=clock or fast_clock())


@pytest.mark.parametrize(
    ("graphics", "environment"),
    [
        ("kitty", {"TERM": "xterm-kitty", "COLORTERM": "truecolor"}),
        ("kitty", {"TERM": "xterm-kitty"}),  # over ssh
        ("kitty", {"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}),
        ("kitty", {"TERM": "xterm-ghostty"}),
        ("kitty", {"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}),
        ("iterm", {"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app", "COLORTERM": "truecolor"}),
        ("iterm", {"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}),  # over ssh
        ("iterm", {"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}),
        ("sixel", {"TERM": "foot"}),
        ("sixel", {"TERM": "foot-extra", "COLORTERM": "truecolor"}),
        ("sixel", {"TERM": "mlterm-256color"}),
        ("blocks", {"TERM": "xterm-256color", "COLORTERM": "truecolor"}),
        ("blocks", {"TERM": "xterm-256color", "COLORTERM": "truecolor", "TERM_PROGRAM": "vscode"}),
        ("blocks", {"TERM": "xterm-direct"}),
        ("blocks", {"WT_SESSION": "an id"}),
        ("blocks-256", {"TERM": "xterm-256color"}),
        ("blocks-256", {"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}),
        # In a multiplexer, with any terminal.
        ("blocks", {"TERM": "tmux-256color", "COLORTERM": "truecolor", "KITTY_WINDOW_ID": "1", "TMUX": "/tmp/tmux"}),
        ("blocks-256", {"TERM": "screen-256color", "LC_TERMINAL": "iTerm2", "STY": "1.pts"}),
        ("line", {"TERM": "screen"}),
        # Without colors.
        ("line", {"TERM": "xterm-kitty", "NO_COLOR": "1"}),
        ("line", {"TERM": "dumb"}),
        ("line", {"TERM": "linux"}),
        ("line", {"TERM": "xterm"}),
        ("line", {}),
        # The user's choice; an unknown value is ignored.
        ("sixel", {"TERM": "dumb", "SAFELIGHT_TERMINAL": "sixel"}),
        ("line", {"TERM": "xterm-kitty", "SAFELIGHT_TERMINAL": "line"}),
        ("kitty", {"TERM": "xterm-kitty", "SAFELIGHT_TERMINAL": "hologram"}),
    ],
)
def test_graphics_are_detected_from_the_environment(graphics, environment):
    assert graphics_here(environment, Terminal()) == graphics


@pytest.mark.parametrize("variable", ["CI", "TF_BUILD", "TEAMCITY_VERSION", "JENKINS_URL"])
def test_the_log_of_a_service_gets_no_pictures(variable):
    kitty = {"TERM": "xterm-kitty"}
    for value in ("true", "1", "woodpecker"):
        assert graphics_here({**kitty, variable: value}, Terminal()) == "line"
    for value in ("", "0", "false", "False"):
        assert graphics_here({**kitty, variable: value}, Terminal()) == "kitty"
    assert graphics_here({**kitty, variable: "true", "SAFELIGHT_TERMINAL": "blocks"}, Terminal()) == "blocks"
    assert isinstance(screen_here(Terminal(), {**kitty, variable: "true"}), NoSink)


@pytest.mark.parametrize("environment", [{"TMUX": "/tmp/tmux-1/default,1,0"}, {"TERM": "tmux-256color"}])
def test_pictures_of_kitty_are_sent_through_tmux_only_if_the_user_asks_for_kitty(environment):
    in_tmux = {"TERM": "screen-256color", "COLORTERM": "truecolor", "KITTY_WINDOW_ID": "1", **environment}
    assert graphics_here(in_tmux, Terminal()) == "blocks"
    assert graphics_here({**in_tmux, "SAFELIGHT_TERMINAL": "kitty"}, Terminal()) == "kitty-tmux"
    assert graphics_here({"SAFELIGHT_TERMINAL": "kitty"}, Terminal()) == "kitty"


def test_a_stream_that_is_not_a_terminal_gets_no_pictures():
    assert graphics_here({"TERM": "xterm-kitty"}, Terminal(tty=False)) == "line"


@pytest.mark.parametrize("encoding", ["latin-1", "no such", None])
def test_an_encoding_without_half_blocks_gets_no_pictures(encoding):
    assert graphics_here({"TERM": "xterm-256color"}, Terminal(encoding=encoding)) == "line"


def test_the_screen_depends_on_the_terminal():
    assert isinstance(terminal(Terminal(), {"TERM": "xterm-256color"}), TerminalScreen)
    assert isinstance(terminal(Terminal(), {"TERM": "dumb"}), ProgressLine)


@pytest.mark.parametrize("graphics", DRAW)
def test_steps_are_drawn_in_one_place_and_the_cursor_is_below(graphics):
    stream = Terminal()
    stream.write("$ python script.py\n")
    screen = screen_on(stream, graphics)
    screen.open()
    for index in range(1, 7):
        screen.show(picture_of(index))
        assert not stream.hidden
        picture_rows = 10
        assert (stream.y, stream.x) == (1 + picture_rows + 1, 0)
    screen.close("finished")
    assert (stream.y, stream.x) == (12, 0)
    assert len(stream.lines) == 13
    assert stream.text[0] == "$ python script.py"
    assert "step 6 / 6   σ 0.5   d   1.2 s" in stream.text[11]
    assert stream.text[12] == ""


def test_each_drawing_restores_the_state_of_the_terminal():
    stream = Terminal()
    screen = screen_on(stream)
    screen.open()
    stream.writes.clear()
    screen.show(picture_of(1))
    (drawn,) = (text for text in stream.writes if text)
    assert drawn.startswith("\x1b[?2026h\x1b[?25l")
    assert drawn.endswith("\x1b[?25h\x1b[?2026l")
    assert drawn.rindex("\x1b[0m") > drawn.rindex("\x1b[2m"), "a color is still on"


def test_a_slow_terminal_gets_fewer_pictures_but_always_the_last():
    stream, clock = Terminal(), Clock()
    screen = screen_on(stream, clock=clock)
    screen.open()

    def drawn():
        return sum("?2026h" in text for text in stream.writes)

    write = stream.write

    def slow(text):
        clock.now += 0.5 * ("?2026h" in text)
        return write(text)

    stream.write = slow
    screen.show(picture_of(1))
    clock.now += 1.4  # half a second of writing needs one and a half seconds of rest
    screen.show(picture_of(2))
    assert drawn() == 1
    clock.now += 0.2
    screen.show(picture_of(3))
    assert drawn() == 2
    screen.show(picture_of(4))
    assert drawn() == 2
    screen.close("finished")
    assert drawn() == 3
    assert any("step 4 / 6" in line for line in stream.text)


@pytest.mark.parametrize("state", ["interrupted", "failed"])
def test_the_caption_names_the_state_of_a_run_that_did_not_finish(state):
    stream = Terminal()
    screen = screen_on(stream)
    screen.open()
    screen.show(picture_of(2))
    screen.close(state)
    assert f"{state}   step 2 / 6" in stream.text[10]


def test_without_a_picture_nothing_is_written():
    stream = Terminal()
    screen = screen_on(stream)
    screen.open()
    screen.close("failed")
    assert stream.writes == []


def test_a_second_run_is_drawn_below_the_first():
    stream = Terminal()
    screen = screen_on(stream)
    for _ in range(2):
        screen.open()
        screen.show(picture_of(1))
        screen.show(picture_of(2, 2))
        screen.close("finished")
    assert [i for i, line in enumerate(stream.text) if "step 2 / 2" in line] == [10, 21]


def test_a_progress_bar_continues_below_the_picture_and_stays_when_it_ends():
    stream = Terminal()
    screen = screen_on(stream)
    screen.open()
    with tqdm(total=3, file=stream, ascii=True, mininterval=0) as bar:
        for index in range(1, 4):
            screen.show(picture_of(index, 3))
            bar.update()
            assert f"{index}/3" in stream.text[11]
    assert stream.y == 12
    stream.write("a word\n")
    screen.show(picture_of(3, 3))
    screen.close("finished")
    assert "step 3 / 3" in stream.text[10] or "step 3 / 3" in stream.text[11]


def test_after_a_bar_has_ended_the_last_picture_still_replaces_the_previous_one():
    stream = Terminal()
    screen = screen_on(stream)
    screen.open()
    with tqdm(total=2, file=stream, ascii=True, mininterval=0) as bar:
        screen.show(picture_of(1, 2))
        bar.update(2)
    for _ in range(2):  # the line of the bar is still there the second time
        screen.show(picture_of(2, 2))
        assert "step 2 / 2" in stream.text[10]
        assert "2/2" in stream.text[11]
        assert (stream.y, stream.x) == (12, 0)
    screen.close("finished")
    assert sum("step" in line for line in stream.text) == 1


def test_after_the_window_was_resized_the_picture_is_drawn_below(monkeypatch):
    stream = Terminal()
    screen = screen_on(stream)
    screen.open()
    screen.show(picture_of(1))
    monkeypatch.setattr("shutil.get_terminal_size", lambda: (20, 24))
    screen.show(picture_of(2))
    assert ["step 1" in stream.text[10], "step 2" in "".join(stream.text[11:])] == [True, True]


def test_a_window_that_is_too_small_gets_no_picture(monkeypatch):
    monkeypatch.setattr("shutil.get_terminal_size", lambda: (80, 3))
    stream = Terminal()
    screen = screen_on(stream)
    screen.open()
    screen.show(picture_of(1))
    screen.close("finished")
    assert "".join(stream.writes) == ""


def test_a_batch_is_drawn_side_by_side_with_the_middle_frame_of_a_video():
    pixels = np.zeros((2, 3, 8, 8, 3), np.uint8)
    pixels[0, 1], pixels[1, 1] = (255, 0, 0), (0, 255, 0)
    stream = Terminal()
    screen = screen_on(stream)
    screen.show(picture_of(1, pixels=pixels, shown=(128, 64)))
    drawn = "".join(stream.writes)
    assert "38;2;255;0;0" in drawn
    assert "38;2;0;255;0" in drawn


@pytest.mark.parametrize("columns", [10, 25, 40, 55, 79])
def test_a_caption_is_not_longer_than_the_line(columns):
    text = re.sub(r"\x1b\[[\d;]*m", "", caption(picture_of(3, decoder="flux2-conv-small"), "failed", columns, ""))
    assert len(text) <= columns
    assert text.strip("━─ ").startswith("failed")


def test_a_name_with_escape_sequences_is_harmless():
    assert "\x1b[2J" not in caption(picture_of(1, decoder="\x1b[2J"), "", 79, "")


def test_a_name_whose_letters_take_two_columns_does_not_break_the_line():
    text = re.sub(r"\x1b\[[\d;]*m", "", caption(picture_of(3, decoder="画" * 20), "", 79, ""))
    assert columns_of(text) <= 79
    assert columns_of("画a") == 3
    assert "画" in caption(picture_of(3, decoder="画" * 5), "", 79, "")


def test_a_progress_line_shows_the_number_of_steps():
    stream = Terminal(tty=False)
    line = ProgressLine(stream)
    line.open()
    for index in (1, 3, 6):
        line.show(picture_of(index))
    line.close("finished")
    assert "6/6" in stream.text[0]
    assert "\x1b" not in "".join(stream.writes)


def test_a_closed_terminal_costs_a_note_and_no_picture(tmp_path):
    stream = Terminal()

    def fail(text):
        raise BrokenPipeError("gone")

    stream.write = fail
    with recording(tmp_path / "run", SPACES["sd1"], sinks=[screen_on(stream)]) as (pipeline, folder):
        for index in (1, 2):
            pipeline.offer(Step(index=index, total=2, denoised=latents(index)))
    assert len(folder.manifest()["steps"]) == 2
    assert folder.manifest()["notes"][0] == "terminal failed; terminal could not be finished: BrokenPipeError: gone"


def latents(index):
    import torch

    return torch.randn(1, 4, 6, 8, generator=torch.Generator().manual_seed(index))


def test_a_real_run_is_shown_in_a_terminal(tmp_path):
    stream = Terminal()
    with recording(tmp_path / "run", SPACES["sd1"], sinks=[screen_on(stream)]) as (pipeline, _):
        for index in (1, 2, 3):
            pipeline.offer(Step(index=index, total=3, sigma=1 / index, denoised=latents(index)))
    assert any("step 3 / 3   σ 0.333" in line for line in stream.text)
    assert not stream.hidden


# The choice of the screen.


def test_only_a_terminal_that_can_draw_is_chosen_as_the_screen():
    assert isinstance(screen_here(Terminal(), {"TERM": "xterm-kitty"}), TerminalScreen)
    assert isinstance(screen_here(Terminal(), {"TERM": "dumb"}), NoSink)
    assert isinstance(screen_here(Terminal(tty=False), {"TERM": "xterm-kitty"}), NoSink)


@pytest.mark.parametrize(
    ("shell", "expected"),
    [(None, False), (types.SimpleNamespace(), False), (types.SimpleNamespace(kernel=object()), True)],
    ids=["no shell", "IPython in a terminal", "a kernel"],
)
def test_a_notebook_is_an_ipython_with_a_kernel(shell, expected):
    assert in_notebook({"IPython": types.SimpleNamespace(get_ipython=lambda: shell)}) is expected


def test_the_choice_does_not_import_ipython():
    assert not in_notebook({})
    assert auto.in_notebook.__defaults__ == (sys.modules,)


def test_the_progress_bar_has_the_same_color_in_a_terminal_and_in_a_notebook():
    assert colors.ACCENT == (0xFF, 0x8A, 0x3D)
    assert terminal_module.ACCENT_OF_ALL == "\x1b[38;2;255;138;61m"
    assert terminal_module.ACCENTS["blocks-256"] == "\x1b[38;5;208m"
