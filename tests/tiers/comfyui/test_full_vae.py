"""Decoder full on a real server: the VAE decodes the last picture or some, and the result is the same."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

STEPS = 5
VAE, DECODE, SAVE, PICK = "30", "31", "32", "33"
SIZE, CHEAP = (192, 128), (48, 32)


@pytest.fixture
def kept(request, server, wire):
    """Runs a job with decoder full and the same without the node; returns its manifest and pictures."""
    name = re.sub(r"\W+", "_", request.node.name)

    def play(latent_format="SD15", *, preview=None, vae=None, more=None, ends="execution_success", **settings):
        told = {"decoder": "full", "vae": [VAE, 0], "write_intermediates": True, "filename_prefix": f"full/{name}"}
        on_event = settings.pop("on_event", None)
        graph = wire(latent_format, preview=told | (preview or {}), spy=f"spied/{name}", **{"steps": STEPS, **settings})
        graph[VAE] = {"class_type": "LabDecoder", "inputs": {"tiny": True, "broken": False, **(vae or {})}}
        if more is not None:
            more(graph)
        watched = server.play(graph, on_event=on_event)
        assert watched.ends == [ends], watched.named("execution_error")
        if ends == "execution_success":
            bare = server.play(wire.without_preview(graph))
            assert watched.digest == bare.digest, "the sampler's result differs"
            assert not watched.held
        folder = server.output / f"full/{name}_00001"
        manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        play.played = watched
        return manifest, {step["index"]: picture(folder / step["files"][0]) for step in manifest["steps"]}

    play.name = name
    return play


def picture(path):
    return Image.open(io.BytesIO(path.read_bytes())).convert("RGB")


def by_vae(manifest, pictures):
    """The steps that the manifest attributes to the VAE; only their pictures have its size."""
    told = [step["index"] for step in manifest["steps"] if step.get("decoder") == "full"]
    assert [index for index, image in pictures.items() if image.size == SIZE] == told
    return told


def decoding(name, *, step=None):
    """Adds nodes that decode the sampler's result, or the model's estimate at a step, and save the image."""

    def add(graph):
        source = ["4", 0]
        if step is not None:
            graph["2"]["inputs"]["keep_latents"] = True
            inputs = {"steps": ["2", 1], "after_sampling": ["4", 0], "step": step}
            graph[PICK] = {"class_type": "SafelightPickStep", "inputs": inputs}
            source = [PICK, 1]
        graph[DECODE] = {"class_type": "VAEDecode", "inputs": {"samples": source, "vae": [VAE, 0]}}
        saved = {"images": [DECODE, 0], "filename_prefix": f"full/host_{name}"}
        graph[SAVE] = {"class_type": "SaveImage", "inputs": saved}

    return add


def hosts(server, name):
    return picture(next((server.output / "full").glob(f"host_{name}_*.png")))


def assert_same(ours, theirs):
    """Checks that two pictures are equal, except that ComfyUI truncates to bytes and Safelight rounds."""
    apart = np.abs(np.asarray(ours).astype(int) - np.asarray(theirs))
    assert apart.max() <= 1


def test_the_last_step_equals_vae_decode_of_the_result(kept, server):
    manifest, pictures = kept(more=decoding(kept.name))
    assert by_vae(manifest, pictures) == [STEPS]
    assert manifest["notes"] == []
    assert manifest["decoder"]["name"] != "full"
    assert_same(pictures[STEPS], hosts(server, kept.name))
    assert np.asarray(pictures[STEPS]).std() > 5


@pytest.mark.parametrize(("every", "steps"), [(2, [2, 4, 5]), (4, [4, 5])])
def test_the_vae_decodes_every_nth_step_too(kept, every, steps):
    manifest, pictures = kept(preview={"full_every_n_steps": every}, sampler="euler_ancestral")
    assert by_vae(manifest, pictures) == steps
    assert manifest["notes"] == []


def test_a_run_with_only_vae_pictures_names_the_vae_as_its_decoder(kept):
    manifest, pictures = kept(preview={"full_every_n_steps": 1})
    assert (manifest["decoder"]["name"], manifest["decoder"]["scale"]) == ("full", 8)
    assert {image.size for image in pictures.values()} == {SIZE}


def test_an_earlier_step_equals_vae_decode_of_its_latents(kept, server):
    _, pictures = kept(preview={"full_every_n_steps": 3}, more=decoding(kept.name, step=3))
    assert_same(pictures[3], hosts(server, kept.name))


def test_every_nth_is_counted_in_pictures_not_steps(kept):
    manifest, pictures = kept(preview={"every_n_steps": 2, "full_every_n_steps": 2}, steps=8)
    assert list(pictures) == [1, 3, 5, 7, 8]
    assert by_vae(manifest, pictures) == [3, 7, 8]


def test_the_node_shows_the_vae_picture(kept, server):
    kept(preview={"batch": "all files"}, batch=2)
    run = kept.played.named("safelight.step")[-1].data["run"]
    step = server.get(f"/safelight/runs/{run}").json()["steps"][-1]
    assert (step["index"], step["decoder"], len(step["files"])) == (STEPS, "full", 2)
    for name in step["files"]:
        assert Image.open(io.BytesIO(server.get(f"/safelight/runs/{run}/{name}").body)).size == SIZE


def test_a_vae_that_does_not_fit_into_memory_adds_a_note(kept):
    manifest, pictures = kept(preview={"full_every_n_steps": 2}, vae={"need_mb": 10**9})
    assert {image.size for image in pictures.values()} == {CHEAP}
    [note] = manifest["notes"]
    assert "the VAE needs 1,000,000,000 MB on cpu, more than is free next to the model" in note


def test_a_vae_that_fails_adds_a_note(kept):
    manifest, pictures = kept(preview={"full_every_n_steps": 2}, vae={"fails": True})
    assert {image.size for image in pictures.values()} == {CHEAP}
    assert [note.split(": Attr")[0] for note in manifest["notes"]] == [
        f"step {n}: stopped using the VAE" for n in (2, 5)
    ]


def test_the_vae_of_another_model_adds_a_note(kept):
    manifest, pictures = kept("Flux", flow=True)
    assert {image.size for image in pictures.values()} == {CHEAP}
    [note] = manifest["notes"]
    assert "it decodes latents of 4 channels, this model's have 16: connect the model's own VAE" in note


def test_the_vae_of_another_pack_decodes_the_last_step(kept):
    manifest, pictures = kept(preview={"full_every_n_steps": 2}, vae={"tiny": False})
    assert by_vae(manifest, pictures) == [STEPS]
    assert manifest["notes"] == ["the VAE decodes the last step only: it is not one of ComfyUI's own VAEs"]


def test_cancel_during_a_vae_decode_cancels_the_run(kept, server):
    def stop(event):
        if event.name == "safelight.step" and event.data["index"] == 2:
            server.post("/interrupt", {})

    preview = {"full_every_n_steps": 1}
    more = {"steps": 200, "height": 64, "width": 64, "step_ms": 1.0}
    manifest, _ = kept(preview=preview, ends="execution_interrupted", on_event=stop, **more)
    assert manifest["state"] == "interrupted"
    assert len(manifest["steps"]) < 200
    assert manifest["notes"] == []


@pytest.mark.parametrize(
    ("change", "words"),
    [({"vae": None}, "connect the model's VAE to the input vae"), ({"show": "noisy"}, "set show to denoised")],
)
def test_settings_with_which_the_vae_cannot_decode_cost_a_note_not_the_prompt(server, wire, change, words):
    inputs = {"decoder": "full", "vae": [VAE, 0], **change}
    graph = wire(preview={key: value for key, value in inputs.items() if value is not None})
    graph[VAE] = {"class_type": "LabDecoder", "inputs": {"tiny": True, "broken": False}}
    played = server.play(graph)
    assert played.ends == ["execution_success"], played.named("execution_error")
    run = server.get(f"/safelight/runs/{played.named('safelight.run')[0].data['run']}").json()
    assert [note for note in run["notes"] if words in note and note.startswith("auto decodes the steps: ")]
    assert run["steps"][-1]["index"] == 4
    assert run["decoder"]["kind"] != "full"


def test_the_vae_decodes_a_video_that_is_the_batch(kept):
    preview = {"frames": "animated", "full_every_n_steps": 2}
    manifest, _ = kept(preview=preview, batch=3, video_batch="svd")
    assert (manifest["picture"]["frames"], manifest["notes"]) == (3, [])
    assert [step["index"] for step in manifest["steps"] if step.get("decoder") == "full"] == [2, 4, STEPS]
