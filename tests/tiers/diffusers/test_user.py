"""What a Python user does with a run: look at it, print it, show it again, decode it with a model of their own."""

import threading
import webbrowser

import diffusers
import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from PIL import Image
from safelight.errors import GoneError, OptionError
from safelight.hosts.diffusers import Previews, show, watch
from safelight.hosts.diffusers.options import WatchOptions
from safelight.hosts.gradio import background_call
from safelight.hosts.gradio.background_call import previews

SD1 = tiny.FAMILIES["StableDiffusion"]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def opened(monkeypatch):
    """The addresses that a browser opened; no terminal that can draw."""
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    monkeypatch.setattr(show, "graphics_here", lambda: "line")
    return opened


def test_reprs_are_one_short_line(sd1, tmp_path):
    with watch(sd1, tmp_path, screen="off") as run:
        assert repr(run) == "<WatchedPipeline StableDiffusionPipeline: no run yet>"
        SD1.run(sd1)
    count = len(run.pictures)
    newest = f"<WatchedRun: finished, {count} pictures, {tmp_path / 'steps_00001'}>"
    assert repr(run.runs[0]) == newest
    assert repr(run) == f"<WatchedPipeline StableDiffusionPipeline: 1 run, the newest {newest}>"
    assert repr(run.pictures[0]).startswith(f"<step 1 of {count}, sigma ")
    assert repr(Previews(sd1, screen="off")) == "<Previews: <WatchedPipeline StableDiffusionPipeline: no run yet>>"


def test_a_run_with_files_is_shown_in_a_browser(sd1, tmp_path, opened):
    with watch(sd1, tmp_path, screen="off") as run:
        SD1.run(sd1)
    run.show()
    run.runs[0].show()
    assert opened == [(tmp_path / "steps_00001" / "index.html").as_uri()] * 2


def test_without_a_browser_the_path_of_the_page_is_printed(sd1, tmp_path, opened, monkeypatch, capsys):
    monkeypatch.setattr(webbrowser, "open", lambda _: False)
    with watch(sd1, tmp_path, screen="off") as run:
        SD1.run(sd1)
    run.show()
    assert str(tmp_path / "steps_00001" / "index.html") in capsys.readouterr().out


def test_a_run_without_files_is_shown_as_its_last_picture(sd1, opened, monkeypatch, capsys):
    with watch(sd1, screen="off") as run:
        SD1.run(sd1)
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image))
    run.show()
    assert (np.asarray(shown[0]) == run.pictures[-1].first).all()
    monkeypatch.setattr(show, "graphics_here", lambda: "blocks")
    run.show()
    assert "▀" in capsys.readouterr().err
    assert (len(shown), opened) == (1, [])


def test_in_a_notebook_the_cell_shows_the_run_again(sd1, monkeypatch):
    from safelight.screens import notebook

    replayed = []

    class Screen:
        def follow(self, run, stop=None):
            replayed.append(run)

        def open(self):
            pass

        def show(self, picture):
            replayed.append(picture.index)

        def close(self, state):
            replayed.append(state)

    with watch(sd1, screen="off") as run:
        SD1.run(sd1)
    monkeypatch.setattr(show, "in_notebook", lambda: True)
    monkeypatch.setattr(notebook, "NotebookScreen", Screen)
    run.show()
    indices = [picture.index for picture in run.pictures]
    assert replayed == [run.runs[0].run, *indices, "finished"]


def test_without_a_run_or_a_picture_there_is_nothing_to_show(sd1, opened):
    with watch(sd1, screen="off") as run, pytest.raises(GoneError, match="there is no run to show yet"):
        run.show()
    with watch(sd1, screen="off") as run:
        SD1.run(sd1)
    run.runs[0].forget_pictures()
    with pytest.raises(GoneError, match="there is no picture to show"):
        run.show()


class Caller:
    """A pipeline whose call is the family's own."""

    def __init__(self, pipe):
        self._pipe = pipe

    def __getattr__(self, name):
        return getattr(self._pipe, name)


def test_two_users_of_a_real_pipeline_take_turns(sd1, monkeypatch):
    alone = SD1.run(sd1)
    monkeypatch.setattr(background_call, "watch", lambda caller, **options: watch(sd1, **options))
    monkeypatch.setattr(Caller, "__call__", lambda caller: SD1.run(sd1), raising=False)
    caller, results = Caller(sd1), []

    def use():
        steps = previews(caller)
        count = 0
        try:
            while True:
                next(steps)
                count += 1
        except StopIteration as stop:
            results.append((count, stop.value))

    users = [threading.Thread(target=use) for _ in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    assert len(results) == 3
    for count, result in results:
        assert count >= 1
        assert np.array_equal(result, alone)


@pytest.fixture
def small_vae():
    torch.manual_seed(0)
    return diffusers.AutoencoderTiny()


def test_an_object_of_a_small_vae_decodes_the_previews(sd1, small_vae):
    final = {}
    with watch(sd1, screen="off", decoder=small_vae) as run:
        SD1.run(sd1, callback_on_step_end=lambda _pipe, _i, _t, kwargs: final.update(kwargs) or kwargs)
    assert run.notes == []
    picture = run.pictures[-1]
    assert picture.decoder == "AutoencoderTiny"
    assert picture.card.source == "an object of the class AutoencoderTiny"
    with torch.no_grad():
        rgb = small_vae.decode(final["latents"].float()).sample / 2 + 0.5
    expected = (rgb.clamp(0, 1) * 255).round()[0].permute(1, 2, 0).numpy()
    assert np.abs(picture.first.astype(int) - expected).max() <= 1


def test_a_half_precision_object_is_copied_in_full_precision(small_vae):
    options = WatchOptions.of(decoder=small_vae.half())
    (candidate,) = options.objects
    first, second = candidate.open(), candidate.open()
    assert first.net is not second.net
    assert {tensor.dtype for tensor in first.net.state_dict().values()} == {torch.float32}
    assert next(small_vae.parameters()).dtype == torch.float16
    assert options.run.decoder == "AutoencoderTiny"


def test_an_object_that_is_no_small_decoder_is_refused(sd1):
    with pytest.raises(OptionError, match="decoder: expected a name, or a small decoder such as AutoencoderTiny"):
        watch(sd1, decoder=torch.nn.Linear(2, 2)).__enter__()


@pytest.mark.parametrize(
    ("wrong", "nearest"), [("every_n_step", "every_n_steps"), ("decodr", "decoder"), ("sheets", "sheet")]
)
@pytest.mark.parametrize("watcher", [lambda *args, **kwargs: watch(*args, **kwargs).__enter__(), Previews])
def test_a_typo_in_an_option_names_watch_and_the_nearest_option(sd1, watcher, wrong, nearest):
    with pytest.raises(TypeError, match=rf"^watch\(\) has no option '{wrong}'; did you mean {nearest}\?$"):
        watcher(sd1, **{wrong: 1})


def test_an_option_that_is_like_no_other_names_watch():
    with pytest.raises(TypeError, match=r"^watch\(\) has no option 'zzz'$"):
        WatchOptions.of(zzz=1)
