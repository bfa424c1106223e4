"""Nodes of other packs do unusual things with samplers, previewers, models and inputs, on a real server."""

import json

import numpy as np
import pytest
from PIL import Image
from safelight.decoders.latents.space_table import SPACES

from ... import older
from .lab_ways import COUNTING_WAYS, FOLLOWING_WAYS
from .test_decode_node import put

MODEL, PREVIEW, SAMPLER, DIGEST = "1", "2", "4", "5"
STEPS = 4
ON, OFF = {"Safelight.Everywhere": True}, {"Safelight.Everywhere": False}


def odd_graph(wire, way, steps=STEPS, latent_format="SD15", **preview):
    """A graph whose sampler is a LabOddSampler."""
    files = {"write_intermediates": True, "filename_prefix": "odd/run"}  # a viewer alone may get fewer steps
    graph = wire(latent_format, preview=files | preview)
    seed = graph[SAMPLER]["inputs"]["seed"]
    inputs = {"model": [PREVIEW, 0], "positive": [MODEL, 1], "latent": [MODEL, 2]}
    graph[SAMPLER] = {"class_type": "LabOddSampler", "inputs": {**inputs, "way": way, "steps": steps, "seed": seed}}
    return graph


def played_well(server, *graphs, **extra):
    played = server.play(*graphs, **extra)
    assert played.refusal is None, played.refusal
    errors = [(event.data["exception_message"], event.data["traceback"]) for event in played.named("execution_error")]
    assert set(played.ends) == {"execution_success"}, errors
    return played


def manifests(server, played):
    """The manifests of all runs, in the order of their beginning, read as strict JSON; from the output folder first."""
    runs = dict.fromkeys(event.data["run"] for event in played.named("safelight.run"))
    saved = {}
    for path in server.output.rglob("run.json"):
        content = path.read_bytes()
        saved[json.loads(content)["started"]] = content  # a live run has another id

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    live = [json.loads(server.get(f"/safelight/runs/{run}").body, parse_constant=refuse) for run in runs]
    return [json.loads(saved.get(run["started"], json.dumps(run)), parse_constant=refuse) for run in live]


def the_manifest(server, played):
    (manifest,) = manifests(server, played)
    return manifest


def sigmas_of(manifest):
    return {step["index"]: step["sigma"] for step in manifest["steps"]}


def seen(played):
    """What the sampler itself said to its callback: the sigma of each call."""
    return [sigma for _, sigma in played.histories[0]["outputs"][SAMPLER]["seen"]]


# Numbers of steps


@pytest.mark.parametrize("way", COUNTING_WAYS)
def test_however_a_sampler_counts_the_server_lives_and_its_steps_are_shown(own_server, wire, way):
    played = played_well(own_server, odd_graph(wire, way))
    bare = played_well(own_server, wire.without_preview(odd_graph(wire, way)))
    assert played.digest == bare.digest
    steps = [event.data for event in played.named("safelight.step")]
    assert all(type(step[key]) is int for step in steps for key in ("index", "total"))
    assert all(1 <= step["index"] <= step["total"] for step in steps)
    manifest = the_manifest(own_server, played)
    indices = [step["index"] for step in manifest["steps"]]
    assert len(manifest["notes"]) <= 1, manifest["notes"]
    expected = {"zeros": [1], "beyond": [8, 9, 10, 11], "once more": [1, 2, 3, 4, 5], "restarts": [*range(1, 7)]}
    assert indices == expected.get(way, [1, 2, 3, 4])
    assert manifest["sampler"]["steps"] == indices[-1]


@pytest.mark.parametrize("way", ["texts", "nan", "halves", "huge", "from -1"])
def test_a_sampler_that_reports_no_numbers_costs_one_note(own_server, wire, way):
    manifest = the_manifest(own_server, played_well(own_server, odd_graph(wire, way)))
    (note,) = manifest["notes"]
    assert "as the number of a step: its calls are counted instead" in note
    assert len(note) < 300


# Noise levels


@pytest.mark.parametrize("way", COUNTING_WAYS)
def test_the_sigma_of_a_step_is_what_the_sampler_says_or_unknown(own_server, wire, way):
    played = played_well(own_server, odd_graph(wire, way))
    manifest = the_manifest(own_server, played)
    said = seen(played)
    newest = {event.data["index"]: event.data["sigma"] for event in played.named("safelight.step")}
    found = sigmas_of(manifest)
    assert newest.items() <= found.items()
    if way in ("without sigma", "read-only"):
        assert set(found.values()) == {None}
    elif way.endswith("backwards"):
        assert [found[index] for index in (4, 3, 2, 1)] == pytest.approx(said)
    elif way == "zeros":
        assert found[1] == pytest.approx(said[-1])
    else:
        assert list(found.values()) == pytest.approx(said)
    assert played.histories[0]["outputs"][SAMPLER]["restored"] == [True]
    follows = way in FOLLOWING_WAYS
    assert (manifest["sampler"]["sigmas"] is not None) == follows


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_2_ancestral", "dpm_fast", "dpm_adaptive", "lms"])
def test_the_sigma_of_a_sampler_of_the_host_is_what_it_says(own_server, wire, sampler):
    played = played_well(own_server, odd_graph(wire, sampler, steps=8))
    manifest = the_manifest(own_server, played)
    assert list(sigmas_of(manifest).values()) == pytest.approx(seen(played), rel=1e-4)
    assert manifest["sampler"]["steps"] == len(seen(played))
    assert (manifest["sampler"]["sigmas"] is None) == (sampler in ("dpm_fast", "dpm_adaptive"))


@pytest.mark.parametrize("sampler", ["dpm_fast", "dpm_adaptive"])
def test_a_sampler_with_its_own_levels_gets_none_from_the_schedule(own_server, wire, sampler):
    files = {"write_intermediates": True, "filename_prefix": "odd/run"}
    manifest = the_manifest(own_server, played_well(own_server, wire(preview=files, steps=8, sampler=sampler)))
    sigmas = [*sigmas_of(manifest).values()]
    assert sigmas == sorted(sigmas, reverse=True)
    assert sigmas[-1] < 0.5  # the schedule has 3.9 at step 6
    assert manifest["sampler"]["sigmas"] is None
    assert manifest["sampler"]["steps"] == manifest["steps"][-1]["index"]


@pytest.mark.parametrize("way", ["without sigma", "dpm_adaptive", "beyond"])
def test_noise_of_a_sampler_with_its_own_levels_is_no_gray_fog(own_server, wire, way):
    """The last noisy latents are nearly clean, so their picture looks like the estimate of the finished image."""
    last = {}
    for show in ("denoised", "noisy"):
        graph = odd_graph(wire, way, steps=20, show=show, filename_prefix=f"fog/{show}")
        manifest = the_manifest(own_server, played_well(own_server, graph))
        run = max((own_server.output / "fog").glob(f"{show}_*"))
        last[show] = np.asarray(Image.open(run / manifest["steps"][-1]["files"][0]), float)
    assert np.abs(last["noisy"] - last["denoised"]).mean() < 5
    assert last["noisy"].std() > 0.9 * last["denoised"].std()


def test_the_sheet_counts_to_the_step_that_the_sampler_ended_with(own_server, wire):
    graph = odd_graph(wire, "dpm_adaptive", steps=20, sheet=True, filename_prefix="odd/sheet")
    played = played_well(own_server, graph)
    steps = the_manifest(own_server, played)["sampler"]["steps"]
    saved = json.loads(max((own_server.output / "odd").glob("sheet_*/run.json")).read_text())
    assert steps == len(seen(played)) == saved["sampler"]["steps"] == saved["steps"][-1]["index"]
    assert steps != 20


# Callers of the previewer


@pytest.mark.parametrize("everywhere", [False, True], ids=["off", "on"])
@pytest.mark.parametrize("way", ["indexes", "sends", "asks again", "decodes", "class"])
def test_other_callers_of_the_previewer_get_what_the_host_would_give(own_server, wire, way, everywhere):
    graph = odd_graph(wire, "integers")
    inputs = {"model": [MODEL, 0], "positive": [MODEL, 1], "latent": [MODEL, 2], "way": way, "steps": STEPS}
    graph[SAMPLER] = {"class_type": "LabPreviewUser", "inputs": {**inputs, "seed": graph[SAMPLER]["inputs"]["seed"]}}
    own_server.post("/api/settings", ON if everywhere else OFF)
    try:
        output = played_well(own_server, wire.without_preview(graph)).histories[0]["outputs"][SAMPLER]
    finally:
        own_server.post("/api/settings", OFF)
    expected = {"sends": "JPEG Image (24, 16) 512", "class": "[True, True]"}.get(way, "Image (24, 16)")
    assert output["got"] == [expected] * STEPS
    assert output.get("threads", []) == []


@pytest.mark.parametrize("way", ["indexes", "sends", "decodes"])
def test_other_callers_get_our_picture_if_the_host_has_no_previewer(own_server, wire, way):
    formats = own_server.inputs_of("LabModel")["latent_format"][0]
    older.expect("CogVideoX" in formats, "ComfyUI", own_server.version, "latent format CogVideoX")
    put(own_server.models / "safelight", "of-cogvideox", SPACES["cogvideox"], 0.25)
    graph = wire("CogVideoX", frames=2)
    inputs = {"model": [MODEL, 0], "positive": [MODEL, 1], "latent": [MODEL, 2], "way": way, "steps": STEPS}
    graph[SAMPLER] = {"class_type": "LabPreviewUser", "inputs": {**inputs, "seed": graph[SAMPLER]["inputs"]["seed"]}}
    own_server.post("/api/settings", ON)
    try:
        output = played_well(own_server, graph).histories[0]["outputs"][SAMPLER]
    finally:
        own_server.post("/api/settings", OFF)
    assert output["got"] == [{"sends": "JPEG Image (24, 16) 512"}.get(way, "Image (24, 16)")] * STEPS


# Inputs from links and inputs that are missing


def nodes_with_inputs(graph):
    """Every node of ours with valid inputs, connected to the graph; by id."""
    latent = {"samples": [SAMPLER, 0]}
    return {
        "steps": ("SafelightSteps", {"steps": [PREVIEW, 1], "after_sampling": [SAMPLER, 0], "max_images": 3}),
        "pick": ("SafelightPickStep", {"steps": [PREVIEW, 1], "after_sampling": [SAMPLER, 0], "step": 2}),
        "load": ("SafelightLoadRun", {"run": "none", "folder": "links/run_00001", "step": 0, "max_images": 3}),
        "decode": ("SafelightDecode", {**latent, "decoder": "auto", "space": "sd1", "enlarge": "off"}),
        "preview": ("SafelightPreview", graph.get(PREVIEW, {"inputs": {}})["inputs"]),
    }


TELLERS = {"steps": 0, "load": 0, "decode": 0}  # outputs of images


def with_node(graph, name, **inputs):
    class_type, own = nodes_with_inputs(graph)[name]
    graph[name] = {"class_type": class_type, "inputs": own | inputs}
    if name in TELLERS:
        graph["shown"] = {"class_type": "LabImages", "inputs": {"images": [name, 0]}}
    elif name == "pick":
        graph["shown"] = {"class_type": "LabDigest", "inputs": {"samples": [name, 0]}}
    else:
        graph[SAMPLER]["inputs"]["model"] = [name, 0]
    return graph


def linked(graph, name, field, value):
    graph["value"] = {"class_type": "LabAny", "inputs": {"value": value}}
    graph[name]["inputs"][field] = ["value", 0]
    return graph


def test_the_folder_of_load_run_may_come_from_a_link(own_server, wire):
    graph = wire(preview={"write_intermediates": True, "filename_prefix": "links/run"})
    played_well(own_server, graph)
    graph = with_node(wire(), "load")
    graph["text"] = {"class_type": "PrimitiveString", "inputs": {"value": "links/run_00001"}}
    graph["load"]["inputs"]["folder"] = ["text", 0]
    for _ in range(2):
        output = played_well(own_server, graph).histories[0]["outputs"]["shown"]
        assert output["count"] == [3]


@pytest.mark.parametrize(
    ("name", "field"),
    [("load", "folder"), ("load", "run"), ("decode", "decoder"), ("decode", "space"), ("preview", "decoder")],
)
def test_an_input_that_is_left_out_is_reported_by_the_host(own_server, wire, name, field):
    graph = with_node(wire(preview={}), name)
    del graph[name]["inputs"][field]
    if name != "preview":
        del graph[DIGEST]  # with another valid output, ComfyUI executes the rest
    refusal = json.loads(own_server.play(graph).refusal)
    (errors,) = [node["errors"] for key, node in refusal["node_errors"].items() if key == name]
    assert [(error["type"], error["details"]) for error in errors] == [("required_input_missing", field)]


@pytest.mark.parametrize(
    ("name", "field", "value", "message"),
    [
        ("preview", "every_n_steps", "0", "every_n_steps: expected 1 to 10000, got 0"),
        ("preview", "every_n_steps", "nothing", "every_n_steps: expected a whole number, got None"),
        ("preview", "every_n_steps", "text", "every_n_steps: expected a whole number, got 'a few'"),
        ("preview", "every_n_steps", "nan", "every_n_steps: expected a whole number, got nan"),
        ("preview", "file_format", "bmp", "file_format: expected one of png, webp, jpg, got 'bmp'"),
        ("preview", "decoder", "0", "decoder: expected a text, got 0"),
        ("steps", "max_images", "0", "max_images: expected 1 to 10000, got 0"),
        ("steps", "max_images", "text", "max_images: expected a whole number, got 'a few'"),
        ("pick", "step", "-1", "step: expected 0 to 10000, got -1"),
        ("load", "folder", "nothing", "folder: expected a text, got None"),
        ("load", "step", "text", "step: expected a whole number, got 'a few'"),
        ("decode", "enlarge", "bmp", "enlarge: expected one of off, nearest, bicubic, lanczos, got 'bmp'"),
    ],
)
def test_a_linked_value_that_makes_no_sense_is_reported_on_the_node(own_server, wire, name, field, value, message):
    graph = linked(with_node(wire(preview={"keep_latents": True}), name), name, field, value)
    played = own_server.play(graph)
    assert played.refusal is None, played.refusal
    (error,) = [event.data for event in played.named("execution_error")]
    assert (error["node_id"], error["exception_message"].strip()) == (name, message)


@pytest.mark.parametrize("value", ["2.0", "numpy 2"])
def test_a_linked_whole_number_of_another_type_is_accepted(own_server, wire, value):
    files = {"write_intermediates": True, "filename_prefix": "odd/run"}
    graph = linked(with_node(wire(preview=files), "preview"), "preview", "every_n_steps", value)
    manifest = the_manifest(own_server, played_well(own_server, graph))
    assert [step["index"] for step in manifest["steps"]] == [1, 3, 4]


# Workflows of any form


@pytest.mark.parametrize(
    "workflow",
    [
        "a text",
        ["a list"],
        7,
        {"id": ["no text"], "nodes": "none"},
        {"id": {"no": "text"}, "extra": ["a list"]},
        {"id": "w", "nodes": [{"id": 1, "type": "LabModel", "properties": ["a list"]}, "a text", None]},
    ],
    ids=lambda workflow: json.dumps(workflow)[:20],
)
@pytest.mark.parametrize("everywhere", [False, True], ids=["off", "on"])
def test_a_workflow_of_any_form_costs_nothing(own_server, wire, workflow, everywhere):
    own_server.post("/api/settings", ON if everywhere else OFF)
    prefix = "any/%LabModel.height%"
    try:
        graph = wire(preview={"write_intermediates": True, "filename_prefix": prefix})
        played = played_well(own_server, graph, workflow=workflow)
    finally:
        own_server.post("/api/settings", OFF)
    manifest = the_manifest(own_server, played)
    assert (len(manifest["steps"]), manifest["notes"], manifest["state"]) == (4, [], "finished")
    step = max((own_server.output / "any").glob("16_*")) / "step_0001.png"
    with Image.open(step) as image:
        assert json.loads(image.text["workflow"]) == workflow


# Lists


def listed(wire, **preview):
    """A graph whose sampler samples three times, with seeds 1, 2 and 3."""
    graph = wire(preview=preview)
    graph["seeds"] = {"class_type": "LabSeeds", "inputs": {"count": 3}}
    graph[SAMPLER]["inputs"]["seed"] = ["seeds", 0]
    return graph


@pytest.mark.parametrize("node", ["steps", "pick"])
def test_each_execution_of_a_list_gets_its_own_run(own_server, wire, node):
    played = played_well(own_server, with_node(listed(wire, keep_latents=True), node))
    assert [run["sampler"]["seed"] for run in manifests(own_server, played)] == [1, 2, 3]
    alone = []
    for seed in (1, 2, 3):
        graph = with_node(wire(preview={"keep_latents": True}, seed=seed), node)
        alone.append(played_well(own_server, graph).histories[0]["outputs"]["shown"])
    key = "last" if node == "steps" else "digest"
    expected = [output[key][0] for output in alone]
    assert played.histories[0]["outputs"]["shown"][key] == expected
    assert len({json.dumps(each) for each in expected}) == 3


def test_a_longer_list_gets_the_run_of_the_only_execution_of_the_sampler(own_server, wire):
    graph = with_node(wire(preview={}), "steps")
    linked(graph, "steps", "max_images", "three numbers")
    output = played_well(own_server, graph).histories[0]["outputs"]["shown"]
    assert output["count"] == [1, 2, 3]


def test_a_list_that_was_merged_after_sampling_is_refused_with_the_reason(own_server, wire):
    graph = listed(wire)
    graph["together"] = {"class_type": "RebatchLatents", "inputs": {"latents": [SAMPLER, 0], "batch_size": 3}}
    with_node(graph, "steps")["steps"]["inputs"]["after_sampling"] = ["together", 0]
    played = own_server.play(graph)
    (error,) = [event.data for event in played.named("execution_error")]
    assert error["node_id"] == "steps"
    assert "connect the sampler's own LATENT to after_sampling" in error["exception_message"]


# Copies of a model


@pytest.mark.parametrize("way", ["deep", "shallow", "pickle", "look"])
def test_copies_of_a_watched_model_are_watched_and_keep_the_output_steps(own_server, wire, way):
    graph = with_node(wire(preview={}), "steps")
    graph["copied"] = {"class_type": "LabCopyModel", "inputs": {"model": [PREVIEW, 0], "way": way}}
    graph[SAMPLER]["inputs"]["model"] = ["copied", 0]
    played = played_well(own_server, graph)
    manifest = the_manifest(own_server, played)
    assert (len(manifest["steps"]), manifest["notes"]) == (4, [])
    assert played.histories[0]["outputs"]["shown"]["count"] == [3]
