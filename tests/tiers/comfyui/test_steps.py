"""The steps of a run as data, on a real server: as images, continued by a sampler, loaded again."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ... import older

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
    """Adds a KSampler (Advanced) that continues from a step, and the digest of its result."""
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
    """Adds the same with a SamplerCustom."""
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


# Continuing


@pytest.mark.parametrize("sampler", ["euler", "heun"])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_sampler_that_continues_from_any_step_ends_with_the_same_result(server, wire, model, sampler):
    graph = wire(preview={"keep_latents": True}, steps=STEPS, sampler=sampler, **model)
    continued = []
    for step in (1, 2, 5, STEPS):
        picked = pick(graph, step, f"pick {step}")
        continued.append(go_on(graph, picked, f"advanced {step}", sampler=sampler))
        continued.append(go_on_custom(graph, picked, f"custom {step}", sampler=sampler))
    found = digests(server.play(graph))
    assert {name: found[name] for name in continued} == dict.fromkeys(continued, found[DIGEST])


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_another_model_continues_as_from_a_sampler_that_ended_at_the_step(server, wire, model):
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
    assert found[continued] != found[DIGEST], "the model of Continue from Step has no effect"


def test_a_run_that_began_inside_its_schedule_is_continued_there(server, wire):
    graph = wire(preview={"keep_latents": True}, steps=6)
    graph[SAMPLER]["inputs"]["denoise"] = 0.5
    continued = go_on(graph, pick(graph, 3), CONTINUED)
    found = digests(server.play(graph))
    assert found[continued] == found[DIGEST]


def test_video_and_audio_in_one_tensor_are_both_continued(server, wire):
    has_packs = tuple(map(int, server.version.split(".")[:2])) >= (0, 4)
    older.expect(has_packs, "ComfyUI", server.version, "sampler of packs")
    graph = wire("LTXV", flow=True, frames=3, sound=5, preview={"keep_latents": True}, steps=STEPS)
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


def test_other_settings_give_another_result(server, wire):
    graph = wire(preview={"keep_latents": True}, steps=STEPS)
    continued = go_on(graph, pick(graph, 2), CONTINUED, sampler="heun")
    found = digests(server.play(graph))
    assert found[continued] != found[DIGEST]


def test_of_two_samplers_with_one_model_the_connected_one_is_continued(server, wire):
    graph = wire(preview={"keep_latents": True}, steps=STEPS)
    other = {**graph[SAMPLER]["inputs"], "seed": 4711}
    graph["other sampler"] = {"class_type": "KSampler", "inputs": other}
    keep_digest(graph, "other sampler", "other")
    names = {SAMPLER: "by the first", "other sampler": "by the other"}
    for sampler, name in names.items():
        go_on(graph, pick(graph, 3, f"pick {name}", after=sampler), name)
    found = digests(server.play(graph))
    assert found["by the first"] == found[DIGEST] != found["other"] == found["by the other"]


def test_a_cached_sampler_can_be_continued(server, wire):
    graph = wire(preview={"keep_latents": True}, steps=STEPS)
    first = digests(server.play(graph))
    continued = go_on(graph, pick(graph, 5), CONTINUED)
    played = server.play(graph)
    assert any(SAMPLER in event.data["nodes"] for event in played.named("execution_cached"))
    assert played.histories[0]["outputs"][continued]["digest"][0] == first[DIGEST]


def test_the_result_is_bit_identical_with_keep_latents(server, wire):
    graph = wire("Flux", flow=True, preview={"keep_latents": True}, seed=77)
    bare = wire("Flux", flow=True, seed=77, again=1)
    assert server.play(graph).digest == server.play(bare).digest


@pytest.mark.parametrize("sampler", ["uni_pc", "ipndm", "dpm_adaptive"])
def test_a_sampler_that_does_not_report_its_latents_cannot_be_continued(server, wire, sampler):
    graph = wire(preview={"keep_latents": True}, steps=STEPS, sampler=sampler)
    go_on(graph, pick(graph, 3), CONTINUED)
    assert f"no sampler can continue from the sampler {sampler}: it does not report the latents" in refusal(
        server.play(graph)
    )


def test_a_missing_step_is_reported_with_the_existing_ones(server, wire):
    graph = wire(preview={"keep_latents": True, "every_n_steps": 3}, steps=STEPS)
    go_on(graph, pick(graph, STEPS + 1), CONTINUED)
    assert "this run has no step 9; there are latents of steps 1, 4, 7-8" in refusal(server.play(graph))


def test_without_saved_latents_the_message_names_keep_latents(server, wire):
    graph = wire(preview={}, steps=STEPS)
    go_on(graph, pick(graph, 3), CONTINUED)
    assert "no latents of this run were saved: switch on keep_latents" in refusal(server.play(graph))


def test_without_a_sampler_the_message_says_what_to_connect(server, wire):
    graph = wire(preview={"keep_latents": True}, steps=STEPS)
    go_on(graph, pick(graph, 3, after=MODEL), CONTINUED)
    graph[PICK]["inputs"]["after_sampling"] = [MODEL, 2]
    del graph[SAMPLER], graph[DIGEST]
    graph[f"{CONTINUED} sampler"]["inputs"] |= {"positive": [MODEL, 1], "negative": [MODEL, 1], "cfg": 1.0}
    graph[f"{CONTINUED} sampler"]["inputs"]["scheduler"] = "normal"
    assert "connect the sampler's LATENT to after_sampling" in refusal(server.play(graph))


def test_a_deleted_run_folder_is_reported(server, wire):
    preview = {"keep_latents": True, "write_intermediates": True, "filename_prefix": "steps/gone"}
    graph = wire(preview=preview, steps=STEPS)
    server.play(graph)
    shutil.rmtree(server.output / "steps/gone_00001")
    go_on(graph, pick(graph, 3), CONTINUED)
    assert "the latents of gone_00001 are gone: its folder was deleted, or newer runs needed the space" in refusal(
        server.play(graph)
    )


# Files


def test_latents_are_saved_bit_for_bit(server, wire):
    preview = {"keep_latents": True, "write_intermediates": True, "filename_prefix": "steps/kept"}
    graph = wire("Flux", flow=True, batch=2, preview=preview, spy="steps_spy", steps=5)
    assert server.play(graph).ends == ["execution_success"]
    folder = server.output / "steps/kept_00001"
    spied = load_file(server.output / "steps_spy_1.safetensors")
    with safe_open(server.output / "steps_spy_1.safetensors", framework="pt") as file:
        sigmas = torch.tensor(json.loads(file.metadata()["sigmas"]))
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert [step["latent"] for step in manifest["steps"]] == [f"step_{i:04d}.safetensors" for i in range(1, 6)]
    assert [step["files"] for step in manifest["steps"]] == [[f"step_{i:04d}.png"] for i in range(1, 6)]
    for i, step in enumerate(manifest["steps"]):
        kept = load_file(folder / step["latent"])
        assert set(kept) == {"noisy", "denoised", "sigmas"}
        assert torch.equal(kept["noisy"], spied["x"][i])
        assert torch.equal(kept["denoised"], spied["x0"][i])
        assert torch.equal(kept["sigmas"], sigmas)


def test_latents_of_a_run_without_files_are_next_to_its_live_pictures(server, wire):
    graph = wire(preview={"keep_latents": True}, steps=3)
    played = server.play(graph)
    run = played.named("safelight.run")[0].data["run"]
    assert {path.name for path in (server.temp / "safelight" / run).glob("*.safetensors")} == {
        f"step_{i:04d}.safetensors" for i in (1, 2, 3)
    }
    assert server.get(f"/safelight/runs/{run}/step_0001.safetensors").status == 404, "only pictures are served"


def test_latents_that_do_not_fit_on_the_disk_add_a_note_with_the_numbers_and_the_run_continues(server, wire):
    server.post("/settings", {"Safelight.BudgetMB": 1})
    try:
        graph = wire("Wan21", flow=True, frames=21, height=60, width=104, steps=2, preview={"keep_latents": True})
        played = server.play(graph)
        assert played.ends == ["execution_success"]
        run = played.named("safelight.run")[0].data["run"]
        notes = server.get(f"/safelight/runs/{run}").json()["notes"]
        assert any("2 steps of 16.0 MB need 32.0 MB, the budget for live runs" in note for note in notes), notes
        assert not list((server.temp / "safelight" / run).glob("*.safetensors"))
        go_on(graph, pick(graph, 2), CONTINUED)
        assert "no latents are saved: 2 steps of 16.0 MB" in refusal(server.play(graph))
    finally:
        server.post("/settings", {"Safelight.BudgetMB": 512})


# Images


def steps_to_images(graph, **inputs):
    graph["images"] = {
        "class_type": "SafelightSteps",
        "inputs": {"steps": [PREVIEW, 1], "after_sampling": [SAMPLER, 0], **inputs},
    }
    for output, name in enumerate(("images", "sheet")):
        graph[f"keep {name}"] = {
            "class_type": "LabKeep",
            "inputs": {"file": f"steps_{name}.safetensors", "image": ["images", output]},
        }


def kept_image(server, name):
    return load_file(server.output / f"steps_{name}.safetensors")["image"]


def test_steps_to_images_outputs_the_written_pictures(server, wire):
    preview = {"write_intermediates": True, "filename_prefix": "steps/images", "enlarge": "bicubic"}
    graph = wire(preview=preview, steps=6)
    steps_to_images(graph)
    assert server.play(graph).ends == ["execution_success"]
    found = kept_image(server, "images")
    for i, image in enumerate(found):
        with Image.open(server.output / f"steps/images_00001/step_{i + 1:04d}.png") as written:
            assert torch.equal(image, torch.from_numpy(np.array(written)).float() / 255)
    assert len(found) == 6
    sheet = kept_image(server, "sheet")
    assert len(sheet) == 1
    assert sheet.shape[2] > 2 * 256
    assert sheet.max() <= 1


def test_steps_to_images_works_for_a_run_without_files(server, wire):
    graph = wire(preview={"every_n_steps": 2}, steps=7)
    steps_to_images(graph, max_images=3)
    assert server.play(graph).ends == ["execution_success"]
    assert len(kept_image(server, "images")) == 3


# Loading


@pytest.fixture
def loaded(server, wire, request):
    """Saves a run with its latents, changes its folder, and loads it; returns the events and the folder."""
    name = "".join(letter if letter.isalnum() else "_" for letter in request.node.name)

    def play(change=lambda folder: None, folder=None, **inputs):
        preview = {"write_intermediates": True, "keep_latents": True, "filename_prefix": f"loaded/{name}"}
        graph = wire("Flux", flow=True, preview=preview, steps=5)
        graph["latent"] = {"class_type": "SaveLatent", "inputs": {"samples": [SAMPLER, 0], "filename_prefix": name}}
        assert server.play(graph).ends == ["execution_success"]
        path = server.output / f"loaded/{name}_00001"
        change(path)
        run = {"run": "none", "folder": folder or f"loaded/{name}_00001", "step": 0, "max_images": 200}
        return server.play(
            {
                "load": {"class_type": "SafelightLoadRun", "inputs": {**run, **inputs}},
                "images": {"class_type": "LabKeep", "inputs": {"file": "loaded.safetensors", "image": ["load", 0]}},
                "digest": {"class_type": "LabDigest", "inputs": {"samples": ["load", 1]}},
                "tell": {"class_type": "LabTell", "inputs": {"text": ["load", 2]}},
                "latent": {
                    "class_type": "SaveLatent",
                    "inputs": {"samples": ["load", 1], "filename_prefix": f"{name}_again"},
                },
            }
        ), path

    return play


def test_a_run_is_loaded_with_pictures_latents_and_summary(server, loaded):
    played, folder = loaded(step=3)
    assert played.ends == ["execution_success"], played.named("execution_error")
    assert len(load_file(server.output / "loaded.safetensors")["image"]) == 5
    told = played.histories[0]["outputs"]["tell"]["told"][0]
    assert f"{folder.name}: finished, 5 steps, name euler, scheduler normal" in told
    assert "latents of steps 1-5" in told
    [saved] = server.output.glob("test_a_run_is_loaded_with_pictures*_again_*.latent")
    denoised = load_file(folder / "step_0003.safetensors")["denoised"]
    expected = denoised / 0.3611 + 0.1159  # scale and shift of FLUX.1's VAE
    torch.testing.assert_close(load_file(saved)["latent_tensor"], expected)
    listed = server.inputs_of("SafelightLoadRun")["run"]
    options = listed[1]["options"] if listed[0] == "COMBO" else listed[0]
    assert options[0] == f"loaded/{folder.name}"


def without_a_picture(folder):
    (folder / "step_0002.png").unlink()


def without_latents(folder):
    (folder / "step_0005.safetensors").unlink()


def of_a_newer_version(folder):
    edit(folder, format="safelight.run/2")


def with_a_way_out(folder):
    edit_step(folder, files=["../../secret.png"])


def with_a_link_out(folder):
    (folder.parent / "elsewhere.png").write_bytes((folder / "step_0001.png").read_bytes())
    (folder / "step_0001.png").unlink()
    (folder / "step_0001.png").symlink_to(folder.parent / "elsewhere.png")


def with_latents_of_another_step(folder):
    (folder / "step_0005.safetensors").write_bytes((folder / "step_0002.safetensors").read_bytes())


def with_latents_of_another_space(folder):
    path = folder / "step_0005.safetensors"
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()
    tensors = load_file(path)
    save_file(tensors | {"denoised": tensors["denoised"][:, :7].contiguous()}, path, facts)


def with_no_picture_in_a_file(folder):
    (folder / "step_0001.png").write_bytes(b"this is no picture")


def with_broken_latents(folder):
    (folder / "step_0005.safetensors").write_bytes(b"this is no safetensors file")


def without_a_record(folder):
    (folder / "run.json").unlink()


def edit(folder, **facts):
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | facts))


def edit_step(folder, **facts):
    steps = json.loads((folder / "run.json").read_text(encoding="utf-8"))["steps"]
    edit(folder, steps=[steps[0] | facts, *steps[1:]])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without_a_picture, "step_0002.png is listed in run.json and missing"),
        (without_latents, "step_0005.safetensors: no such file; it was moved or deleted"),
        (of_a_newer_version, "expected format safelight.run/1, found 'safelight.run/2'; a newer run needs a newer"),
        (with_a_way_out, "'../../secret.png' is not the name of a file in the folder"),
        (with_a_link_out, "step_0001.png: is a link"),
        (with_latents_of_another_step, "expected latents of step '5', found '2'; the folder was edited"),
        (with_latents_of_another_space, "step 5: latents of FLUX.1"),
        (with_no_picture_in_a_file, "step_0001.png: expected a picture"),
        (with_broken_latents, "step_0005.safetensors: not a whole safetensors file"),
        (without_a_record, "expected the folder of a run"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_edited_folder_is_reported_with_what_is_wrong(loaded, change, expected):
    played, _ = loaded(change)
    assert expected in refusal(played)


@pytest.mark.parametrize("folder", ["../input", "/", "loaded/../../models", "loaded/nothing", "loaded/\0"])
def test_only_folders_in_the_output_folder_are_loaded(loaded, folder):
    played, _ = loaded(folder=folder)
    assert "the output folder" in refusal(played) or "not a path" in refusal(played)


def test_a_step_that_the_run_does_not_have_is_reported(loaded):
    played, _ = loaded(step=9)
    assert "this run has no step 9; there are latents of steps 1-5" in refusal(played)


def test_a_run_without_latents_outputs_pictures_and_blocks_only_the_latent_output(server, wire):
    preview = {"write_intermediates": True, "filename_prefix": "loaded/bare"}
    server.play(wire(preview=preview, steps=3))
    load = {"run": "loaded/bare_00001", "folder": "", "step": 0, "max_images": 200}
    played = server.play(
        {
            "load": {"class_type": "SafelightLoadRun", "inputs": load},
            "images": {"class_type": "LabKeep", "inputs": {"file": "bare.safetensors", "image": ["load", 0]}},
        }
    )
    assert played.ends == ["execution_success"]
    assert len(load_file(server.output / "bare.safetensors")["image"]) == 3
    digest = {"class_type": "LabDigest", "inputs": {"samples": ["load", 1]}}
    played = server.play({"load": {"class_type": "SafelightLoadRun", "inputs": load}, "digest": digest})
    assert "no latents were saved of this run" in played.named("execution_error")[0].data["exception_message"]
