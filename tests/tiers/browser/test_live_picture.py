"""The newest picture on the node, as a person sees it."""

import json
from pathlib import Path

import pytest

OURS = "comfy-safelight-preview"


def scene(told, name: str):
    seen = told[name]
    if "error" in seen:
        pytest.fail(f"{name}: {seen['error']}")
    return seen


def run_of(seen) -> str:
    return seen["picture"].split("/runs/")[1].split("/")[0]


def test_the_picture_changes_while_the_sampler_runs(told):
    live = scene(told, "live")
    running = [seen for seen in live["seen"] if seen["painted"] and "running" in seen["state"]]
    assert len({seen["picture"] for seen in running}) >= 3
    assert live["seen"][-1]["step"] == "step 8 / 8"
    assert "finished" in live["seen"][-1]["state"]
    assert live["seen"][-1]["maker"].startswith("flux1 · ")


def test_the_manifest_is_read_a_few_times_for_a_run_and_each_picture_once(told):
    reads = scene(told, "live")["reads"]
    assert reads.count("manifest") <= 4
    assert reads.count("picture") <= 8


def test_a_caption_is_that_of_the_picture_above_it(told):
    for seen in scene(told, "live")["seen"]:
        if seen["painted"]:
            assert seen["step"] == f"step {int(seen['picture'].split('step_')[1][:4])} / 8"


def test_nothing_moves_when_pictures_arrive(told):
    live = scene(told, "live")
    assert {tuple(seen["size"]) for seen in live["seen"]} == {tuple(live["idle"]["size"])}


def test_a_node_that_waits_says_how_to_begin(told):
    assert "Connect model to a sampler" in scene(told, "live")["idle"]["words"]


def test_nothing_of_the_view_is_in_the_prompt_or_the_workflow(told, browsed_server):
    live, inputs = scene(told, "live"), browsed_server.inputs_of("SafelightPreview")
    typed = {name for name, (kind, *_) in inputs.items() if kind not in ("MODEL", "VAE")}  # those come by links
    assert set(live["inputs"]) == {"model"} | typed
    assert len(live["values"]) == len(typed)


def test_a_person_travels_by_mouse_and_keys(told):
    seen = scene(told, "scrub")
    assert seen["bubble"]
    assert seen["dragged"]["picture"].split("?")[0].endswith("step_0001.jpg")
    assert seen["dragged"]["live"] == "held"
    assert seen["Shift+ArrowRight"]["strip"].startswith("step 7 of 8, sigma ")
    assert seen["End"]["live"] == "newest"
    assert len({now["picture"] for now in seen["played"]}) >= 6, "of 8: a busy driver looks away now and then"
    assert seen["full"]["size"][0] > 1400
    assert seen["back"]["size"][0] < 700


def test_the_wheel_is_the_canvas_s_until_somebody_clicked_into_the_viewer(told, browsed_server, request):
    if "vue" in request.node.callspec.id and browsed_server.version.startswith("0.3."):
        pytest.skip("the first Vue nodes of ComfyUI 0.3 keep the wheel for the canvas")
    seen = scene(told, "wheel")
    assert not seen["unfocused"]["zoomed"]
    assert seen["focused"]["scale"] == seen["before"]["scale"]
    assert seen["panned"]["x"] > seen["zoomed"]["x"]
    assert not seen["fitted"]["zoomed"]


def test_two_runs_are_compared_at_the_same_step(told):
    seen = scene(told, "compare")
    assert run_of(seen["wiped"]) not in seen["wiped"]["other"]
    assert "seed" in seen["wiped"]["differences"]
    assert seen["kept"]["compare"] == "difference"
    assert seen["after"]["picture"].split("?")[0].endswith("step_0007.jpg")


def test_a_locked_step_stays_while_another_run_begins(told):
    seen = scene(told, "locked")
    assert seen["during"]["picture"] == seen["before"]["picture"]
    assert run_of(seen["after"]) != run_of(seen["before"])


def test_the_settings_panel_has_the_speed_and_keeps_it(told):
    assert scene(told, "settings") == {"set": "16/s", "after": "16/s"}


def test_another_workflow_with_the_same_node_ids_shows_nothing_of_it_and_the_way_back_everything(told):
    tabs = scene(told, "tabs")
    assert tabs["other"]["picture"] is tabs["still"]["picture"] is None
    assert tabs["back"]["picture"] == tabs["before"]["picture"]


def test_after_a_reload_the_picture_is_back(told):
    reload = scene(told, "reload")
    assert reload["after"]["picture"] == reload["before"]["picture"]
    assert reload["after"]["step"] == reload["before"]["step"]


def test_a_reload_in_the_middle_of_a_run_loses_nothing_of_what_comes(told):
    reload = scene(told, "reload_while_running")
    pictures = [seen for seen in reload["after"] if seen["painted"] and "running" in seen["state"]]
    assert len(pictures) >= 3
    assert {run_of(seen) for seen in pictures} == {run_of(reload["before"])}


def test_another_client_is_told_nothing_of_a_run_but_may_ask_for_it_in_the_same_workflow(told):
    other = scene(told, "another_client")
    assert run_of(other["ours"]) != run_of(other["before"])
    assert run_of(other["after"]) == run_of(other["ours"])
    assert other["told"] == []


def test_a_run_that_was_stopped_or_failed_says_where(told):
    stopped, failed = scene(told, "stopped")["seen"], scene(told, "failed")["seen"]
    assert stopped["step"].startswith("stopped at step ")
    assert failed["step"] == "failed at step 3 / 8"
    assert failed["note"].startswith("the sampler failed: RuntimeError")
    assert stopped["painted"]
    assert failed["painted"]


def test_a_node_in_a_subgraph_shows_its_run_when_the_subgraph_is_opened(told, browsed_server, request):
    if "vue" in request.node.callspec.id and browsed_server.version.startswith("0.3."):
        pytest.skip("the first Vue nodes of ComfyUI 0.3: the stage is not put into subgraphs")
    nested = scene(told, "subgraph")
    assert nested["closed"]["picture"] is None
    assert nested["open"]["step"] == "step 8 / 8"
    assert nested["node"].count(":") == 1


def test_the_pictures_of_a_batch_and_the_frames_of_a_video_are_looked_at_one_by_one(told):
    seen = scene(told, "several")
    endings = [name.split("step_0008")[1].split(".")[0] for name in seen["grid"]["pictures"]]
    assert endings == ["_item_01", "_item_02", "_item_03"]
    assert "_item_02." in seen["one"]["picture"]
    assert ".webp" in seen["plays"]["picture"]
    assert seen["plays"]["frame"].endswith(" frames")
    assert seen["first"]["frame"].startswith("1 / ")
    assert seen["second"]["drawn"] == 1


def test_a_workflow_that_is_saved_under_another_name_keeps_the_runs_that_it_had(told):
    unsaved, saved, renamed, reloaded, again = scene(told, "renamed")["told"]
    assert unsaved["id"] == saved["id"] != renamed["id"] == reloaded["id"]
    assert unsaved["picture"] == saved["picture"] == renamed["picture"] == reloaded["picture"]
    assert again["runs"] == reloaded["runs"] + 1
    assert again["picture"] != reloaded["picture"]


def test_another_tab_shows_the_runs_of_the_same_workflow(told):
    tab = scene(told, "second_tab")
    assert tab["after"]["picture"] == tab["before"]["picture"]
    assert tab["troubles"] == [trouble for trouble in tab["troubles"] if "/safelight/" not in json.dumps(trouble)]


def test_inputs_that_do_nothing_are_folded_away(told, browsed_server, request):
    folded = scene(told, "folded")
    everything = ["decoder", "file_format", "sheet"]
    if browsed_server.version.startswith("0.3."):  # whose frontend cannot close the gap
        assert [seen["seen"] for seen in folded.values()] == [everything] * 3
        return
    assert folded["writes"]["seen"] == everything
    assert folded["idle"]["seen"] == folded["again"]["seen"] == ["decoder"]
    assert folded["again"]["size"] == folded["idle"]["size"]
    if "litegraph" in request.node.callspec.id:
        assert folded["writes"]["size"] == folded["idle"]["size"]


def test_in_app_mode_the_viewer_is_a_widget_like_others(told, browsed_server):
    if browsed_server.version.startswith("0.3."):
        pytest.skip("ComfyUI 0.3 has no App mode")
    assert scene(told, "app_mode")["seen"]["size"][0] >= 200


def test_a_second_copy_of_the_pack_adds_nothing(told):
    copies = scene(told, "two_copies")
    assert copies["widgets"].count("safelight_stage") == 1
    assert copies["widgets"][-1] == "safelight_stage"


def test_the_example_workflow_opens_whole(told):
    example = scene(told, "example")
    assert example["types"] == example["expected"]
    assert example["unknown"] == 0
    assert {node["class_type"] for node in example["output"].values()} == set(example["types"])


def test_no_error_comes_from_our_files(told):
    assert [
        trouble for trouble in told["troubles"] if OURS in json.dumps(trouble) or "/safelight/" in json.dumps(trouble)
    ] == []


def test_the_translations_say_what_the_node_says(browsed_server):
    said = json.loads((Path(__file__).parents[3] / "locales/en/nodeDefs.json").read_text("utf-8"))["SafelightPreview"]
    node = browsed_server.get("/object_info/SafelightPreview").json()["SafelightPreview"]
    inputs = browsed_server.inputs_of("SafelightPreview")
    assert (said["display_name"], said["description"]) == (node["display_name"], node["description"])
    assert {name: told["tooltip"] for name, told in said["inputs"].items()} == {
        name: spec[1]["tooltip"] for name, spec in inputs.items()
    }
