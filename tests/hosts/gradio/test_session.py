"""The form of the page, the view of a run, and the files of a run."""

import os
from types import SimpleNamespace

import pytest
from PIL import Image
from safelight.cli.main import main
from safelight.errors import PageError
from safelight.hosts.gradio import session
from safelight.hosts.gradio.session import FIELDS, RESULT_NAME, Session, call_arguments_of, fields_of, pictures_of


class SimplePipeline:
    def __call__(self, prompt, num_inference_steps=28, guidance_scale=3.5, generator=None):
        pass


class GuidedPipeline:
    def __call__(
        self, prompt=None, negative_prompt=None, height=None, width=None, num_inference_steps=50, guidance_scale=None
    ):
        pass


def test_the_form_has_the_parameters_of_the_pipeline_with_its_defaults():
    assert [(field.parameter, field.value) for field in fields_of(SimplePipeline())] == [
        ("prompt", ""),
        ("num_inference_steps", 28),
        ("guidance_scale", 3.5),
    ]
    assert [field.parameter for field in fields_of(GuidedPipeline())] == [field.parameter for field in FIELDS]
    assert {field.parameter: field.value for field in fields_of(GuidedPipeline())}["guidance_scale"] == 5.0


def test_empty_fields_are_not_passed_except_a_guidance_of_zero():
    values = ["", "", 8, 0, 0, None]
    assert call_arguments_of(fields_of(GuidedPipeline()), values) == {
        "prompt": "",
        "num_inference_steps": 8,
        "guidance_scale": 0,
    }
    values = ["a lighthouse", "rain", 8, 2.5, 512, 768]
    assert call_arguments_of(fields_of(GuidedPipeline()), values) == {
        "prompt": "a lighthouse",
        "negative_prompt": "rain",
        "num_inference_steps": 8,
        "guidance_scale": 2.5,
        "width": 512,
        "height": 768,
    }


class FakeCall:
    """A call that has two steps, and an image unless it is stopped."""

    calls = ()

    def __init__(self, pipeline, args, arguments, options):
        self.arguments, self.options, self.stopped, self.closed = arguments, options, False, False
        folder = options["out"] / "steps_00001"
        folder.mkdir(parents=True)
        steps = [{"index": i, "sigma": 1.0 / i, "files": [f"step_000{i}.webp"]} for i in (1, 2)]
        steps.append({"index": 3, "sigma": None, "files": []})
        for step in steps[:2]:
            Image.new("RGB", (4, 4)).save(folder / step["files"][0])
        self.watched = SimpleNamespace(folder=folder, manifest=lambda: {"steps": steps}, notes=["a note"])
        FakeCall.calls = (*FakeCall.calls, self)

    def pictures(self):
        import numpy as np
        from safelight.decoders.decoder import Card
        from safelight.preview.picture import DecodedPicture
        from safelight.preview.step import StepInfo

        for index in (1, 2):
            yield DecodedPicture(
                step=StepInfo(index=index, total=3, sigma=1.0 / index),
                pixels=np.full((1, 1, 4, 4, 3), 90, np.uint8),
                shown=(32, 32),
                card=Card(name="d", space="sd1", kind="test"),
                decode_ms=1.0,
            )

    def stop(self):
        self.stopped = True

    def result(self):
        return SimpleNamespace(images=[Image.new("RGB", (32, 32), (9, 8, 7))])

    def close(self):
        self.closed = True


@pytest.fixture
def calls(monkeypatch):
    monkeypatch.setattr(session, "BackgroundCall", FakeCall)
    FakeCall.calls = ()
    return lambda: FakeCall.calls


def test_the_view_shows_each_step_and_then_all_files(calls, tmp_path):
    views = list(Session(SimplePipeline(), tmp_path, {"decoder": "auto"}).run("me", 7, {"prompt": "a lighthouse"}))
    assert [view.status for view in views] == ["step 1 / 3 · σ 1", "step 2 / 3 · σ 0.5", "finished · seed 7 · a note"]
    assert {view.picture.size for view in views} == {(32, 32)}
    assert views[-1].picture.getpixel((0, 0)) == (9, 8, 7)
    folder = tmp_path / "steps_00001"
    assert views[-1].steps == [
        ("step_0001.webp", "step 1 · σ 1"),
        ("step_0002.webp", "step 2 · σ 0.5"),
        (RESULT_NAME, "finished"),
    ]
    assert views[-1].folder == folder
    assert Image.open(folder / RESULT_NAME).getpixel((0, 0)) == (9, 8, 7)
    (call,) = calls()
    assert call.arguments["generator"].initial_seed() == 7
    assert call.arguments["prompt"] == "a lighthouse"
    assert call.options == {"out": tmp_path, "enlarge": "lanczos", "file_format": "webp", "decoder": "auto"}
    assert call.closed


@pytest.mark.parametrize("seed", [None, -1])
def test_without_a_seed_a_random_one_is_shown(calls, tmp_path, seed):
    *_, last = Session(SimplePipeline(), tmp_path, {}).run("me", seed, {})
    assert f"seed {calls()[0].arguments['generator'].initial_seed()}" in last.status


def test_a_stopped_run_shows_the_steps_so_far(calls, tmp_path):
    page = Session(SimplePipeline(), tmp_path, {})
    run = page.run("me", 7, {})
    next(run)
    assert page.stop("another browser") == ""
    assert page.stop("me") == "stopping"
    *_, last = run
    assert last.status == "stopped at step 2 / 3 · σ 0.5 · seed 7 · a note"
    assert [caption for _, caption in last.steps] == ["step 1 · σ 1", "step 2 · σ 0.5"]
    assert not (tmp_path / "steps_00001" / RESULT_NAME).exists()
    assert last.picture.getpixel((0, 0)) == (90, 90, 90)
    assert page.stop("me") == ""


def test_a_run_ends_when_the_browser_leaves(calls, tmp_path):
    page = Session(SimplePipeline(), tmp_path, {})
    run = page.run("me", 7, {})
    next(run)
    run.close()
    assert calls()[0].closed
    assert page.stop("me") == ""


def test_a_browser_that_begins_again_stops_its_newer_run(calls, tmp_path):
    """The end of an older run does not take the newer one away."""
    page = Session(SimplePipeline(), tmp_path / "a", {})
    older = page.run("me", 7, {})
    next(older)
    page._options["out"] = tmp_path / "b"  # the stand-in of a call always creates the same folder
    newer = page.run("me", 8, {})
    next(newer)
    older.close()
    assert page.stop("me") == "stopping"
    assert [call.stopped for call in calls()] == [False, True]
    newer.close()
    assert page.stop("me") == ""


def test_a_folder_without_the_final_image_lists_its_steps(tmp_path):
    assert pictures_of(tmp_path, {"steps": [{"index": 4, "sigma": None, "files": ["a.png", "b.png"]}]}) == [
        ("a.png", "step 4")
    ]


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_the_final_image_is_not_written_through_a_link(calls, tmp_path):
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_text("precious")
    run = Session(SimplePipeline(), tmp_path, {}).run("me", 7, {})
    next(run)
    (tmp_path / "steps_00001" / RESULT_NAME).symlink_to(elsewhere)
    list(run)
    assert elsewhere.read_text() == "precious"
    assert not (tmp_path / "steps_00001" / RESULT_NAME).is_symlink()


def test_without_gradio_the_command_names_the_package_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert main(["gradio", "--pipeline", str(tmp_path)]) == 2
    assert "pip install gradio" in capsys.readouterr().err


def test_a_folder_without_a_pipeline_is_refused(tmp_path):
    from safelight.hosts.gradio.app import load

    with pytest.raises(PageError, match="expected a folder of a pipeline"):
        load(tmp_path, None, None, offload=False)
    (tmp_path / "model_index.json").write_text("{}")
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    with pytest.raises(PageError, match="diffusers cannot open it"):
        load(tmp_path, None, None, offload=False)
