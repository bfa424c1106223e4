"""Each step that is shown or written is the picture of that step's own latents, on a real server."""

import csv
import io
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space_table import SPACES
from safetensors.torch import load_file

from ... import older

STEPS = 8
PREVIEW = "2"
CASES = {"Flux": "png", "SD15": "webp", "Flux2": "jpg", "Wan21": "png"}  # latent format: file format
MAX_ERROR = {"png": 1.0, "webp": 6.0, "jpg": 12.0}  # of 255, mean of a picture
APART = 1.5  # of 255: pictures that differ less are of steps that the sampler hardly changed


class Watched:
    """A run, the latents of its steps as the sampler's callback got them, and what a client was shown.

    `live` has the picture that was fetched for each step when its event arrived, by index.
    """

    def __init__(self, server, wire, latent_format, file_format, show="denoised", **more):
        name = f"{latent_format}_{show}"
        preview = {"write_intermediates": True, "filename_prefix": f"each/{name}", "file_format": file_format}
        preview |= {"batch": "first", "show": show, "keep_latents": True, "write_csv": True, **more}
        flow = latent_format != "SD15"
        graph = wire(
            latent_format, preview=preview, steps=STEPS, flow=flow, frames=3, step_ms=150.0, spy=f"each/{name}", seed=7
        )
        self.live, self._server = {}, server
        played = server.play(graph, workflow={"id": f"each {name}"}, on_event=self._look)
        assert played.ends == ["execution_success"], played.named("execution_error")
        self.folder = max((server.output / "each").glob(f"{name}_0*"))
        self.manifest = json.loads((self.folder / "run.json").read_text())
        self.spied = load_file(max((server.output / "each").glob(f"{name}_[0-9].safetensors")))
        self.space = SPACES[self.manifest["space"]]
        found = Catalogue().candidates(self.space)
        decoder = next(one for one in found if one.card.name == self.manifest["decoder"]["name"]).open()
        noisy = self.spied["x"] if flow else None
        steps = self.spied["x0"] if show == "denoised" else noisy
        self.expected = [self._decoded(decoder, latents) for latents in steps]

    def _look(self, event):
        """Fetches the picture of a step as a page does when the event arrives."""
        if event.name == "safelight.step" and event.data.get("files"):
            address = f"/safelight/runs/{event.data['run']}/{event.data['files'][0]}"
            self.live[event.data["index"]] = self._server.get(address).body

    def _decoded(self, decoder, latents):
        latents = self.space.unpack(latents[:1].float())[:, :, :1]
        with torch.no_grad():
            [frame, *_] = decoder.frames(latents)
        return (frame[0].movedim(0, -1) * 255).round().clamp(0, 255).numpy().astype(np.uint8)

    def assert_is(self, picture, index, most):
        """Asserts that a picture is that of a step, and of no other one that differs from it."""
        pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), dtype=np.float64)
        errors = [np.abs(pixels - expected).mean() for expected in self.expected]
        assert errors[index - 1] < most, f"step {index}: {errors}"
        assert errors[index - 1] < min(errors) + APART / 2, f"step {index} is the picture of another step: {errors}"


@pytest.fixture(scope="module", params=CASES)
def watched(request, server, wire):
    formats = server.inputs_of("LabModel")["latent_format"][0]
    older.expect(request.param in formats, "ComfyUI", server.version, f"latent format {request.param}")
    return Watched(server, wire, request.param, CASES[request.param])


def between(watched):
    """The mean difference of each step from the one before it."""
    return [np.abs(a.astype(float) - b).mean() for a, b in itertools.pairwise(watched.expected)]


def assert_steps_differ(watched):
    apart = between(watched)
    assert sum(difference > APART for difference in apart) >= 2, apart


def test_each_file_is_the_picture_of_its_own_step(watched):
    if watched.manifest["space"] != "sd1":  # its lab model predicts its target from the first step
        assert_steps_differ(watched)
    assert [step["index"] for step in watched.manifest["steps"]] == list(range(1, STEPS + 1))
    for step in watched.manifest["steps"]:
        [name] = step["files"]
        stem, _, ending = name.rpartition(".")
        assert stem == f"step_{step['index']:04d}"
        watched.assert_is((watched.folder / name).read_bytes(), step["index"], MAX_ERROR[ending])


def test_each_picture_that_a_page_fetches_is_that_of_the_step_in_the_event(watched):
    assert len(watched.live) >= STEPS // 2, "a busy machine skips steps on the screen"
    assert STEPS in watched.live
    for index, picture in watched.live.items():
        watched.assert_is(picture, index, MAX_ERROR["jpg"])


def test_the_live_run_keeps_each_picture_under_its_own_step(watched, server):
    [run] = server.get(f"/safelight/runs?workflow=each%20{watched.folder.name[:-6]}&node={PREVIEW}").json()
    steps = server.get(f"/safelight/runs/{run['id']}").json()["steps"]
    assert len(steps) == len([step for step in steps if step["files"]]) >= STEPS // 2
    for step in steps:
        picture = server.get(f"/safelight/runs/{run['id']}/{step['files'][0]}").body
        watched.assert_is(picture, step["index"], MAX_ERROR["jpg"])


def test_the_latents_of_each_step_are_its_own(watched):
    for step in watched.manifest["steps"]:
        latents = load_file(watched.folder / step["latent"])
        assert torch.equal(latents["denoised"].float(), watched.spied["x0"][step["index"] - 1].float())
        expected = watched.spied["x"][step["index"] - 2] if step["index"] > 1 else None
        assert expected is None or latents["noisy"].shape == expected.shape


def test_each_line_of_the_table_names_the_file_of_its_step(watched):
    with (watched.folder / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["index"]), row["file"]) for row in rows] == [
        (step["index"], step["files"][0]) for step in watched.manifest["steps"]
    ]


def test_noisy_steps_are_the_sampler_s_own_latents(server, wire):
    watched = Watched(server, wire, "Flux", "png", show="noisy")
    assert sum(distance > 2 * APART for distance in between(watched)) >= STEPS // 2
    assert {step["show"] for step in watched.manifest["steps"]} == {"noisy"}
    for step in watched.manifest["steps"]:
        watched.assert_is((watched.folder / step["files"][0]).read_bytes(), step["index"], MAX_ERROR["png"])


@pytest.mark.parametrize("animation", ["webp", "gif"])
def test_the_animation_has_the_steps_in_their_order(server, wire, animation):
    watched = Watched(server, wire, "Flux", "png", show="noisy", animation=animation, animation_hold_s=0.0)
    with Image.open(watched.folder / f"steps.{animation}") as movie:
        frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(movie)]
    assert len(frames) == STEPS
    for index, frame in enumerate(frames, 1):
        height, width = watched.expected[0].shape[:2]
        small = np.asarray(frame.resize((width, height), Image.Resampling.BOX), dtype=np.float64)
        errors = [np.abs(small - expected).mean() for expected in watched.expected]
        assert errors[index - 1] < min(errors) + APART, (index, errors)
