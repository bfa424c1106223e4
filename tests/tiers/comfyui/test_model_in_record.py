"""The record of a run on a real server has its model, its LoRAs, its strength and its guidance."""

import hashlib
import json

import pytest

MODEL, PREVIEW, SAMPLER = "1", "2", "4"


def put(server, name, content):
    path = server.models / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"blocks:{hashlib.sha256(str(len(content)).encode() + content).hexdigest()}"


@pytest.fixture
def named(wire):
    """Makes a graph whose model line names a checkpoint and LoRAs."""

    def build(prefix, checkpoint, *loras):
        graph = wire(preview={"write_intermediates": True, "filename_prefix": prefix})
        line = [MODEL, 0]
        inputs = {"model": line, "ckpt_name": checkpoint, "vae_name": "some_vae.safetensors"}
        graph["checkpoint"] = {"class_type": "LabCheckpoint", "inputs": inputs}
        line = ["checkpoint", 0]
        for i, (name, strength) in enumerate(loras):
            inputs = {"model": line, "lora_name": name, "strength_model": strength}
            graph[f"lora{i}"] = {"class_type": "LabLora", "inputs": inputs}
            line = [f"lora{i}", 0]
        graph[PREVIEW]["inputs"]["model"] = line
        return graph

    return build


def sampler_of(server, graph, prefix):
    played = server.play(graph)
    assert played.ends == ["execution_success"], played.refusal or played.named("execution_error")
    [run] = {event.data["run"] for event in played.named("safelight.run")}
    live = server.get(f"/safelight/runs/{run}").json()["sampler"]
    saved = json.loads((server.output / f"{prefix}_00001" / "run.json").read_text())["sampler"]
    assert live == saved | {"prompt": None}
    return saved


def test_the_model_and_its_loras_are_recorded_with_hashes(server, named):
    model = put(server, "checkpoints/xl/base.safetensors", b"the model")
    ink = put(server, "loras/ink.safetensors", b"ink")
    put(server, "vae/some_vae.safetensors", b"a vae")
    graph = named(
        "named/a", "xl/base.safetensors", ("ink.safetensors", 0.8), ("gone.safetensors", 0.5), ("ink.safetensors", 0.0)
    )
    sampler = sampler_of(server, graph, "named/a")
    assert sampler["model"] == {"name": "xl/base.safetensors", "hash": model}
    assert sampler["loras"] == [
        {"name": "ink.safetensors", "hash": ink, "weight": 0.8},
        {"name": "gone.safetensors", "hash": None, "weight": 0.5},
    ]
    assert (sampler["strength"], sampler["guidance"]) == (1.0, None)


def test_strength_and_guidance_are_recorded(server, named):
    put(server, "checkpoints/other.safetensors", b"other")
    graph = named("named/b", "other.safetensors")
    graph["guided"] = {"class_type": "FluxGuidance", "inputs": {"conditioning": [MODEL, 1], "guidance": 3.5}}
    graph[SAMPLER]["inputs"] |= {"positive": ["guided", 0], "denoise": 0.6}
    sampler = sampler_of(server, graph, "named/b")
    assert (sampler["strength"], sampler["guidance"], sampler["loras"]) == (0.6, 3.5, [])


def test_a_model_that_no_file_is_known_of_is_not_invented(server, wire):
    graph = wire(preview={"write_intermediates": True, "filename_prefix": "named/c"})
    sampler = sampler_of(server, graph, "named/c")
    assert "model" not in sampler
    assert "loras" not in sampler
