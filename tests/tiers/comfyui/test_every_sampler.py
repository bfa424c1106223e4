"""Every sampler of ComfyUI, and every node that samples: shown to the last step, the result is the same."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from .conftest import run_folders

STEPS = 4
SAMPLER = "4"
MODEL = {"eps": ("SD15", False), "flow": ("Flux", True)}
BOTH = {"negative": ["1", 1], "positive": ["1", 1]}
TWO = {"cond1": ["1", 1], "cond2": ["1", 1], "negative": ["1", 1], "cfg_conds": 3.0, "cfg_cond2_negative": 2.0}
GUIDERS = {
    "BasicGuider": {"conditioning": ["1", 1]},
    "CFGGuider": {**BOTH, "cfg": 3.0},
    "DualCFGGuider": {**TWO, "style": "regular"},
}
ADAPTIVE = {"order": 3, "rtol": 0.05, "atol": 0.0078, "h_init": 0.05, "pcoeff": 0.0, "icoeff": 1.0, "dcoeff": 0.0}
CHOSEN = {
    "euler": ("KSamplerSelect", {"sampler_name": "euler"}),
    "heun": ("KSamplerSelect", {"sampler_name": "heun"}),
    "dpmpp_sde": ("KSamplerSelect", {"sampler_name": "dpmpp_sde"}),
    "adaptive": ("SamplerDPMAdaptative", {**ADAPTIVE, "accept_safety": 0.81, "eta": 0.0, "s_noise": 1.0}),
}


def what_is_wrong(server, wire, name, graph):
    """Describes what is wrong with the run of a graph from `watching`; empty if nothing is."""
    watched = server.play(graph)
    bare = server.play(wire.without_preview(graph))
    if not watched.ends == bare.ends == ["execution_success"]:
        return [f"{name}: {watched.named('execution_error') or bare.named('execution_error')}"]
    with safe_open(server.output / "spied" / f"{name}_1.safetensors", framework="pt") as file:
        told = [step + 1 for step, _ in json.loads(file.metadata()["steps"])]
    manifest = json.loads((server.output / "every" / f"{name}_00001" / "run.json").read_text())
    kept = [step["index"] for step in manifest["steps"] if step["files"]]
    announced = [event.data["index"] for event in watched.named("safelight.step")]
    checks = {
        "other latents than without the node": watched.digest == bare.digest,
        f"the sampler reported {told}, saved are {kept}": kept == sorted(set(told)),
        f"the client received {announced}, the last step is {told[-1]}": announced[-1:] == told[-1:],
        f"{manifest['state']}, {manifest['notes']}": (manifest["state"], manifest["notes"]) == ("finished", []),
        "other previews by the host": len(watched.previews) == len(bare.previews) > 0,
    }
    return [f"{name}: {words}" for words, good in checks.items() if not good]


@pytest.fixture
def watching(server, wire):
    """Builds a graph with a watched sampler and a LabSpy."""

    def watching(name, kind, **settings):
        latent_format, flow = MODEL[kind]
        preview = {"write_intermediates": True, "filename_prefix": f"every/{name}"}
        model = {"flow": flow, "height": 8, "width": 8}
        return wire(latent_format, steps=STEPS, preview=preview, spy=f"spied/{name}", **model, **settings)

    server.inputs_of("SafelightPreview")
    return watching


@pytest.mark.timeout(400)  # about forty samplers, twice each
@pytest.mark.parametrize("kind", MODEL)
def test_each_sampler_is_shown_to_its_last_step_and_is_bit_identical(server, wire, watching, kind):
    names = server.inputs_of("KSampler")["sampler_name"][0]
    assert {"euler", "dpm_adaptive", "uni_pc", "ddim"} <= set(names)
    wrong = []
    for name in names:
        wrong += what_is_wrong(server, wire, f"{name}_{kind}", watching(f"{name}_{kind}", kind, sampler=name))
    assert wrong == []


@pytest.mark.parametrize("chosen", CHOSEN)
@pytest.mark.parametrize("way", ["SamplerCustom", *GUIDERS])
def test_each_node_that_samples_is_shown(server, wire, watching, way, chosen):
    graph = watching(f"{way}_{chosen}", "eps")
    stock = graph[SAMPLER]["inputs"]
    model, latents = stock["model"], stock["latent_image"]
    nodes = {
        "10": ("RandomNoise", {"noise_seed": stock["seed"]}),
        "12": CHOSEN[chosen],
        "13": ("BasicScheduler", {"model": model, "scheduler": "karras", "steps": STEPS, "denoise": 1.0}),
    }
    inputs = {"sampler": ["12", 0], "sigmas": ["13", 0], "latent_image": latents}
    if way == "SamplerCustom":
        inputs |= {"model": model, "add_noise": True, "noise_seed": stock["seed"], "cfg": 3.0, **BOTH}
        nodes[SAMPLER] = (way, inputs)
    else:
        nodes["11"] = (way, {"model": model, **GUIDERS[way]})
        nodes[SAMPLER] = ("SamplerCustomAdvanced", {**inputs, "noise": ["10", 0], "guider": ["11", 0]})
    graph |= {key: {"class_type": name, "inputs": inputs} for key, (name, inputs) in nodes.items()}
    assert what_is_wrong(server, wire, f"{way}_{chosen}", graph) == []


def test_each_tile_of_an_upscaler_is_a_run_and_is_bit_identical(server, wire):
    preview = {"write_intermediates": True, "filename_prefix": "every/tile"}
    graph = wire(preview=preview, height=8, width=8)  # the latents become twice as large; a tile is a quarter of them
    stock = graph[SAMPLER]["inputs"]
    tiled = {key: stock[key] for key in ("model", "positive", "negative", "seed", "steps")} | {"denoise": 0.5}
    graph["9"] = {
        "class_type": "LatentUpscaleBy",
        "inputs": {"samples": ["1", 2], "upscale_method": "bicubic", "scale_by": 2},
    }
    graph[SAMPLER] = {"class_type": "LabTiles", "inputs": {**tiled, "latent_image": ["9", 0]}}
    graph["10"] = {"class_type": "SafelightSteps", "inputs": {"steps": ["2", 1], "after_sampling": [SAMPLER, 0]}}
    graph["11"] = {"class_type": "LabKeep", "inputs": {"file": "tile.safetensors", "image": ["10", 0]}}
    watched = server.play(graph)
    assert watched.ends == ["execution_success"], watched.named("execution_error")
    told = [event.data for event in watched.named("safelight.run")]
    ids = list(dict.fromkeys(event["run"] for event in told))
    assert len(ids) == 4
    assert [event["state"] for event in told if event["state"] != "running"] == ["finished"] * 4
    folders = run_folders(server.output / "every/tile_00001")
    manifests = [json.loads((folder / "run.json").read_text()) for folder in folders]
    live = [server.get(f"/safelight/runs/{address}").json() for address in ids]
    assert [manifest["started"] for manifest in manifests] == [manifest["started"] for manifest in live]
    assert len({manifest["id"] for manifest in manifests}) == 4
    assert [len(manifest["steps"]) for manifest in manifests] == [4] * 4
    assert {manifest["host"]["sampler_node"] for manifest in manifests} == {SAMPLER}
    [last] = load_file(server.output / "tile.safetensors")["image"][-1:]
    with Image.open(folders[-1] / "step_0004.png") as picture:
        assert torch.equal(last, torch.from_numpy(np.array(picture.convert("RGB"))) / 255)
    bare = wire.without_preview({key: node for key, node in graph.items() if key not in ("10", "11")})
    assert server.play(bare).digest == watched.digest
