"""Loops by node expansion on a real server: the later turns run in nodes that the client did not send."""

import json

import pytest
from PIL import Image
from safetensors.torch import load_file

from .conftest import run_folders

MODEL, PREVIEW, SAMPLER, DIGEST = "1", "2", "4", "5"
TURNS, STEPS = 3, 3


@pytest.fixture
def loop(wire):
    """Makes a graph whose sampler runs once for each turn; `inside`: Preview Steps is a part of the loop."""

    def build(*, inside=False, denoise=1.0, turns=TURNS, **preview):
        graph = wire(preview=preview, steps=STEPS)
        sampler = graph[SAMPLER]["inputs"]
        seed = sampler["seed"]
        graph["words"] = {"class_type": "LabWords", "inputs": {"conditioning": [MODEL, 1], "text": "a lighthouse"}}
        graph["open"] = {"class_type": "LabLoopOpen", "inputs": {"turn": 0, "seed": seed, "samples": [MODEL, 2]}}
        sampler |= {"latent_image": ["open", 3], "seed": ["open", 2], "positive": ["words", 0], "denoise": denoise}
        if inside:
            graph["turn model"] = {"class_type": "LabTurnModel", "inputs": {"model": [MODEL, 0], "turn": ["open", 1]}}
            graph[PREVIEW]["inputs"]["model"] = ["turn model", 0]
        close = {"loop": ["open", 0], "samples": [SAMPLER, 0], "turn": ["open", 1], "turns": turns}
        graph["close"] = {"class_type": "LabLoopClose", "inputs": close}
        graph[DIGEST]["inputs"]["samples"] = ["close", 0]
        return graph, seed

    return build


def records(server, prefix):
    return [json.loads((folder / "run.json").read_text()) for folder in run_folders(server.output / f"{prefix}_00001")]


@pytest.mark.parametrize("inside", [False, True])
def test_the_viewer_gets_the_steps_of_all_turns(server, loop, inside):
    graph, _ = loop(inside=inside)
    played = server.play(graph, workflow={"id": f"loop {inside}", "nodes": []})
    assert played.ends == ["execution_success"], played.named("execution_error")
    events = played.named("safelight.step", "safelight.run")
    assert {event.data["node"] for event in events} == {PREVIEW}
    assert len({event.data["run"] for event in events}) == TURNS
    listed = server.get(f"/safelight/runs?workflow=loop%20{inside}&node={PREVIEW}").json()
    assert [(run["state"], run["index"]) for run in listed] == [("finished", STEPS)] * TURNS


@pytest.mark.parametrize("inside", [False, True])
def test_each_turn_has_the_prompt_and_the_settings_of_its_sampler(server, loop, inside):
    prefix = f"loops/facts_{inside}"
    graph, seed = loop(inside=inside, write_intermediates=True, filename_prefix=prefix)
    played = server.play(graph)
    assert played.ends == ["execution_success"], played.named("execution_error")
    runs = records(server, prefix)
    assert [run["sampler"]["seed"] for run in runs] == [seed, seed + 1, seed + 2]
    assert [run["sampler"]["name"] for run in runs] == ["euler"] * TURNS
    assert [run["sampler"]["scheduler"] for run in runs] == ["normal"] * TURNS
    assert [(run["host"]["node"], run["host"]["sampler_node"]) for run in runs] == [(PREVIEW, SAMPLER)] * TURNS
    addresses = dict.fromkeys(event.data["run"] for event in played.named("safelight.run"))
    texts = [server.get(f"/safelight/runs/{address}").json()["sampler"]["prompt"] for address in addresses]
    assert texts == ["a lighthouse"] * TURNS
    for folder in run_folders(server.output / f"{prefix}_00001"):
        assert json.loads(Image.open(folder / "step_0001.png").text["prompt"]) == graph, (
            "the metadata is not the prompt as it was sent"
        )


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_steps_to_images_behind_a_loop_outputs_the_last_turn(server, loop, inside, turns):
    prefix = f"loops/images_{inside}_{turns}"
    graph, _ = loop(inside=inside, turns=turns, write_intermediates=True, filename_prefix=prefix)
    graph["images"] = {
        "class_type": "SafelightSteps",
        "inputs": {"steps": [PREVIEW, 1], "after_sampling": ["close", 0]},
    }
    kept = {"file": "loop.safetensors", "image": ["images", 0]}
    graph["keep"] = {"class_type": "LabKeep", "inputs": kept}
    played = server.play(graph)
    assert played.ends == ["execution_success"], played.named("execution_error")
    images = (load_file(server.output / "loop.safetensors")["image"] * 255).round().byte()
    *_, last = run_folders(server.output / f"{prefix}_00001")
    expected = [Image.open(last / f"step_{n:04d}.png") for n in range(1, STEPS + 1)]
    assert [image.numpy().tobytes() for image in images] == [image.convert("RGB").tobytes() for image in expected]


def test_steps_to_images_of_the_first_turn_outputs_the_first_turn(server, loop):
    graph, _ = loop(write_intermediates=True, filename_prefix="loops/first")
    graph["images"] = {
        "class_type": "SafelightSteps",
        "inputs": {"steps": [PREVIEW, 1], "after_sampling": [SAMPLER, 0]},
    }
    kept = {"file": "first.safetensors", "image": ["images", 0]}
    graph["keep"] = {"class_type": "LabKeep", "inputs": kept}
    played = server.play(graph)
    assert played.ends == ["execution_success"], played.named("execution_error")
    [image, *_] = (load_file(server.output / "first.safetensors")["image"] * 255).round().byte()
    expected = Image.open(server.output / "loops/first_00001/step_0001.png").convert("RGB")
    assert image.numpy().tobytes() == expected.tobytes()


@pytest.mark.parametrize("inside", [False, True])
def test_a_sampler_continues_from_the_last_turn_at_the_right_step(server, loop, inside):
    graph, _ = loop(inside=inside, denoise=0.5, keep_latents=True)
    picked = {"steps": [PREVIEW, 1], "after_sampling": ["close", 0], "step": 2}
    graph["pick"] = {"class_type": "SafelightPickStep", "inputs": picked}
    same = {key: graph[SAMPLER]["inputs"][key] for key in ("positive", "negative", "cfg", "scheduler", "sampler_name")}
    continued = {
        **same,
        "model": ["pick", 5],
        "add_noise": "disable",
        "noise_seed": 0,
        "steps": ["pick", 4],
        "latent_image": ["pick", 0],
        "start_at_step": ["pick", 3],
        "end_at_step": 10000,
        "return_with_leftover_noise": "disable",
    }
    graph["continued"] = {"class_type": "KSamplerAdvanced", "inputs": continued}
    graph["again"] = {"class_type": "LabDigest", "inputs": {"samples": ["continued", 0]}}
    played = server.play(graph)
    assert played.ends == ["execution_success"], played.named("execution_error")
    outputs = played.histories[0]["outputs"]
    assert outputs["again"]["digest"] == outputs[DIGEST]["digest"]
