"""What people may ask of a pipeline, and what they see of a run, from its folder."""

import zipfile
from types import SimpleNamespace

import pytest
from PIL import Image
from safelight.cli.main import main
from safelight.errors import PageError
from safelight.hosts.gradio import session
from safelight.hosts.gradio.session import FIELDS, RESULT, Session, call_arguments_of, fields_of, pack, pictures_of


class Plain:
    def __call__(self, prompt, num_inference_steps=28, guidance_scale=3.5, generator=None):
        pass


class Guided:
    def __call__(
        self, prompt=None, negative_prompt=None, height=None, width=None, num_inference_steps=50, guidance_scale=None
    ):
        pass


def test_only_what_the_pipeline_takes_is_asked_for_with_its_own_numbers():
    assert [(field.parameter, field.value) for field in fields_of(Plain())] == [
        ("prompt", ""),
        ("num_inference_steps", 28),
        ("guidance_scale", 3.5),
    ]
    assert [field.parameter for field in fields_of(Guided())] == [field.parameter for field in FIELDS]
    assert {field.parameter: field.value for field in fields_of(Guided())}["guidance_scale"] == 5.0


def test_what_is_left_empty_is_left_to_the_pipeline_but_for_a_guidance_of_none():
    values = ["", "", 8, 0, 0, None]
    assert call_arguments_of(fields_of(Guided()), values) == {
        "prompt": "",
        "num_inference_steps": 8,
        "guidance_scale": 0,
    }
    values = ["a lighthouse", "rain", 8, 2.5, 512, 768]
    assert call_arguments_of(fields_of(Guided()), values) == {
        "prompt": "a lighthouse",
        "negative_prompt": "rain",
        "num_inference_steps": 8,
        "guidance_scale": 2.5,
        "width": 512,
        "height": 768,
    }


class Call:
    """A call that has been made: two steps, and an image unless it is stopped."""

    calls = ()

    def __init__(self, pipeline, args, asked, options):
        self.asked, self.options, self.stopped, self.closed = asked, options, False, False
        folder = options["out"] / "steps_00001"
        folder.mkdir(parents=True)
        steps = [{"index": i, "sigma": 1.0 / i, "files": [f"step_000{i}.webp"]} for i in (1, 2)]
        steps.append({"index": 3, "sigma": None, "files": []})
        for step in steps[:2]:
            Image.new("RGB", (4, 4)).save(folder / step["files"][0])
        self.watching = SimpleNamespace(folder=folder, manifest=lambda: {"steps": steps}, notes=["a note"])
        Call.calls = (*Call.calls, self)

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
    monkeypatch.setattr(session, "BackgroundCall", Call)
    Call.calls = ()
    return lambda: Call.calls


def test_a_run_is_seen_step_by_step_and_then_in_files_the_finished_image_last(calls, tmp_path):
    seen = list(Session(Plain(), tmp_path, {"decoder": "auto"}).make("me", 7, {"prompt": "a lighthouse"}))
    assert [one.words for one in seen] == ["step 1 / 3 · σ 1", "step 2 / 3 · σ 0.5", "finished · seed 7 · a note"]
    assert {one.picture.size for one in seen} == {(32, 32)}
    assert seen[-1].picture.getpixel((0, 0)) == (9, 8, 7)
    folder = tmp_path / "steps_00001"
    assert seen[-1].steps == [
        (str(folder / "step_0001.webp"), "step 1 · σ 1"),
        (str(folder / "step_0002.webp"), "step 2 · σ 0.5"),
        (str(folder / RESULT), "finished"),
    ]
    (call,) = calls()
    assert call.asked["generator"].initial_seed() == 7
    assert call.asked["prompt"] == "a lighthouse"
    assert call.options == {"out": tmp_path, "enlarge": "lanczos", "file_format": "webp", "decoder": "auto"}
    assert call.closed


@pytest.mark.parametrize("seed", [None, -1])
def test_without_a_seed_there_is_one_that_is_told(calls, tmp_path, seed):
    *_, last = Session(Plain(), tmp_path, {}).make("me", seed, {})
    assert f"seed {calls()[0].asked['generator'].initial_seed()}" in last.words


def test_who_stops_keeps_what_is_there(calls, tmp_path):
    place = Session(Plain(), tmp_path, {})
    run = place.make("me", 7, {})
    next(run)
    assert place.stop("somebody else") == ""
    assert place.stop("me") == "stopping"
    *_, last = run
    assert last.words == "stopped at step 2 / 3 · σ 0.5 · seed 7 · a note"
    assert [caption for _, caption in last.steps] == ["step 1 · σ 1", "step 2 · σ 0.5"]
    assert not (tmp_path / "steps_00001" / RESULT).exists()
    assert last.picture.getpixel((0, 0)) == (90, 90, 90)
    assert place.stop("me") == ""


def test_who_goes_away_leaves_no_run_behind(calls, tmp_path):
    place = Session(Plain(), tmp_path, {})
    run = place.make("me", 7, {})
    next(run)
    run.close()
    assert calls()[0].closed
    assert place.stop("me") == ""


def test_a_folder_without_the_finished_image_lists_its_steps(tmp_path):
    assert pictures_of(tmp_path, {"steps": [{"index": 4, "sigma": None, "files": ["a.png", "b.png"]}]}) == [
        (str(tmp_path / "a.png"), "step 4")
    ]


def test_a_run_is_packed_with_everything_that_is_in_its_folder(tmp_path):
    folder = tmp_path / "steps_00001"
    (folder / "step_0001").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    (folder / "step_0001" / "frame_0001.png").write_bytes(b"png")
    place = tmp_path / "place"
    place.mkdir()
    with zipfile.ZipFile(pack(folder, place)) as archive:
        assert archive.namelist() == ["steps_00001/run.json", "steps_00001/step_0001/frame_0001.png"]
        assert archive.read("steps_00001/run.json") == b"{}"


def test_without_gradio_the_command_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    assert main(["gradio", "--pipeline", str(tmp_path)]) == 2
    assert "pip install gradio" in capsys.readouterr().err


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path):
    from safelight.hosts.gradio.app import load

    with pytest.raises(PageError, match="expected the folder of a pipeline"):
        load(tmp_path, None, None, offload=False)
    (tmp_path / "model_index.json").write_text("{}")
    pytest.importorskip("diffusers", reason="diffusers is not installed")
    with pytest.raises(PageError, match="diffusers cannot open it"):
        load(tmp_path, None, None, offload=False)
