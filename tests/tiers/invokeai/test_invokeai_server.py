"""What a real InvokeAI shows, keeps and makes; runs for minutes."""

import json
import math

import pytest
from PIL import Image
from safelight.preview.manifest import read_manifest

pytestmark = pytest.mark.timeout(1600)

STEPS = 4
OURS = {
    *("preview_decoder", "every_n_steps", "write_intermediates", "filename_prefix", "file_format"),
    *("enlarge", "sheet", "animation", "to_gallery"),
}


@pytest.fixture(scope="session")
def drive(lab):
    return lab("drive")


@pytest.fixture(scope="session")
def seen(drive):
    return drive[0]


@pytest.fixture(scope="session")
def outputs(drive):
    return drive[1] / "root" / "outputs"


def test_the_final_image_is_the_core_nodes(seen):
    assert seen["core"]["status"] == seen["twin"]["status"] == "completed", seen["twin"]
    assert seen["twin"]["final"] == seen["core"]["final"]
    assert seen["twin"]["draft"] == seen["core"]["draft"]


def test_the_ui_is_sent_a_picture_of_every_step_and_none_of_the_noise(seen):
    first, *steps = [one for one in seen["twin"]["previews"] if one["message"] == "Denoising"]
    assert (first["percentage"], first["size"]) == (0.0, None)
    assert [one["percentage"] for one in steps] == [0.25, 0.5, 0.75, 1.0]
    assert {tuple(one["shown"]) for one in steps} == {(64, 64)}
    assert {one["format"] for one in steps} == {"JPEG"}


def test_files_are_in_the_outputs_folder(outputs, seen):
    folder = outputs / "twin" / "run_00001"
    manifest = read_manifest(folder)
    assert (manifest["state"], manifest["space"], manifest["notes"]) == ("finished", "sd1", [])
    assert (manifest["host"]["version"], manifest["host"]["node"]) == (seen["version"], "denoise")
    assert manifest["sampler"] | {"steps": STEPS, "seed": 7, "cfg": 5.0, "name": "dpmpp_2m"} == manifest["sampler"]
    assert [step["show"] for step in manifest["steps"]] == ["denoised"] * STEPS
    there = {path.name for path in folder.iterdir()}
    assert {"run.json", "index.html", "sheet.png", "steps.webp", "step_0001.png", "step_0004.png"} <= there


def test_a_file_has_the_graph_inside(outputs):
    picture = Image.open(outputs / "twin" / "run_00001" / "step_0002.png")
    graph = json.loads(picture.text["invokeai_graph"])
    assert graph["nodes"]["denoise"]["type"] == "safelight_denoise_latents"
    assert json.loads(picture.text["safelight"])["step"] == 2


def test_the_last_step_is_what_the_latents_are(outputs, seen):
    picture = Image.open(outputs / "twin" / "run_00001" / "step_0004.png").convert("RGB")
    assert picture.tobytes().hex() == seen["twin"]["draft"]


def test_the_gallery_has_the_steps_where_it_was_asked_to(seen):
    assert seen["others"] == STEPS


def test_every_scheduler_has_the_core_nodes_image_and_an_x0_for_every_step(outputs, seen):
    assert len(seen["schedulers"]) >= 30
    for name, both in seen["schedulers"].items():
        assert both["core"]["status"] == both["twin"]["status"] == "completed", (name, both)
        assert both["twin"]["draft"] == both["core"]["draft"], name
        manifest = read_manifest(outputs / "schedulers" / f"{name}_00001")
        shown = {step["index"]: step["show"] for step in manifest["steps"]}
        assert set(shown.values()) == {"denoised"}, name
        assert len(shown) >= STEPS, name
        assert manifest["notes"] == [], name


def test_a_twin_has_the_inputs_of_its_core_node_and_ours(seen):
    twins = [name for name in seen["inputs"] if name.startswith("safelight_")]
    assert len(twins) >= 3
    for name in twins:
        assert set(seen["inputs"][name]) == set(seen["inputs"][name.removeprefix("safelight_")]) | OURS


def test_a_twin_is_of_another_version_where_its_core_node_is(seen):
    for name, version in seen["versions"].items():
        if name.startswith("safelight_"):
            major, minor, patch = map(int, seen["versions"][name.removeprefix("safelight_")].split("."))
            ours = [int(part) for part in version.split(".")]
            assert (ours[:2], ours[2] // 100) == ([major, minor], patch)


def test_a_connected_sheet_is_of_the_run_though_no_steps_were_written(seen, outputs):
    assert seen["sheet"]["status"] == "completed", seen["sheet"]
    assert {path.name for path in (outputs / "sheets" / "run_00001").iterdir()} == {"run.json", "sheet.png"}
    with Image.open(outputs / "sheets" / "run_00001" / "sheet.png") as kept:
        assert tuple(seen["sheet"]["size"]) == kept.size


def test_a_sheet_of_a_folder_has_as_many_steps_as_one_wants(seen, outputs):
    assert seen["sheet_of"]["status"] == "completed", seen["sheet_of"]
    with Image.open(outputs / "twin" / "run_00001" / "sheet.png") as all_four:
        assert math.prod(seen["sheet_of"]["size"]) < math.prod(all_four.size)


def test_where_there_is_no_run_it_is_said(seen):
    assert seen["no_sheet"]["status"] == "failed"
    assert "there is no such folder in the output folder" in seen["no_sheet"]["error"]


def test_a_fitted_decoder_is_what_the_next_run_shows(seen, outputs):
    found = seen["fit"]
    assert found["fit"]["status"] == "completed", found["fit"]
    assert found["made"] == ["sd1-affine.safetensors", "sd1-neighbourhood.safetensors"]
    shown = read_manifest(outputs / "fitted" / "run_00001")["decoder"]["name"]
    assert f"{shown}.safetensors" in found["made"]
    assert "Latent space: Stable Diffusion 1 and 2 (sd1)" in found["fit"]["summary"]


def test_a_fit_tells_how_far_it_is(seen):
    shares = [one["percentage"] for one in seen["fit"]["told"] if one["percentage"] is not None]
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert shares[-1] > 0.95


def test_a_fit_that_is_cancelled_leaves_nothing(seen):
    found = seen["fit"]
    assert (found["cancelled"], found["after"], found["left"]) == ("canceled", "completed", [])


def test_too_few_pictures_are_told_in_words(seen):
    assert seen["fit"]["too_few"]["status"] == "failed"
    assert "expected at least 3 pictures" in seen["fit"]["too_few"]["error"]


def test_cancel_works_at_once(outputs, seen):
    assert (seen["cancel"]["status"], seen["cancel"]["after"]) == ("canceled", "completed")
    manifest = read_manifest(outputs / "cancelled" / "run_00001")
    assert manifest["state"] == "interrupted"
    assert manifest["steps"][-1]["index"] < 900


def test_a_decoder_that_is_gone_does_not_stop_a_workflow(seen):
    assert seen["unknown_decoder"]["status"] == "completed", seen["unknown_decoder"]
    assert seen["unknown_decoder"]["draft"] == seen["core"]["draft"]


def test_a_prefix_that_leads_out_is_told_in_words(seen):
    assert seen["outside"]["status"] == "failed"
    assert "expected a path inside the output folder" in json.dumps(seen["outside"])


def test_whole_host_previews_show_the_core_node_too(seen):
    found = seen["everywhere"]
    assert found["final"] == seen["core"]["final"]
    first, *steps = [one for one in found["previews"] if one["message"] == "Denoising"]
    assert (first["percentage"], first["size"]) == (0.0, None)  # of noise, the host itself would show a picture
    assert steps[-1]["percentage"] == 1.0
    assert all(one["size"] for one in steps)
    assert seen["everywhere_twin"]["final"] == seen["core"]["final"]


@pytest.mark.parametrize("name", ["preview_steps", "contact_sheet"])
def test_a_workflow_that_ships_is_taken_and_runs(seen, name):
    found = seen["workflows"][name]
    assert (found["taken"], found["status"], found["error"]) == (200, "completed", None)


def test_a_workflow_that_ships_has_the_inputs_that_the_newest_host_has(seen):
    workflows = [*seen["workflows"].values(), seen["fit"]["workflow"]]
    assert {one["taken"] for one in workflows} == {200}
    if any(one["older"] for one in workflows):
        pytest.skip("the workflows are of another version of InvokeAI")
    assert [one["unknown"] + one["missing"] for one in workflows] == [[]] * 3  # the UI marks a node in red for either


def test_the_workflow_that_writes_steps_writes_them(seen, outputs):
    assert read_manifest(outputs / "safelight" / "steps_00001")["state"] == "finished"


def test_it_goes_on_after_a_reload_of_packs(seen):
    if seen["reload"] in (404, 405):  # older ones have no such page, or another at its address
        pytest.skip("this InvokeAI reloads no packs")
    assert (seen["reload"], seen["after_reload"]) == (200, "completed")


def test_whole_host_previews_are_switched_by_loading_the_packs_again(seen):
    if seen["reload"] in (404, 405):  # older ones have no such page, or another at its address
        pytest.skip("this InvokeAI reloads no packs")
    on, off = ([one for one in found["previews"] if one["message"] == "Denoising"] for found in seen["switched"])
    assert (on[0]["percentage"], on[0]["size"]) == (0.0, None)  # ours: no picture of noise
    assert all(one["size"] for one in on[1:])
    assert (off[0]["percentage"], off[0]["size"]) == (0.0, [8, 8])  # the host's own
