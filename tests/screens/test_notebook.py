"""The cell of a notebook, with an IPython and ipywidgets that only take down what they are told."""

import base64
import io
import json
import re
import sys
import types
from html import unescape

import numpy as np
import pytest
from PIL import Image
from safelight.decoders.decoder import Card
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import PageError, SinkError
from safelight.hosts.script import recording
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import Run
from safelight.preview.step import Step, StepInfo
from safelight.screens import notebook
from safelight.screens.auto import screen_here
from safelight.screens.notebook import HTML, JPEG, TEXT, NotebookScreen, hears_while_busy, shown_of

VIEW = "application/vnd.jupyter.widget-view+json"


class Cell:
    """What a cell holds: its displays, and how often each was changed."""

    def __init__(self):
        self.displays = []
        self.kernel = types.SimpleNamespace(_supports_kernel_subshells=True)

    def display(self, bundle, *, raw, metadata, display_id):
        assert raw
        assert display_id
        self.displays.append([])
        shown = self.displays[-1]

        def update(bundle, *, raw, metadata):
            assert raw
            shown.append((bundle, metadata))

        update(bundle, raw=raw, metadata=metadata)
        return types.SimpleNamespace(update=update)

    @property
    def last(self):
        return self.displays[-1][-1][0]


class Widget:
    made = ()

    def __init__(self, children=(), **facts):
        self.children, self.closed, self.told = children, False, {}
        self.layout = types.SimpleNamespace(close=lambda: None)
        self.comm = types.SimpleNamespace(_reply_subshell_id=None)
        vars(self).update({name: value for name, value in facts.items() if name != "layout"})
        Widget.made = (*Widget.made, self)

    def on_click(self, do):
        self.click = do

    def observe(self, do, name):
        self.told[name] = do

    def close(self):
        self.closed = True

    def _repr_mimebundle_(self):
        return {VIEW: {"model_id": "a"}, TEXT: "VBox()"}


@pytest.fixture
def cell(monkeypatch):
    """A notebook without ipywidgets."""
    cell = Cell()
    display = types.SimpleNamespace(display=cell.display)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: cell, display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    return cell


@pytest.fixture
def widgets(cell, monkeypatch):
    """A notebook with ipywidgets: what was made, by its kind."""
    Widget.made = ()
    kinds = ("Image", "IntProgress", "Label", "Button", "HBox", "VBox", "SelectionSlider")
    module = types.SimpleNamespace(**{kind: type(kind, (Widget,), {}) for kind in kinds})
    monkeypatch.setitem(sys.modules, "ipywidgets", module)
    return lambda kind: [widget for widget in Widget.made if type(widget).__name__ == kind]


def picture_of(index, total=4, shape=(1, 1, 8, 12), **fields):
    pixels = np.random.default_rng(index).integers(0, 256, (*shape, 3), np.uint8)
    step = StepInfo(index=index, total=total, sigma=fields.pop("sigma", 0.5), at_s=0.2 * index)
    card = Card(name=fields.pop("decoder", "d"), space="sd1", kind="test")
    return DecodedPicture(step=step, card=card, **({"pixels": pixels, "shown": (96, 64), "decode_ms": 1.0} | fields))


def run_in(screen, *pictures, state="finished"):
    screen.open()
    for picture in pictures:
        screen.show(picture)
    screen.close(state)


def jpeg_of(bundle):
    return Image.open(io.BytesIO(base64.b64decode(bundle[JPEG])))


def album_of(bundle):
    """What the page in a bundle holds."""
    page = unescape(re.search(r'srcdoc="([^"]*)"', bundle[HTML])[1])
    return json.loads(re.search(r'<script type="application/json" id="safelight">(.*?)</script>', page)[1])


def frozen():
    return 0.0


# Without ipywidgets


def test_one_display_is_changed_in_place_and_ends_as_the_viewer_beside_the_last_picture(cell):
    run_in(NotebookScreen(), *map(picture_of, range(1, 5)))
    (changes,) = cell.displays
    assert set(changes[0][0]) == {TEXT, JPEG}
    assert set(cell.last) == {TEXT, JPEG, HTML}
    assert cell.last[TEXT] == "step 4 / 4 · σ 0.5 · d"
    assert jpeg_of(cell.last).size == (12, 8)
    assert changes[-1][1] == {JPEG: {"width": 96, "height": 64}}


def test_the_viewer_has_every_step_that_was_shown(cell):
    run_in(NotebookScreen(), *map(picture_of, range(1, 5)))
    album = album_of(cell.last)
    assert [step["index"] for step in album["manifest"]["steps"]] == [1, 2, 3, 4]
    assert set(album["pictures"]) == {f"step_{index:04d}.jpg" for index in range(1, 5)}
    for name, data in album["pictures"].items():
        seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
        sent = picture_of(int(name[5:9])).first
        assert np.abs(seen - sent).mean() < 40, "noise, by JPEG; another step's is 85 away"
    assert album["manifest"]["state"] == "finished"
    assert album["manifest"]["sampler"]["steps"] == 4, "by the pictures, where nobody said"
    assert album["manifest"]["picture"]["shown_width"] == 96


def test_the_page_in_the_cell_can_end_neither_its_script_nor_the_frame(cell):
    run = Run(sampler={"name": '</script><script>alert(1)</script>"><img src=x onerror=alert(2)>'})
    screen = NotebookScreen()
    screen.follow(run)
    run_in(screen, picture_of(1, decoder='"><script>alert(3)</script>'))
    assert cell.last[HTML].count("<script") == 0
    assert cell.last[HTML].count("<img") == 1
    page = unescape(re.search(r'srcdoc="([^"]*)"', cell.last[HTML])[1])
    assert page.count("<script") == page.count("</script>") == 2
    assert album_of(cell.last)["manifest"]["sampler"]["name"] == run.sampler["name"]


def test_a_followed_run_is_known_with_its_seed_and_its_notes(cell):
    run = Run(sampler={"seed": 7, "steps": 4}, space="sd1")
    screen = NotebookScreen()
    screen.follow(run)
    screen.open()
    screen.show(picture_of(1))
    run.note("a decoder was given up")
    screen.close("interrupted")
    manifest = album_of(cell.last)["manifest"]
    assert (manifest["id"], manifest["sampler"]["seed"], manifest["state"]) == (run.id, 7, "interrupted")
    assert manifest["notes"] == ["a decoder was given up"]
    assert cell.last[TEXT] == "interrupted at step 1 / 4 · σ 0.5 · d"
    run_in(screen, picture_of(1))
    assert album_of(cell.last)["manifest"]["id"] != run.id, "the next run is another one"


def test_live_pictures_are_bounded_in_number_and_the_last_one_always_comes(cell):
    run_in(NotebookScreen(clock=frozen), *map(picture_of, range(1, 5)))
    (changes,) = cell.displays
    assert [bundle[TEXT].split(" · ")[0] for bundle, _ in changes] == ["step 1 / 4", "step 4 / 4", "step 4 / 4"]


def test_where_there_is_too_much_steps_are_left_out_and_the_last_one_stays(cell):
    big = [picture_of(index, shape=(1, 1, 200, 300)) for index in range(1, 5)]
    run_in(NotebookScreen(max_bytes=int(2.5 * len(shown_of(big[0]).jpeg))), *big)
    album = album_of(cell.last)
    assert set(album["pictures"]) == {"step_0002.jpg", "step_0004.jpg"}
    assert [len(step["files"]) for step in album["manifest"]["steps"]] == [0, 1, 0, 1]
    (note,) = album["manifest"]["notes"]
    assert note.startswith("one step of 2 is in this notebook")


def test_large_pictures_are_made_smaller_for_a_notebook(cell):
    run_in(NotebookScreen(), picture_of(1, shape=(1, 1, 600, 1200), shown=(1200, 600)))
    assert jpeg_of(cell.last).size == (512, 256)


def test_a_batch_is_one_live_picture_and_single_ones_in_the_viewer(cell):
    run_in(NotebookScreen(), picture_of(1, shape=(4, 1, 8, 12)))
    assert jpeg_of(cell.last).width > 20
    assert set(album_of(cell.last)["pictures"]) == {f"step_0001_item_0{i}.jpg" for i in range(1, 5)}


def test_a_video_moves_in_the_viewer(cell):
    run_in(NotebookScreen(), picture_of(1, shape=(1, 5, 8, 12), fps=16.0))
    assert set(album_of(cell.last)["pictures"]) == {"step_0001.webp"}
    assert jpeg_of(cell.last).size == (12, 8)


def test_without_a_step_nothing_is_displayed(cell):
    run_in(NotebookScreen(), state="failed")
    assert cell.displays == []


def test_without_the_viewer_the_last_picture_remains(cell, monkeypatch):
    run_in(NotebookScreen(viewer=False), picture_of(1))
    assert set(cell.last) == {TEXT, JPEG}

    def incomplete(*_):
        raise PageError("web/embedded.mjs cannot be read")

    monkeypatch.setattr(notebook, "embedded_page", incomplete)
    run_in(NotebookScreen(), picture_of(1))
    assert set(cell.last) == {TEXT, JPEG}


def test_each_run_has_a_display_of_its_own_and_leaves_no_file_behind(cell, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    screen = NotebookScreen()
    for _ in range(2):
        run_in(screen, picture_of(1))
    assert len(cell.displays) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_real_run_is_seen_in_the_cell(cell, tmp_path):
    import torch

    with recording(tmp_path / "run", SPACES["sd1"], sinks=[NotebookScreen()]) as (pipeline, folder):
        for index in (1, 2):
            pipeline.offer(Step(index=index, total=2, sigma=1 / index, denoised=torch.zeros(1, 4, 6, 8)))
    assert folder.manifest()["notes"] == []
    assert len(album_of(cell.last)["pictures"]) == 2


def test_the_size_is_that_of_the_final_image_as_far_as_a_cell_holds_it():
    assert shown_of(picture_of(1, shown=(96, 64))).size == (96, 64)
    assert shown_of(picture_of(1, shown=(3000, 2000))).size == (512, 341)
    assert shown_of(picture_of(1, shape=(4, 1, 8, 12), shown=(96, 64))).size[0] == pytest.approx(200, abs=1)


def test_in_a_notebook_the_screen_is_the_cell(cell):
    assert isinstance(screen_here(), NotebookScreen)


# With ipywidgets


def test_while_it_runs_there_is_an_image_and_afterwards_no_widget_is_left(cell, widgets):
    screen = NotebookScreen()
    screen.open()
    screen.show(picture_of(1))
    (image,) = widgets("Image")
    assert Image.open(io.BytesIO(image.value)).size == (12, 8)
    assert VIEW in cell.last
    assert JPEG in cell.last, "a notebook that is saved now has a picture"
    screen.close("finished")
    assert set(cell.last) == {TEXT, JPEG, HTML}
    assert all(widget.closed for widget in Widget.made)


def test_there_is_a_stop_button_where_it_is_heard_while_the_cell_runs(cell, widgets):
    stopped = []
    screen = NotebookScreen()
    screen.follow(Run(), lambda: stopped.append(True))
    screen.open()
    screen.show(picture_of(1))
    (button,) = widgets("Button")
    assert vars(button.comm) == {}, "clicks would wait for the cell to end"
    button.click(button)
    assert stopped == [True]
    assert (button.disabled, button.description) == (True, "Stopping")
    screen.close("interrupted")


def test_there_is_no_button_that_does_nothing(cell, widgets):
    run_in(NotebookScreen(), picture_of(1))  # nobody says what it should stop
    cell.kernel = types.SimpleNamespace()  # before ipykernel 7
    screen = NotebookScreen()
    screen.follow(Run(), lambda: None)
    run_in(screen, picture_of(1))
    assert widgets("Button") == []
    assert not hears_while_busy()


def test_instead_of_the_viewer_there_may_be_a_slider(cell, widgets):
    run_in(NotebookScreen(viewer=False, clock=iter(range(100)).__next__), *map(picture_of, range(1, 5)))
    (slider,), (image,), (words,) = widgets("SelectionSlider"), widgets("Image"), widgets("Label")
    assert (slider.options, slider.value) == ([1, 2, 3, 4], 4)
    last = image.value
    slider.told["value"]({"new": 2})
    assert image.value != last
    assert words.value == "step 2 / 4 · σ 0.5 · d"
    assert set(cell.last) == {TEXT, JPEG, VIEW}


def test_widgets_that_are_asked_for_and_not_there_are_an_error(cell):
    screen = NotebookScreen(widgets=True)
    screen.open()
    with pytest.raises(SinkError, match=re.escape("pip install ipywidgets")):
        screen.show(picture_of(1))
    screen.close("failed")
