"""Failures on a real server: the sampler's result stays the same."""

import json
import re

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ... import older

PREVIEW, SAMPLER = "2", "4"


@pytest.fixture
def trouble(request, server, wire):
    """Runs a job that writes its steps, however it ends; returns the events, the graph and the folder."""
    name = re.sub(r"\W+", "_", request.node.name)

    def play(*, preview=None, on_event=None, **settings):
        server.inputs_of("SafelightPreview")
        inputs = {"write_intermediates": True, "filename_prefix": f"trouble/{name}", **(preview or {})}
        graph = wire(preview=inputs, **settings)
        return server.play(graph, on_event=on_event), graph, server.output / f"trouble/{name}_00001"

    return play


def manifest_of(folder):
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    listed = {name for step in manifest["steps"] for name in step["files"]}
    assert listed == {path.name for path in folder.glob("step_*")}
    for name in listed:
        with Image.open(folder / name) as picture:
            picture.load()
    assert not [path for path in folder.iterdir() if path.name not in listed | {"run.json", "index.html"}]
    return manifest


def test_a_cancelled_run_has_its_pictures_and_its_state(trouble, server, wire):
    def cancel(event):
        if event.name == "progress" and event.data["value"] == 5:
            server.post("/interrupt", {})

    played, _, folder = trouble(steps=60, step_ms=40.0, on_event=cancel)
    assert played.ends == ["execution_interrupted"]
    manifest = manifest_of(folder)
    assert manifest["state"] == "interrupted"
    assert 4 <= len(manifest["steps"]) < 20
    assert played.named("safelight.run")[-1].data["state"] == "interrupted"
    assert server.play(wire(preview={})).ends == ["execution_success"], "the server no longer samples"


def test_a_run_can_be_cancelled_at_its_first_step(trouble, server):
    def cancel(event):
        if event.name == "progress" and event.data["value"] == 1:
            server.post("/interrupt", {})

    played, _, folder = trouble(steps=60, step_ms=40.0, on_event=cancel)
    assert played.ends == ["execution_interrupted"]
    assert manifest_of(folder)["state"] == "interrupted"


def test_a_run_whose_model_raises_has_its_pictures_and_its_state(trouble):
    played, _, folder = trouble(steps=8, fail_at=4)
    assert played.ends == ["execution_error"]
    [error] = played.named("execution_error")
    assert error.data["node_id"] == SAMPLER
    assert "as it was asked to" in error.data["exception_message"]
    manifest = manifest_of(folder)
    assert manifest["state"] == "failed"
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3]
    assert manifest["notes"] == ["the sampler failed: RuntimeError: the lab's model fails here, as it was asked to"]


def test_a_model_may_raise_before_the_first_step(trouble):
    played, _, folder = trouble(fail_at=1)
    assert played.ends == ["execution_error"]
    if folder.exists():
        assert manifest_of(folder)["state"] == "failed"


def garbage(path):
    path.write_bytes(b"this is no safetensors file")


def not_numbers(path):
    mlp(path, channels=4, fill=float("nan"))


def of_another_space(path):
    mlp(path, channels=7, fill=0.1)


def mlp(path, *, channels, fill):
    layers = {"in_proj": (12, channels), "hidden_layers.0": (12, 12), "out_proj": (3, 12)}
    state = {f"{name}.weight": torch.full(shape, fill) for name, shape in layers.items()}
    save_file(state | {f"{name}.bias": torch.zeros(shape[0]) for name, shape in layers.items()}, path)


@pytest.mark.parametrize("make", [garbage, not_numbers, of_another_space], ids=lambda make: make.__name__)
def test_a_decoder_that_cannot_decode_only_adds_a_note(trouble, server, wire, make):
    name = f"lab_{make.__name__}.safetensors"
    make(server.models / "vae_approx" / name)
    options = server.inputs_of("SafelightPreview")["decoder"]
    offered = options[1]["options"] if options[0] == "COMBO" else options[0]
    [choice] = [option for option in offered if name in option]
    played, graph, folder = trouble(preview={"decoder": choice})
    assert played.ends == ["execution_success"]
    assert played.digest == server.play(wire.without_preview(graph)).digest
    manifest = manifest_of(folder)
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3, 4], "no other decoder showed the step"
    assert any(name in note for note in manifest["notes"]), manifest["notes"]
    assert "Traceback" not in server.log.rpartition("got prompt")[2]


def test_a_decoder_file_of_the_user_is_listed_and_used(trouble, server):
    mlp(server.models / "vae_approx" / "lab_good.safetensors", channels=4, fill=0.1)
    options = server.inputs_of("SafelightPreview")["decoder"]
    offered = options[1]["options"] if options[0] == "COMBO" else options[0]
    [choice] = [option for option in offered if "lab_good" in option]
    played, _, folder = trouble(preview={"decoder": choice})
    assert played.ends == ["execution_success"]
    manifest = manifest_of(folder)
    assert manifest["decoder"]["kind"] == "mlp"
    assert "lab_good" in manifest["decoder"]["name"]


def test_an_unknown_decoder_is_named_and_replaced(trouble, server):
    played, _, folder = trouble(preview={"decoder": "no-such-decoder"})
    if played.refusal is None:
        assert played.ends == ["execution_success"]
        assert any("no-such-decoder" in note for note in manifest_of(folder)["notes"])
    else:
        assert "no-such-decoder" in played.refusal


OUTSIDE = ["../outside/steps", "/outside/steps", "kept/../../outside/steps", "..\\outside\\steps"]


@pytest.mark.parametrize("prefix", OUTSIDE)
def test_a_prefix_outside_the_output_folder_writes_nothing_there(server, wire, prefix):
    played = server.play(wire(preview={"write_intermediates": True, "filename_prefix": prefix}))
    if played.refusal is not None:
        assert "output" in played.refusal
    elif played.ends == ["execution_error"]:
        [error] = played.named("execution_error")
        assert error.data["node_id"] == PREVIEW
        assert "output folder" in error.data["exception_message"]
    else:
        assert "\\" in prefix, "the path is inside only if a backslash is a letter"
    outside = [path for path in server.base.rglob("*outside*") if not path.is_relative_to(server.output)]
    assert outside == []
    assert not [path for path in (server.base.parent / "outside", server.base / "outside") if path.exists()]


def test_an_unwritable_output_folder_only_adds_a_note(trouble, server, wire):
    (server.output / "blocked").write_bytes(b"a file where a folder should be")
    played, graph, _ = trouble(preview={"filename_prefix": "blocked/steps"})
    if played.ends == ["execution_success"]:
        assert played.digest == server.play(wire.without_preview(graph)).digest
        run = played.named("safelight.run")[-1].data["run"]
        assert server.get(f"/safelight/runs/{run}").json()["notes"]
    else:
        assert played.named("execution_error")[0].data["node_id"] == PREVIEW


@pytest.mark.parametrize("latent_format", ["StableAudio1", "ACEAudio", "Hunyuan3Dv2", "HunyuanImage21Refiner", "Mochi"])
def test_latents_of_audio_and_points_are_shown(server, wire, latent_format):
    info = server.inputs_of("LabModel")["latent_format"][0]
    older.expect(latent_format in info, "ComfyUI", server.version, f"latent format {latent_format}")
    preview = {"write_intermediates": True, "filename_prefix": f"trouble/{latent_format}"}
    graph = wire(latent_format, flow=True, preview=preview, frames=3)
    played = server.play(graph)
    bare = server.play(wire.without_preview(graph))
    assert played.ends == bare.ends
    if bare.ends != ["execution_success"]:
        pytest.skip(f"the host itself does not sample it: {bare.named('execution_error')[0].data['exception_message']}")
    assert played.digest == bare.digest
    manifest = manifest_of(server.output / f"trouble/{latent_format}_00001")
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3, 4]


ASKED_FOR = ("the lab's model fails here", "outside the output folder", "Not a directory")


@pytest.fixture(scope="module", autouse=True)
def before(server):
    """Length of the log before the tests of this file, because tests of other files cause other errors."""
    return len(server.log)


def test_the_log_has_no_other_errors(server, before):
    """The last test: the log contains only errors that these tests caused."""
    log = server.log[before:]
    told = re.findall(r"Traceback \(most recent call last\):\n(?:.*\n)*?(?=\w*(?:Error|Exception)\b).*", log)
    assert [text for text in told if not any(reason in text for reason in ASKED_FOR)] == []
    assert "this run has no preview" not in log
