"""The main job on a real server: every step of a stock sampler on disk, the sampler's result is the same."""

import io
import itertools
import json
import math
import re
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from ... import older

STEPS = 5
WORKFLOW = {"id": "0f0e0d0c-0b0a-4908-8706-050403020100", "nodes": [], "links": [], "version": 0.4}
STATES = {"running", "finished", "interrupted", "failed"}
PREVIEW, SAMPLER = "2", "4"


@dataclass(frozen=True)
class Case:
    """A latent format of ComfyUI; sizes are `(width, height)`.

    Args:
        name: ComfyUI's name.
        latents: size of the decoder's input, unpacked.
        final: size of the picture that a VAE would decode, in pixels.
        model: inputs of the lab's model.
    """

    name: str
    latents: tuple[int, int]
    final: tuple[int, int]
    model: dict[str, Any] = field(default_factory=dict)


CASES = (
    Case("SD15", (24, 16), (192, 128)),
    Case("SDXL", (24, 16), (192, 128), {"batch": 2}),
    Case("Flux", (24, 16), (192, 128), {"flow": True}),
    Case("Flux2", (24, 16), (192, 128), {"flow": True, "width": 12, "height": 8}),
    Case("Wan21", (24, 16), (192, 128), {"flow": True, "frames": 3}),
    Case("CogVideoX", (24, 16), (192, 128), {"frames": 2}),
    Case("ChromaRadiance", (96, 64), (96, 64), {"flow": True, "width": 96, "height": 64}),
)


@dataclass(frozen=True)
class Pair:
    """The same job with the node and without it."""

    case: Case
    bare: Any
    watched: Any
    graph: Any
    folder: Path
    spied: Path

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.folder / "run.json").read_text(encoding="utf-8"))

    @property
    def pictures(self) -> list[Path]:
        return sorted(self.folder.glob("step_*"))


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def pair(request, server, wire):
    case = request.param
    formats = server.inputs_of("LabModel")["latent_format"][0]
    older.expect(case.name in formats, "ComfyUI", server.version, f"latent format {case.name}")
    server.inputs_of("SafelightPreview")
    kept = {"write_intermediates": True, "filename_prefix": f"safelight/{case.name}", "batch": "first"}
    seed = 1000 + CASES.index(case)  # formats with drawings that differ from their mirror image
    graph = wire(case.name, preview=kept, steps=STEPS, spy=f"spied/{case.name}", seed=seed, **case.model)
    watched = server.play(graph, workflow=WORKFLOW)
    bare = server.play(wire.without_preview(graph), workflow=WORKFLOW)
    assert watched.ends == bare.ends == ["execution_success"], watched.named("execution_error")
    return Pair(
        case,
        bare,
        watched,
        graph,
        server.output / "safelight" / f"{case.name}_00001",
        server.output / "spied" / f"{case.name}_1.safetensors",
    )


def spied(path: Path) -> list[int]:
    """The steps that a sampler call reported to its callback, from 1."""
    with safe_open(path, framework="pt") as file:
        return [step + 1 for step, _ in json.loads(file.metadata()["steps"])]


def numbers(folder: Path) -> list[int]:
    """The numbers of the pictures in a run's folder, by file name."""
    return [int(path.stem.removeprefix("step_")) for path in sorted(folder.glob("step_*"))]


def picture(path: Path) -> Image.Image:
    """Reads a picture without leaving its file open."""
    return Image.open(io.BytesIO(path.read_bytes()))


def luminance(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), dtype=np.float64)


# The result


def test_the_final_latents_are_bit_for_bit_the_same(pair):
    assert pair.watched.digest == pair.bare.digest


def test_the_hosts_own_progress_is_sent(pair):
    told = [[event.data["value"] for event in played.named("progress")] for played in (pair.watched, pair.bare)]
    # Newer versions of ComfyUI send progress without a preview at most every 100 ms, but always the first and the last.
    if pair.bare.previews:
        assert told[0] == told[1] == list(range(1, STEPS + 1))
    else:
        assert {(values[0], values[-1]) for values in told} == {(1, STEPS)}


def test_the_hosts_own_previews_are_byte_for_byte_the_same(pair):
    assert pair.watched.previews == pair.bare.previews


def test_the_sampler_is_freed_without_the_garbage_collector(pair):
    """A model that only the garbage collector frees stays in memory, and ComfyUI 0.3.64 reports it as a leak."""
    assert not pair.bare.held, "ComfyUI itself holds a reference"
    assert not pair.watched.held


# The folder


def test_there_is_a_picture_for_each_step_and_no_partial_file(pair):
    expected = {f"step_{n:04d}.png" for n in range(1, STEPS + 1)} | {"run.json", "index.html"}
    assert {path.name for path in pair.folder.iterdir()} == expected
    assert numbers(pair.folder) == spied(pair.spied)


def test_the_pictures_have_the_decoders_size(pair):
    scale = pair.manifest["decoder"]["scale"]
    size = tuple(side * scale for side in pair.case.latents)
    assert {picture(path).size for path in pair.pictures} == {size}
    assert (pair.manifest["picture"]["width"], pair.manifest["picture"]["height"]) == size


def test_the_pictures_restore_the_graph(pair):
    for path in pair.pictures:
        chunks = picture(path).text
        assert json.loads(chunks["prompt"]) == pair.graph
        assert json.loads(chunks["workflow"]) == WORKFLOW


def test_the_pictures_name_their_run(pair):
    for number, path in enumerate(pair.pictures, 1):
        told = json.loads(picture(path).text["safelight"])
        assert {pair.manifest["id"], number} <= set(flat(told)), told


def flat(told: Any) -> list[Any]:
    """All values in nested dicts."""
    return [leaf for value in told.values() for leaf in flat(value)] if isinstance(told, dict) else [str(told), told]


def test_the_last_picture_looks_like_the_hosts(pair):
    """ComfyUI's own table shows the lab's latents as a drawing; ours must show it too, the right way up."""
    if pair.case.name == "CogVideoX":  # ComfyUI has no table for it
        assert pair.bare.previews == [], "ComfyUI has a preview of its own now: compare it"
        return
    size = (24, 16)
    ours = luminance(picture(pair.pictures[-1]), size)
    theirs = luminance(Image.open(io.BytesIO(pair.bare.previews[-1])), size)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.8
    for turned in (theirs[::-1], theirs[:, ::-1]):
        assert np.corrcoef(ours.ravel(), turned.ravel())[0, 1] < 0.8


def test_the_pictures_converge_to_the_last(pair):
    steps = [np.asarray(picture(path).convert("RGB"), dtype=np.float64) for path in pair.pictures]
    distances = [np.abs(step - steps[-1]).mean() for step in steps]
    assert min(step.std() for step in steps) > 1, "a picture is flat"
    assert distances[-2] < distances[0]
    if pair.case.model.get("flow"):  # eps models start at a sigma at which the lab's model already predicts its target
        assert distances[0] > 5


# The manifest


def test_the_manifest_names_the_run_and_its_host(pair, server):
    manifest = pair.manifest
    assert manifest["format"] == "safelight.run/1"
    assert uuid.UUID(manifest["id"]).version == 4
    assert manifest["state"] == "finished"
    assert datetime.fromisoformat(manifest["started"]).tzinfo is not None
    assert 0 < manifest["seconds"] < 60
    host = manifest["host"]
    assert host["name"] == "comfyui"
    assert host["version"] == server.version
    assert host["prompt_id"] == pair.watched.prompt_ids[0]
    assert host["workflow_id"] == WORKFLOW["id"]
    assert (host["node"], host["sampler_node"]) == (PREVIEW, SAMPLER)


def test_the_manifest_names_the_sampler(pair):
    told, inputs = pair.manifest["sampler"], pair.graph[SAMPLER]["inputs"]
    with safe_open(pair.spied, framework="pt") as file:
        assert told["sigmas"] == pytest.approx(json.loads(file.metadata()["sigmas"]), rel=1e-4)
    assert told["steps"] == STEPS
    assert told["seed"] == inputs["seed"]
    for key, theirs in {"cfg": "cfg", "name": "sampler_name", "scheduler": "scheduler"}.items():
        assert told[key] in (None, inputs[theirs])


def test_the_manifest_lists_each_step(pair):
    steps = pair.manifest["steps"]
    assert [step["index"] for step in steps] == list(range(1, STEPS + 1))
    assert [step["files"] for step in steps] == [[path.name] for path in pair.pictures]
    assert [step["sigma"] for step in steps] == pytest.approx(pair.manifest["sampler"]["sigmas"][:-1], rel=1e-4)
    assert {step["show"] for step in steps} == {"denoised"}
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)


def test_the_manifest_holds_no_prompt(pair):
    text = (pair.folder / "run.json").read_text(encoding="utf-8")
    assert "LabModel" not in text
    assert "class_type" not in text


# The events


def safelight(played, name: str) -> list[Any]:
    return [event.data for event in played.events if event.name == name]


def test_the_client_receives_small_events_for_the_run_and_its_steps(pair):
    ours = [event for event in pair.watched.events if event.name.startswith("safelight.")]
    assert max(event.size for event in ours) < 1000
    for event in ours:
        told = event.data
        assert (told["v"], told["node"]) == (1, PREVIEW)
        assert told["run"] != pair.manifest["id"], "the id in published files must not open the live run"
        assert told["workflow"] == WORKFLOW["id"]
        assert told["state"] in STATES
    steps = safelight(pair.watched, "safelight.step")
    assert len({event.data["run"] for event in ours}) == 1
    indices = [step["index"] for step in steps]
    assert indices == sorted(set(indices))
    assert indices[-1] == STEPS
    assert {step["total"] for step in steps} == {STEPS}
    assert [run["state"] for run in safelight(pair.watched, "safelight.run")][-1] == "finished"


def test_other_clients_receive_no_events(pair):
    assert pair.watched.named("safelight.run")
    assert {event.name for event in pair.watched.overheard} <= {"status", "feature_flags"}


def test_without_the_node_there_are_no_events_of_ours(pair):
    assert not [event for event in pair.bare.events if event.name.startswith("safelight")]


# The settings


@pytest.fixture
def kept(request, server, wire):
    """Runs a job that writes its steps; returns the events and the folders of its runs, oldest first."""
    name = re.sub(r"\W+", "_", request.node.name)

    def play(latent_format="SD15", *, preview=None, more=None, **settings):
        server.inputs_of("SafelightPreview")
        inputs = {"write_intermediates": True, "filename_prefix": f"kept/{name}", **(preview or {})}
        graph = wire(latent_format, preview=inputs, spy=f"spied/{name}", **settings)
        if more is not None:
            more(graph)
        played = server.play(graph, workflow=WORKFLOW)
        assert set(played.ends) == {"execution_success"}, played.named("execution_error")
        return played, graph, sorted((server.output / "kept").glob(f"{name}_[0-9]*"))

    play.spied = lambda call=1: server.output / "spied" / f"{name}_{call}.safetensors"
    return play


OUTPUTS = ["MODEL", "SAFELIGHT_STEPS"]


def test_the_nodes_inputs_have_their_names_and_order(server):
    inputs = server.inputs_of("SafelightPreview")
    assert list(inputs) == [
        *("model", "decoder", "show", "every_n_steps", "max_side_px", "write_intermediates"),
        *("filename_prefix", "file_format", "enlarge", "batch", "frames", "keep_latents"),
        *("sheet", "animation", "animation_fps", "animation_hold_s", "animation_from_step", "animation_to_step"),
        *("vae", "full_every_n_steps", "min_interval_s", "write_csv"),
        *("stop_below_percent", "stop_after_steps", "send_previews"),
    ]
    info = server.get("/object_info/SafelightPreview").json()["SafelightPreview"]
    assert (info["display_name"], info["category"], info["output"]) == ("Preview Steps", "Safelight", OUTPUTS)
    assert [name for name, (_, options) in inputs.items() if not options.get("tooltip")] == []


@pytest.mark.parametrize("enlarge", ["nearest", "bicubic", "lanczos"])
@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[4]], ids=lambda case: case.name)
def test_enlarged_pictures_have_the_size_of_the_final_image(kept, server, case, enlarge):
    formats = server.inputs_of("LabModel")["latent_format"][0]
    older.expect(case.name in formats, "ComfyUI", server.version, f"latent format {case.name}")
    _, _, [folder] = kept(case.name, preview={"enlarge": enlarge}, steps=2, **case.model)
    assert {picture(path).size for path in folder.glob("step_*")} == {case.final}
    told = json.loads((folder / "run.json").read_text())["picture"]
    assert (told["shown_width"], told["shown_height"]) == case.final


@pytest.mark.parametrize(("enlarge", "size"), [("off", (48, 32)), ("bicubic", (96, 64))])
def test_a_picture_over_max_side_px_is_shrunk_before_it_is_enlarged(kept, enlarge, size):
    preview = {"enlarge": enlarge, "max_side_px": 48}
    _, _, [folder] = kept("ChromaRadiance", flow=True, preview=preview, steps=2, width=96, height=64)
    assert {picture(path).size for path in folder.glob("step_*")} == {size}


@pytest.mark.parametrize("max_side_px", [0, 1024])
def test_pixel_space_pictures_are_the_models_own_pixels(kept, max_side_px):
    size = {"width": 96, "height": 64}
    _, _, [folder] = kept("ChromaRadiance", flow=True, preview={"max_side_px": max_side_px}, **size)
    with safe_open(kept.spied(), framework="pt") as file:
        x0 = file.get_tensor("x0")[:, 0]
    for latents, path in zip(x0, sorted(folder.glob("step_*")), strict=True):
        expected = ((latents.double() / 2 + 0.5).clamp(0, 1) * 255).movedim(0, -1).numpy()
        assert np.abs(np.asarray(picture(path)) - expected).max() <= 0.5 + 1e-3


def test_noisy_shows_the_samplers_noisy_latents(kept):
    _, _, [folder] = kept("ChromaRadiance", flow=True, preview={"show": "noisy"}, width=96, height=64)
    with safe_open(kept.spied(), framework="pt") as file:
        x = file.get_tensor("x")[:, 0]
    for latents, path in zip(x, sorted(folder.glob("step_*")), strict=True):
        shown = np.asarray(picture(path), dtype=np.float64)
        assert np.corrcoef(shown.ravel(), latents.clamp(-1, 1).movedim(0, -1).ravel())[0, 1] > 0.99
    assert {step["show"] for step in json.loads((folder / "run.json").read_text())["steps"]} == {"noisy"}


@pytest.mark.parametrize("steps", [7, 8, 9])
def test_every_third_step_and_the_last(kept, steps):
    _, _, [folder] = kept(preview={"every_n_steps": 3}, steps=steps)
    expected = sorted({1, 4, 7, steps})
    assert numbers(folder) == expected
    assert [step["index"] for step in json.loads((folder / "run.json").read_text())["steps"]] == expected


def test_min_interval_s_skips_steps_but_not_the_last(kept):
    _, _, [folder] = kept(preview={"min_interval_s": 0.25}, steps=8, step_ms=60.0)
    steps = json.loads((folder / "run.json").read_text())["steps"]
    assert numbers(folder) == [step["index"] for step in steps]
    assert (steps[0]["index"], steps[-1]["index"]) == (1, 8)
    assert len(steps) < 8
    for earlier, later in itertools.pairwise(steps[:-1]):
        assert later["at"] - earlier["at"] > 0.2


def test_write_csv_writes_a_line_for_each_step(kept):
    _, _, [folder] = kept(preview={"write_csv": True}, steps=5)
    heading, *lines = (folder / "steps.csv").read_text().splitlines()
    assert heading == "index,sigma,seconds,decode_ms,file"
    assert [line.split(",")[0] for line in lines] == ["1", "2", "3", "4", "5"]
    assert [line.split(",")[-1] for line in lines] == [f"step_{n:04d}.png" for n in range(1, 6)]


@pytest.mark.parametrize(("file_format", "pillow"), [("webp", "WEBP"), ("jpg", "JPEG"), ("png", "PNG")])
def test_pictures_are_of_the_chosen_format(kept, file_format, pillow):
    _, _, [folder] = kept(preview={"file_format": file_format})
    assert [path.name for path in sorted(folder.glob("step_*"))] == [f"step_{n:04d}.{file_format}" for n in range(1, 5)]
    assert {picture(path).format for path in folder.glob("step_*")} == {pillow}


def test_without_write_intermediates_nothing_is_saved_but_the_node_shows_the_run(kept, server):
    played, _, folders = kept(preview={"write_intermediates": False})
    assert folders == []
    run = safelight(played, "safelight.step")[-1]["run"]
    assert (server.temp / "safelight" / run).is_dir()


def test_a_prefix_may_contain_the_hosts_own_tokens(kept, server):
    prefix = f"kept/{uuid.uuid4().hex[:8]}_%year%"
    kept(preview={"filename_prefix": prefix})
    [folder] = server.output.glob(prefix.replace("%year%", "[0-9][0-9][0-9][0-9]") + "_00001")
    assert len(numbers(folder)) == 4


# The samplers


@pytest.mark.parametrize(
    "sampler",
    ["heun", "dpm_2", "dpmpp_2s_ancestral", "dpmpp_sde", "dpm_fast", "uni_pc", "lms", "ddim", "dpm_adaptive"],
)
def test_other_samplers_have_a_picture_for_each_step_they_report(kept, server, wire, sampler):
    played, graph, [folder] = kept(sampler=sampler, steps=6)
    assert numbers(folder) == sorted(set(spied(kept.spied())))
    assert server.play(wire.without_preview(graph)).digest == played.digest


def test_an_adaptive_samplers_last_step_is_saved_even_if_the_cadence_skips_it(kept):
    _, _, [folder] = kept(sampler="dpm_adaptive", steps=6, preview={"every_n_steps": 5})
    assert numbers(folder)[-1] == max(spied(kept.spied()))


def test_a_custom_sampler_is_shown(kept, server, wire):
    def advanced(graph):
        model = graph[SAMPLER]["inputs"]["model"]
        seed = graph[SAMPLER]["inputs"]["seed"]
        nodes = {
            "10": ("RandomNoise", {"noise_seed": seed}),
            "11": ("BasicGuider", {"model": model, "conditioning": ["1", 1]}),
            "12": ("KSamplerSelect", {"sampler_name": "euler"}),
            "13": ("BasicScheduler", {"model": model, "scheduler": "simple", "steps": 4, "denoise": 1.0}),
        }
        graph |= {key: {"class_type": name, "inputs": inputs} for key, (name, inputs) in nodes.items()}
        inputs = {"noise": ["10", 0], "guider": ["11", 0], "sampler": ["12", 0], "sigmas": ["13", 0]}
        graph[SAMPLER] = {"class_type": "SamplerCustomAdvanced", "inputs": {**inputs, "latent_image": ["1", 2]}}

    played, graph, [folder] = kept(more=advanced)
    assert numbers(folder) == [1, 2, 3, 4]
    manifest = json.loads((folder / "run.json").read_text())
    assert (manifest["host"]["sampler_node"], manifest["sampler"]["seed"]) == (
        SAMPLER,
        graph["10"]["inputs"]["noise_seed"],
    )
    assert server.play(wire.without_preview(graph)).digest == played.digest


def test_a_second_sampler_in_the_same_prompt_is_a_second_run(kept):
    def refine(graph):
        first = graph[SAMPLER]["inputs"]
        graph["20"] = {
            "class_type": "KSampler",
            "inputs": {**first, "latent_image": [SAMPLER, 0], "denoise": 0.5, "steps": 3},
        }
        graph["5"]["inputs"]["samples"] = ["20", 0]

    played, _, [first] = kept(more=refine)
    folders = [first, first / "run_002"]
    assert [numbers(folder) for folder in folders] == [[1, 2, 3, 4], [1, 2, 3]]
    told = [json.loads((folder / "run.json").read_text()) for folder in folders]
    assert [run["host"]["sampler_node"] for run in told] == [SAMPLER, "20"]
    assert told[0]["id"] != told[1]["id"]
    assert len({event["run"] for event in safelight(played, "safelight.run")}) == 2


def test_each_queued_prompt_is_a_run_with_its_seed_in_the_pictures(server, wire):
    """The node stays cached if only the seed changes, with the prompt that it was executed with."""
    preview = {"write_intermediates": True, "filename_prefix": "kept/queued"}
    graphs = [wire(preview=preview) for _ in range(3)]
    played = server.play(*graphs, workflow=WORKFLOW)
    assert played.ends == ["execution_success"] * 3
    folders = sorted((server.output / "kept").glob("queued_*"))
    assert [folder.name for folder in folders] == ["queued_00001", "queued_00002", "queued_00003"]
    for folder, graph, prompt_id in zip(folders, graphs, played.prompt_ids, strict=True):
        manifest = json.loads((folder / "run.json").read_text())
        assert manifest["host"]["prompt_id"] == prompt_id
        assert manifest["sampler"]["seed"] == graph[SAMPLER]["inputs"]["seed"]
        for path in folder.glob("step_*"):
            assert json.loads(picture(path).text["prompt"]) == graph


def test_a_cached_sampler_starts_no_run(server, wire):
    graph = wire(preview={"write_intermediates": True, "filename_prefix": "kept/cached"})
    first, second = server.play(graph), server.play(graph)
    assert first.named("safelight.run")
    assert not [event for event in second.events if event.name.startswith("safelight")]
    assert [path.name for path in (server.output / "kept").glob("cached_*")] == ["cached_00001"]


def test_two_nodes_on_one_model_line_each_save_the_run(kept, server, wire):
    def again(graph):
        second = {**graph[PREVIEW]["inputs"], "model": [PREVIEW, 0], "enlarge": "nearest"}
        graph["6:2"] = {"class_type": "SafelightPreview", "inputs": second}
        graph["3"]["inputs"]["model"] = ["6:2", 0]

    played, graph, folders = kept(more=again)
    assert [numbers(folder) for folder in folders] == [[1, 2, 3, 4]] * 2
    told = [json.loads((folder / "run.json").read_text()) for folder in folders]
    assert {run["host"]["node"] for run in told} == {PREVIEW, "6:2"}
    bare = wire.without_preview(graph)
    del bare["6:2"]
    bare["3"]["inputs"]["model"] = ["1", 0]
    assert server.play(bare).digest == played.digest


def test_batch_first_saves_only_the_first_picture(kept):
    preview = {"batch": "first"}
    _, _, [folder] = kept("ChromaRadiance", flow=True, preview=preview, width=96, height=64, batch=3)
    with safe_open(kept.spied(), framework="pt") as file:
        first = file.get_tensor("x0")[-1, 0]
    expected = ((first / 2 + 0.5).clamp(0, 1) * 255).movedim(0, -1).numpy()
    assert np.abs(np.asarray(picture(folder / "step_0004.png")) - expected).max() <= 0.5 + 1e-3


def test_a_run_without_a_workflow_is_saved(server, wire):
    """Scripts queue prompts without a workflow."""
    played = server.play(wire(preview={"write_intermediates": True, "filename_prefix": "kept/script"}))
    assert played.ends == ["execution_success"]
    folder = server.output / "kept/script_00001"
    assert json.loads((folder / "run.json").read_text())["host"]["workflow_id"] is None
    assert "workflow" not in picture(folder / "step_0001.png").text


def test_disable_metadata_keeps_prompts_out_of_pictures(quiet_server, wire):
    graph = wire(preview={"write_intermediates": True, "filename_prefix": "kept/quiet"})
    assert quiet_server.play(graph, workflow=WORKFLOW).ends == ["execution_success"]
    pictures = sorted((quiet_server.output / "kept/quiet_00001").glob("step_*.png"))
    assert len(pictures) == 4
    for path in pictures:
        assert not {"prompt", "workflow"} & set(picture(path).text)


def test_the_sampler_is_delayed_only_a_little(kept):
    """A generous limit: on a machine with a free core, a step costs the sampler much less than a millisecond."""
    kept(steps=40, step_ms=5.0, preview={"write_intermediates": False})
    with safe_open(kept.spied(), framework="pt") as file:
        watched_ms = np.array(json.loads(file.metadata()["seconds"])) * 1000
    kept(steps=40, step_ms=5.0, preview={"write_intermediates": False, "every_n_steps": 10_000})
    with safe_open(kept.spied(2), framework="pt") as file:
        spared_ms = np.array(json.loads(file.metadata()["seconds"])) * 1000
    assert np.median(watched_ms) - np.median(spared_ms) < 20
    assert math.isfinite(watched_ms.max())
