"""The steps of a run as data, on a real server: images, a sampler that goes on from one of them, a run loaded again."""

import json

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

MODEL, PREVIEW, SAMPLER, DIGEST = "1", "2", "4", "5"
PICK, CONTINUED = "pick", "continued"
STEPS = 8

MODELS = {
    "eps": {"latent_format": "SD15"},
    "eps with means": {"latent_format": "SDXL_Playground_2_5"},
    "flow with a shift": {"latent_format": "Flux", "flow": True},
    "flow, video with means": {"latent_format": "Wan21", "flow": True, "frames": 3, "batch": 2},
}


def digests(played):
    assert played.ends == ["execution_success"], played.named("execution_error")
    outputs = played.histories[0]["outputs"]
    return {node: output["digest"][0] for node, output in outputs.items() if "digest" in output}


def refusal(played):
    assert played.ends == ["execution_error"], "nothing was refused"
    return played.named("execution_error")[0].data["exception_message"]


def pick(graph, step, name=PICK, after=SAMPLER):
    inputs = {"steps": [PREVIEW, 1], "after_sampling": [after, 0], "step": step}
    graph[name] = {"class_type": "SafelightPickStep", "inputs": inputs}
    return name


def keep_digest(graph, node, name):
    graph[name] = {"class_type": "LabDigest", "inputs": {"samples": [node, 0]}}


def go_on(graph, picked, name, *, model=None, sampler="euler", **changed):
    """A KSampler (Advanced) that goes on from a step, and the digest of what it makes."""
    same = {key: graph[SAMPLER]["inputs"][key] for key in ("positive", "negative", "cfg", "scheduler")}
    graph[f"{name} sampler"] = {
        "class_type": "KSamplerAdvanced",
        "inputs": {
            **same,
            "model": model or [picked, 5],
            "add_noise": "disable",
            "noise_seed": 0,
            "steps": [picked, 4],
            "sampler_name": sampler,
            "latent_image": [picked, 0],
            "start_at_step": [picked, 3],
            "end_at_step": 10000,
            "return_with_leftover_noise": "disable",
            **changed,
        },
    }
    keep_digest(graph, f"{name} sampler", name)
    return name


def go_on_custom(graph, picked, name, *, sampler="euler"):
    """The same by a SamplerCustom."""
    same = {key: graph[SAMPLER]["inputs"][key] for key in ("positive", "negative", "cfg")}
    graph[f"{name} kind"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": sampler}}
    graph[f"{name} sampler"] = {
        "class_type": "SamplerCustom",
        "inputs": {
            **same,
            "model": [picked, 5],
            "add_noise": False,
            "noise_seed": 0,
            "sampler": [f"{name} kind", 0],
            "sigmas": [picked, 2],
            "latent_image": [picked, 0],
        },
    }
    keep_digest(graph, f"{name} sampler", name)
    return name


# Going on


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_sampler_that_goes_on_from_any_step_ends_where_the_unbroken_run_ended(server, wire, model, sampler):
    graph = wire(preview={"keep_latents": True}, steps=STEPS, sampler=sampler, **model)
    continued = []
    for step in (1, 2, 5, STEPS):
        picked = pick(graph, step, f"pick {step}")
        continued.append(go_on(graph, picked, f"advanced {step}", sampler=sampler))
        continued.append(go_on_custom(graph, picked, f"custom {step}", sampler=sampler))
    found = digests(server.play(graph))
    assert {name: found[name] for name in continued} == dict.fromkeys(continued, found[DIGEST])


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_with_another_model_it_goes_on_as_from_a_sampler_that_was_told_to_stop_there(server, wire, model):
    graph = wire(preview={"keep_latents": True}, steps=STEPS, **model)
    continued = go_on(graph, pick(graph, 4), CONTINUED, model=[MODEL, 0])
    inputs = graph[SAMPLER]["inputs"]
    first = {"add_noise": "enable", "noise_seed": inputs["seed"], "steps": STEPS, "latent_image": [MODEL, 2]}
    go_on(
        graph,
        PICK,
        "first half",
        model=[MODEL, 0],
        **first,
        start_at_step=0,
        end_at_step=3,
        return_with_leftover_noise="enable",
    )
    second = {"steps": STEPS, "latent_image": ["first half sampler", 0], "start_at_step": 3}
    other = go_on(graph, PICK, "second half", model=[MODEL, 0], **second)
    found = digests(server.play(graph))
    assert found[continued] == found[other]
    assert found[continued] != found[DIGEST], "then nobody needs the model of Continue from Step"


def test_a_run_that_began_in_the_middle_of_its_schedule_goes_on_there(server, wire):
    graph = wire(preview={"keep_latents": True}, steps=6)
    graph[SAMPLER]["inputs"]["denoise"] = 0.5
    continued = go_on(graph, pick(graph, 3), CONTINUED)
    found = digests(server.play(graph))
    assert found[continued] == found[DIGEST]


def test_a_step_of_a_continued_run_can_be_continued(server, wire):
    graph = wire(preview={"keep_latents": True}, steps=STEPS)
    first = pick(graph, 3)
    graph["second preview"] = {
        "class_type": "SafelightPreview",
        "inputs": {**graph[PREVIEW]["inputs"], "model": [first, 5]},
    }
    once = go_on(graph, first, "once", model=["second preview", 0])
    again = pick(graph, 4, "again", after="once sampler")
    graph[again]["inputs"]["steps"] = ["second preview", 1]
    twice = go_on(graph, again, "twice")
    found = digests(server.play(graph))
    assert found[once] == found[twice] == found[DIGEST]


def test_other_settings_lead_elsewhere(server, wire):
    graph = wire(preview={"keep_latents": True}, steps=STEPS)
    continued = go_on(graph, pick(graph, 2), CONTINUED, sampler="heun")
    found = digests(server.play(graph))
    assert found[continued] != found[DIGEST]


def test_of_two_samplers_with_one_model_the_one_before_it_is_meant(server, wire):
    graph = wire(preview={"keep_latents": True}, steps=STEPS)
    other = {**graph[SAMPLER]["inputs"], "seed": 4711}
    graph["other sampler"] = {"class_type": "KSampler", "inputs": other}
    keep_digest(graph, "other sampler", "other")
    names = {SAMPLER: "by the first", "other sampler": "by the other"}
    for sampler, name in names.items():
        go_on(graph, pick(graph, 3, f"pick {name}", after=sampler), name)
    found = digests(server.play(graph))
    assert found["by the first"] == found[DIGEST] != found["other"] == found["by the other"]


def test_a_sampler_that_comes_from_the_cache_is_gone_on_from(server, wire):
    graph = wire(preview={"keep_latents": True}, steps=STEPS)
    first = digests(server.play(graph))
    continued = go_on(graph, pick(graph, 5), CONTINUED)
    played = server.play(graph)
    assert any(SAMPLER in event.data["nodes"] for event in played.named("execution_cached"))
    assert played.histories[0]["outputs"][continued]["digest"][0] == first[DIGEST]


def test_keeping_latents_changes_no_bit(server, wire):
    graph = wire("Flux", flow=True, preview={"keep_latents": True}, seed=77)
    bare = wire("Flux", flow=True, seed=77, again=1)
    assert server.play(graph).digest == server.play(bare).digest
