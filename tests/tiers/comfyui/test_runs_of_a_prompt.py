"""A prompt whose sampler is called several times on a real server: one folder, one page, and each run can be used."""

import json
import re

import pytest
from PIL import Image
from safelight.preview.manifest import read_manifest
from safelight.preview.run_library import RunLibrary
from safetensors.torch import load_file

from .conftest import run_folders

MODEL, PREVIEW, SAMPLER, DIGEST = "1", "2", "4", "5"
TILES, STEPS = 4, 2


@pytest.fixture
def tiled(wire):
    """Makes a graph that samples the quarters of a latent one after the other."""

    def build(prefix, **preview):
        preview = {"write_intermediates": True, "filename_prefix": prefix, **preview}
        graph = wire(preview=preview, steps=STEPS, height=16, width=16)
        stock = graph[SAMPLER]["inputs"]
        inputs = {key: stock[key] for key in ("model", "positive", "negative", "seed", "steps", "latent_image")}
        graph["again"] = {
            "class_type": "LatentUpscaleBy",
            "inputs": {"samples": inputs["latent_image"], "upscale_method": "nearest-exact", "scale_by": 2},
        }
        inputs |= {"denoise": 0.5, "latent_image": ["again", 0]}
        graph[SAMPLER] = {"class_type": "LabTiles", "inputs": inputs}
        return graph

    return build


def done(server, graph):
    played = server.play(graph)
    assert played.ends == ["execution_success"], played.refusal or played.named("execution_error")
    return played


def names(server, folder):
    return sorted(path.name for path in (server.output / folder).iterdir())


def data_of(page):
    return json.loads(re.search(r'id="safelight">(.*?)</script>', page.read_text(), re.DOTALL)[1])


def test_the_tiles_of_a_prompt_have_one_folder_and_one_page(server, tiled):
    done(server, tiled("tiles/steps", sheet=True))
    assert names(server, "tiles") == ["steps_00001"]
    files = ["run.json", "sheet.png", "step_0001.png", "step_0002.png"]
    inner = ["run_002", "run_003", "run_004"]
    assert names(server, "tiles/steps_00001") == sorted(["index.html", *files, *inner])
    for name in inner:
        assert names(server, f"tiles/steps_00001/{name}") == files
    first = server.output / "tiles/steps_00001"
    manifests = [read_manifest(folder) for folder in run_folders(first)]
    assert [manifest["page"] for manifest in manifests] == ["index.html", None, None, None]
    shown = data_of(first / "index.html")["runs"]
    assert [run.pop("folder", None) for run in shown] == [None, *inner]
    assert [run["id"] for run in shown] == [manifest["id"] for manifest in manifests]
    assert [(run["state"], len(run["steps"]), run["sheet"]) for run in shown] == [
        ("finished", STEPS, "sheet.png")
    ] * TILES
    assert [entry.facts["state"] for entry in RunLibrary(server.output / "tiles").runs().values()] == [
        "finished"
    ] * TILES


def test_the_next_prompt_has_a_folder_of_its_own(server, tiled, wire):
    done(server, tiled("next/steps"))
    done(server, tiled("next/steps"))
    done(server, wire(preview={"write_intermediates": True, "filename_prefix": "next/steps"}, steps=STEPS))
    assert names(server, "next") == ["steps_00001", "steps_00002", "steps_00003"]
    assert "run_004" in names(server, "next/steps_00002")
    assert names(server, "next/steps_00003") == ["index.html", "run.json", "step_0001.png", "step_0002.png"]
    assert data_of(server.output / "next/steps_00003/index.html")["format"] == "safelight.run/1"


def test_two_preview_nodes_of_a_prompt_have_folders_of_their_own(server, wire):
    graph = wire(preview={"write_intermediates": True, "filename_prefix": "two/steps"}, steps=STEPS)
    graph["second"] = json.loads(json.dumps(graph[PREVIEW]))
    graph["refine"] = json.loads(json.dumps(graph[SAMPLER]))
    graph["refine"]["inputs"] |= {"model": ["second", 0], "latent_image": [SAMPLER, 0], "denoise": 0.5}
    graph[DIGEST]["inputs"]["samples"] = ["refine", 0]
    done(server, graph)
    assert names(server, "two") == ["steps_00001", "steps_00002"]


def test_tokens_are_replaced_when_the_first_run_of_the_prompt_begins(server, tiled):
    graph = tiled("tokens/%date:hhmmss%")
    graph[MODEL]["inputs"]["step_ms"] = 200.0  # the four tiles take longer than a second
    done(server, graph)
    [first] = names(server, "tokens")
    assert len(run_folders(server.output / "tokens" / first)) == TILES


def test_a_run_within_a_prompt_is_listed_and_loaded(server, tiled, wire):
    done(server, tiled("inner/steps", keep_latents=True))
    listed = server.inputs_of("SafelightLoadRun")["run"]
    choices = listed[1]["options"] if listed[0] == "COMBO" else listed[0]
    own = [choice for choice in choices if choice.startswith("inner/")]
    inner = [f"inner/steps_00001/run_00{n}" for n in (4, 3, 2)]
    assert sorted(own) == sorted([*inner, "inner/steps_00001"])
    graph = {
        "load": {
            "class_type": "SafelightLoadRun",
            "inputs": {"run": inner[1], "folder": "", "step": 0, "max_images": 9},
        },
        "keep": {
            "class_type": "LabKeep",
            "inputs": {"file": "inner.safetensors", "image": ["load", 0]},
        },
        "tell": {"class_type": "LabTell", "inputs": {"text": ["load", 2]}},
    }
    played = done(server, graph)
    images = (load_file(server.output / "inner.safetensors")["image"] * 255).round().byte()
    expected = [Image.open(server.output / inner[1] / f"step_000{n}.png").convert("RGB") for n in (1, 2)]
    assert [image.numpy().tobytes() for image in images] == [picture.tobytes() for picture in expected]
    text = played.histories[0]["outputs"]["tell"]["told"][0]
    assert text.startswith("steps_00001/run_003: finished, 2 steps")


def test_a_first_run_without_steps_leaves_the_folder_to_the_next(server, wire):
    graph = wire(preview={"write_intermediates": True, "filename_prefix": "empty_first/steps"}, steps=STEPS)
    graph["silent"] = {"class_type": "LabSilentSampler", "inputs": {}}
    same = {key: graph[SAMPLER]["inputs"][key] for key in ("model", "positive", "negative", "cfg", "latent_image")}
    schedule = {"model": [MODEL, 0], "scheduler": "normal", "steps": STEPS, "denoise": 1.0}
    graph["sigmas"] = {"class_type": "BasicScheduler", "inputs": schedule}
    sampler = {"add_noise": True, "noise_seed": 7, "sampler": ["silent", 0], "sigmas": ["sigmas", 0]}
    graph["before"] = {"class_type": "SamplerCustom", "inputs": {**same, **sampler}}
    graph[SAMPLER]["inputs"]["latent_image"] = ["before", 0]
    done(server, graph)
    assert names(server, "empty_first") == ["steps_00001"]
    assert names(server, "empty_first/steps_00001") == ["index.html", "run.json", "step_0001.png", "step_0002.png"]


def test_each_run_of_a_prompt_is_the_same_as_alone(server, tiled, wire):
    graph = tiled("same/steps")
    watched = done(server, graph)
    assert watched.digest == done(server, wire.without_preview(graph)).digest


def test_cancel_leaves_the_runs_so_far_on_the_page(server, tiled):
    graph = tiled("cancelled/steps")
    graph[MODEL]["inputs"]["step_ms"] = 150.0

    def cancel_third(event):
        begun = event.name == "safelight.run" and event.data["state"] == "running"
        seen.extend([event.data["run"]] if begun else [])
        if event.name == "safelight.step" and len(seen) == 3:
            server.post("/interrupt", {})

    seen = []
    played = server.play(graph, on_event=cancel_third)
    assert played.ends == ["execution_interrupted"]
    states = [run["state"] for run in data_of(server.output / "cancelled/steps_00001/index.html")["runs"]]
    assert states == ["finished", "finished", "interrupted"]
