"""The cell of a notebook, with stand-ins for IPython and ipywidgets that record their calls."""

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
from safelight.errors import PageError, SinkError, printable
from safelight.hosts.script import recording
from safelight.preview.picture import DecodedPicture
from safelight.preview.run import Run
from safelight.preview.step import Step, StepInfo
from safelight.screens import notebook
from safelight.screens.auto import screen_here
from safelight.screens.notebook import (
    HTML_TYPE,
    JPEG_TYPE,
    TEXT_TYPE,
    NotebookScreen,
    _still_with_words,
    has_subshells,
    notebook_picture,
)

WIDGET_TYPE = "application/vnd.jupyter.widget-view+json"


class Cell:
    """The displays of a cell, each with all its updates."""

    def __init__(self):
        self.displays = []
        self.execution_count = object()  # like no other cell's
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
    created = ()

    def __init__(self, children=(), **settings):
        self.children, self.closed, self.observers = children, False, {}
        self.layout = types.SimpleNamespace(close=lambda: None)
        self.comm = types.SimpleNamespace(_reply_subshell_id=None)
        vars(self).update({name: value for name, value in settings.items() if name != "layout"})
        Widget.created = (*Widget.created, self)

    def on_click(self, action):
        self.click = action

    def observe(self, action, name):
        self.observers[name] = action

    def close(self):
        self.closed = True

    def _repr_mimebundle_(self):
        return {WIDGET_TYPE: {"model_id": "a"}, TEXT_TYPE: "VBox()"}


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
    """A notebook with ipywidgets; returns a function that returns all widgets of a class."""
    Widget.created = ()
    class_names = ("Image", "IntProgress", "HTML", "Button", "HBox", "VBox", "SelectionSlider")
    module = types.SimpleNamespace(**{name: type(name, (Widget,), {}) for name in class_names})
    monkeypatch.setitem(sys.modules, "ipywidgets", module)
    return lambda name: [widget for widget in Widget.created if type(widget).__name__ == name]


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
    return Image.open(io.BytesIO(base64.b64decode(bundle[JPEG_TYPE])))


def embedded_run(bundle):
    """Returns the data of the page in a bundle."""
    page = unescape(re.search(r'srcdoc="([^"]*)"', bundle[HTML_TYPE])[1])
    return json.loads(re.search(r'<script type="application/json" id="safelight">(.*?)</script>', page)[1])


def frozen():
    return 0.0


# Without ipywidgets


def test_one_display_is_updated_and_ends_with_the_viewer_and_the_last_picture(cell):
    run_in(NotebookScreen(), *map(picture_of, range(1, 5)))
    (changes,) = cell.displays
    assert set(changes[0][0]) == {TEXT_TYPE, JPEG_TYPE}
    assert set(cell.last) == {TEXT_TYPE, JPEG_TYPE, HTML_TYPE}
    assert cell.last[TEXT_TYPE] == "step 4 / 4 · σ 0.5 · d"
    assert jpeg_of(cell.last).size == (12, 8)
    assert changes[-1][1] == {JPEG_TYPE: {"width": 96, "height": 64}}


def test_the_viewer_has_every_shown_step(cell):
    run_in(NotebookScreen(), *map(picture_of, range(1, 5)))
    run_data = embedded_run(cell.last)
    assert [step["index"] for step in run_data["manifest"]["steps"]] == [1, 2, 3, 4]
    assert set(run_data["pictures"]) == {f"step_{index:04d}.jpg" for index in range(1, 5)}
    for name, data in run_data["pictures"].items():
        decoded = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
        original = picture_of(int(name[5:9])).first
        assert np.abs(decoded - original).mean() < 40, "JPEG changes noise; the pictures of two steps differ by 85"
    assert run_data["manifest"]["state"] == "finished"
    assert run_data["manifest"]["sampler"]["steps"] == 4, "from the pictures, if the run does not state it"
    assert run_data["manifest"]["picture"]["shown_width"] == 96


def test_texts_of_the_run_cannot_end_the_script_or_the_frame(cell):
    run = Run(sampler={"name": '</script><script>alert(1)</script>"><img src=x onerror=alert(2)>'})
    screen = NotebookScreen()
    screen.follow(run)
    run_in(screen, picture_of(1, decoder='"><script>alert(3)</script>'))
    assert cell.last[HTML_TYPE].count("<script") == 0
    assert cell.last[HTML_TYPE].count("<img") == 1
    page = unescape(re.search(r'srcdoc="([^"]*)"', cell.last[HTML_TYPE])[1])
    assert page.count("<script") == page.count("</script>") == 3  # the texts, the run, the viewer
    assert embedded_run(cell.last)["manifest"]["sampler"]["name"] == run.sampler["name"]


def test_the_viewer_shows_seed_and_notes_of_a_followed_run(cell):
    run = Run(sampler={"seed": 7, "steps": 4}, space="sd1")
    screen = NotebookScreen()
    screen.follow(run)
    screen.open()
    screen.show(picture_of(1))
    run.note("stopped using a decoder")
    screen.close("interrupted")
    manifest = embedded_run(cell.last)["manifest"]
    assert (manifest["id"], manifest["sampler"]["seed"], manifest["state"]) == (run.id, 7, "interrupted")
    assert manifest["notes"] == ["stopped using a decoder"]
    assert cell.last[TEXT_TYPE] == "interrupted at step 1 / 4 · σ 0.5 · d"
    run_in(screen, picture_of(1))
    assert embedded_run(cell.last)["manifest"]["id"] != run.id, "the next run has another id"


def test_the_rate_of_live_pictures_is_limited_and_the_last_is_always_shown(cell):
    run_in(NotebookScreen(clock=frozen), *map(picture_of, range(1, 5)))
    (changes,) = cell.displays
    assert [bundle[TEXT_TYPE].split(" · ")[0] for bundle, _ in changes] == ["step 1 / 4", "step 4 / 4", "step 4 / 4"]


def test_steps_are_skipped_if_pictures_are_too_large_but_not_the_last(cell):
    big = [picture_of(index, shape=(1, 1, 200, 300)) for index in range(1, 5)]
    run_in(NotebookScreen(max_bytes=int(2.5 * len(notebook_picture(big[0]).jpeg))), *big)
    run_data = embedded_run(cell.last)
    assert set(run_data["pictures"]) == {"step_0002.jpg", "step_0004.jpg"}
    assert [len(step["files"]) for step in run_data["manifest"]["steps"]] == [0, 1, 0, 1]
    (note,) = run_data["manifest"]["notes"]
    assert note.startswith("one step of 2 is in this notebook")


def test_the_budget_is_that_of_the_cell_and_not_of_each_run_in_it(cell):
    big = [picture_of(index, 12, shape=(1, 1, 500, 500), shown=(500, 500)) for index in range(1, 13)]
    one = len(notebook_picture(big[0]).jpeg)
    limit = 30 * one
    for _ in range(12):
        run_in(NotebookScreen(max_bytes=limit), *big)
    last = [changes[-1][0] for changes in cell.displays]
    assert len(last) == 12
    assert len(embedded_run(last[0])["pictures"]) == 12, "the first run of a cell is as before"
    viewers = [bundle for bundle in last if "srcdoc" in bundle[HTML_TYPE]]
    assert 2 <= len(viewers) < 12
    assert sum(len(bundle[HTML_TYPE]) for bundle in viewers) < 1.5 * limit + 12 * len(last[0][JPEG_TYPE])
    assert "for all runs of this cell" in embedded_run(viewers[-1])["manifest"]["notes"][-1]
    for bundle in last[len(viewers) :]:
        assert "step 12 / 12 · σ 0.5 · d. Only the last step is shown" in bundle[HTML_TYPE]
        assert len(bundle[HTML_TYPE]) < 2 * one
    cell.execution_count = object()
    run_in(NotebookScreen(max_bytes=limit), *big)
    assert len(embedded_run(cell.last)["pictures"]) == 12, "the next cell has a budget of its own"


def test_large_pictures_are_shrunk_for_a_notebook(cell):
    run_in(NotebookScreen(), picture_of(1, shape=(1, 1, 600, 1200), shown=(1200, 600)))
    assert jpeg_of(cell.last).size == (512, 256)


def test_a_batch_is_one_live_picture_and_separate_pictures_in_the_viewer(cell):
    run_in(NotebookScreen(), picture_of(1, shape=(4, 1, 8, 12)))
    assert jpeg_of(cell.last).width > 20
    assert set(embedded_run(cell.last)["pictures"]) == {f"step_0001_item_0{i}.jpg" for i in range(1, 5)}


def test_a_video_is_an_animation_in_the_viewer(cell):
    run_in(NotebookScreen(), picture_of(1, shape=(1, 5, 8, 12), fps=16.0))
    assert set(embedded_run(cell.last)["pictures"]) == {"step_0001.webp"}
    assert jpeg_of(cell.last).size == (12, 8)


def test_a_run_without_a_step_displays_nothing(cell):
    run_in(NotebookScreen(), state="failed")
    assert cell.displays == []


def test_without_the_viewer_the_last_picture_remains(cell, monkeypatch):
    run_in(NotebookScreen(viewer=False), picture_of(1))
    assert set(cell.last) == {TEXT_TYPE, JPEG_TYPE}

    def incomplete(*_):
        raise PageError("web/embedded.mjs cannot be read")

    monkeypatch.setattr(notebook, "embedded_page", incomplete)
    run_in(NotebookScreen(), picture_of(1))
    assert set(cell.last) == {TEXT_TYPE, JPEG_TYPE}


def test_each_run_has_its_own_display_and_leaves_no_file(cell, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    screen = NotebookScreen()
    for _ in range(2):
        run_in(screen, picture_of(1))
    assert len(cell.displays) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_real_run_is_shown_in_the_cell(cell, tmp_path):
    import torch

    with recording(tmp_path / "run", SPACES["sd1"], sinks=[NotebookScreen()]) as (pipeline, folder):
        for index in (1, 2):
            pipeline.offer(Step(index=index, total=2, sigma=1 / index, denoised=torch.zeros(1, 4, 6, 8)))
    assert folder.manifest()["notes"] == []
    assert len(embedded_run(cell.last)["pictures"]) == 2


def test_the_size_is_that_of_the_final_image_up_to_the_limit_of_a_cell():
    assert notebook_picture(picture_of(1, shown=(96, 64))).size == (96, 64)
    assert notebook_picture(picture_of(1, shown=(3000, 2000))).size == (512, 341)
    assert notebook_picture(picture_of(1, shape=(4, 1, 8, 12), shown=(96, 64))).size[0] == pytest.approx(200, abs=1)


def test_in_a_notebook_the_screen_is_the_cell(cell):
    assert isinstance(screen_here(), NotebookScreen)


# With ipywidgets


def test_a_running_cell_shows_an_image_and_leaves_no_widget(cell, widgets):
    screen = NotebookScreen()
    screen.open()
    screen.show(picture_of(1))
    (image,) = widgets("Image")
    assert Image.open(io.BytesIO(image.value)).size == (12, 8)
    assert WIDGET_TYPE in cell.last
    assert JPEG_TYPE in cell.last, "a notebook that is saved now must have a picture"
    screen.close("finished")
    assert set(cell.last) == {TEXT_TYPE, JPEG_TYPE, HTML_TYPE}
    assert all(widget.closed for widget in Widget.created)


def test_there_is_a_stop_button_if_the_kernel_has_subshells(cell, widgets):
    stopped = []
    screen = NotebookScreen()
    screen.follow(Run(), lambda: stopped.append(True))
    screen.open()
    screen.show(picture_of(1))
    (button,) = widgets("Button")
    assert vars(button.comm) == {}, "clicks would wait until the cell has ended"
    button.click(button)
    assert stopped == [True]
    assert (button.disabled, button.description) == (True, "Stopping")
    screen.close("interrupted")


def test_there_is_no_stop_button_without_a_stop_function_or_subshells(cell, widgets):
    run_in(NotebookScreen(), picture_of(1))  # without a stop function
    cell.kernel = types.SimpleNamespace()  # before ipykernel 7
    screen = NotebookScreen()
    screen.follow(Run(), lambda: None)
    run_in(screen, picture_of(1))
    assert widgets("Button") == []
    assert not has_subshells()


def test_without_the_viewer_there_is_a_slider(cell, widgets):
    run_in(NotebookScreen(viewer=False, clock=iter(range(100)).__next__), *map(picture_of, range(1, 5)))
    (slider,), (image,), (caption,) = widgets("SelectionSlider"), widgets("Image"), widgets("HTML")
    assert (slider.options, slider.value) == ([1, 2, 3, 4], 4)
    last = image.value
    slider.observers["value"]({"new": 2})
    assert image.value != last
    assert caption.value == "step 2 / 4 · σ 0.5 · d"
    assert set(cell.last) == {TEXT_TYPE, JPEG_TYPE, WIDGET_TYPE}


HOSTILE_NAME = "x<img src=//a.example/b onerror=alert(1)>_*$x$\x1b[2J\n\u202e"


def test_a_name_is_text_in_a_widget(cell, widgets):
    run_in(NotebookScreen(viewer=False), picture_of(1, decoder=HOSTILE_NAME))
    (caption,) = widgets("HTML")
    assert "<" not in caption.value
    assert unescape(caption.value) == f"step 1 / 4 · σ 0.5 · {printable(HOSTILE_NAME)}"
    assert cell.last[TEXT_TYPE].isprintable()


def test_a_name_is_text_in_a_cell_without_room_for_the_viewer(cell):
    html = _still_with_words("", notebook_picture(picture_of(1, decoder=HOSTILE_NAME)), "6 MB")
    assert html.count("<img") == 1
    assert html.count("<p") == 1
    assert printable(HOSTILE_NAME) in unescape(html)
    assert 'class="tex2jax_ignore mathjax_ignore"' in html, "a name with $ would become a formula"


def test_requested_widgets_that_are_not_installed_are_an_error(cell):
    screen = NotebookScreen(widgets=True)
    screen.open()
    with pytest.raises(SinkError, match=re.escape("pip install ipywidgets")):
        screen.show(picture_of(1))
    screen.close("failed")
