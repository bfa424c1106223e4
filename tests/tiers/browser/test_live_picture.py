"""The node in ComfyUI in a real browser, as a user sees it."""

import base64
import io
import itertools
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from ... import older
from .pixels import SIMILAR, assert_shows, distance, image_of

EXIF_WORKFLOW = 0x010F  # where ComfyUI looks for the workflow of a WebP
PACKAGE = "comfy-safelight-preview"


def scene(scenes, name: str):
    seen = scenes[name]
    if "error" in seen:
        pytest.fail(f"{name}: {seen['error']}")
    return seen


def run_of(seen) -> str:
    return seen["picture"].split("/runs/")[1].split("/")[0]


def test_the_picture_changes_while_the_sampler_runs(scenes):
    live = scene(scenes, "live")
    running = [seen for seen in live["seen"] if seen["painted"] and "running" in seen["state"]]
    assert len({seen["picture"] for seen in running}) >= 3
    assert live["seen"][-1]["step"] == "step 8 / 8"
    assert "finished" in live["seen"][-1]["state"]
    assert live["seen"][-1]["decoder"].startswith("flux1 · ")


def looks_and_pictures(looks, files):
    """The pixels that were seen, the pictures of the run, and the place of the one that was to be seen."""
    names = sorted(files)
    pictures = [image_of(files[name]) for name in names]
    return [(image_of(look["shot"]), pictures, names.index(look["picture"].split("?")[0])) for look in looks]


def test_the_screen_shows_each_step_of_a_run_while_it_is_sampled(scenes):
    painted = scene(scenes, "painted")
    looks = looks_and_pictures(painted["live"], painted["files"])
    steps = looks[0][1]
    assert len(steps) == 8
    assert sum(distance(a, b) > 3 * SIMILAR for a, b in itertools.pairwise(steps)) >= 2, "the steps must differ"
    assert len({index for *_, index in looks}) >= 4, "of 8 steps; a busy machine misses some"
    for shown, pictures, index in looks:
        assert_shows(shown, pictures, index)


@pytest.mark.parametrize("when", ["end", "full", "reloaded"])
def test_the_screen_shows_the_last_step(scenes, when):
    painted = scene(scenes, "painted")
    [(shown, pictures, index)] = looks_and_pictures([painted[when]], painted["files"])
    assert index == 7
    assert_shows(shown, pictures, index)
    if when == "full":
        assert shown.width > 700


def test_a_comparison_shows_both_runs_on_the_screen(scenes):
    compared = scene(scenes, "painted")["compared"]
    assert run_of(compared) != compared["other"].split("/runs/")[1].split("/")[0]
    for look, address in zip(compared["beside"], (compared["picture"], compared["other"]), strict=True):
        run = address.rsplit("/", 1)[0]
        files = {path: content for path, content in compared["files"].items() if path.startswith(run)}
        [(shown, pictures, index)] = looks_and_pictures([{**look, "picture": address}], files)
        assert index == 0
        assert_shows(shown, pictures, index)


def test_the_screen_shows_each_picture_of_a_batch_in_its_cell(scenes):
    seen = scene(scenes, "several")
    last = {path: content for path, content in seen["files"].items() if "step_0008" in path}
    pictures = [image_of(last[path]) for path in sorted(last)]
    assert distance(pictures[0], pictures[1]) > 3 * SIMILAR
    for index, cell in enumerate(seen["cells"]):
        assert_shows(image_of(cell["shot"]), pictures, index)


def test_a_run_needs_few_reads_of_its_manifest_and_one_of_each_picture(scenes):
    reads = scene(scenes, "live")["reads"]
    assert reads.count("manifest") <= 4
    assert reads.count("picture") <= 8


def test_the_caption_is_that_of_the_shown_picture(scenes):
    for seen in scene(scenes, "live")["seen"]:
        if seen["painted"]:
            assert seen["step"] == f"step {int(seen['picture'].split('step_')[1][:4])} / 8"


def test_the_layout_is_the_same_when_pictures_arrive(scenes):
    live = scene(scenes, "live")
    assert {tuple(seen["size"]) for seen in live["seen"]} == {tuple(live["idle"]["size"])}


def test_runs_of_a_cleared_workflow_are_found_after_a_reload(scenes):
    cleared = scene(scenes, "cleared")
    assert set(cleared["id"]) == set("0-"), "Clear Workflow no longer takes the id"
    assert run_of(cleared["after"]) == run_of(cleared["before"])
    assert len(cleared["again"]["runs"]) == len(cleared["after"]["runs"]) + 1


def test_a_node_without_runs_says_how_to_begin(scenes):
    assert "Connect model to a sampler" in scene(scenes, "live")["idle"]["placeholder"]


def test_the_view_is_neither_in_the_prompt_nor_in_the_values_of_the_workflow(scenes, browsed_server):
    live, inputs = scene(scenes, "live"), browsed_server.inputs_of("SafelightPreview")
    widgets = {name for name, (kind, *_) in inputs.items() if kind not in ("MODEL", "VAE")}  # these need links
    assert set(live["inputs"]) == {"model"} | widgets
    assert len(live["values"]) == len(widgets)


def test_mouse_and_keys_select_steps(scenes):
    seen = scene(scenes, "scrub")
    assert seen["bubble"]
    assert seen["dragged"]["picture"].split("?")[0].endswith("step_0001.jpg")
    assert seen["dragged"]["live"] == "held"
    assert seen["Shift+ArrowRight"]["strip"].startswith("step 7 of 8, sigma ")
    assert seen["End"]["live"] == "newest"
    assert len({now["picture"] for now in seen["played"]}) >= 6, "of 8: a busy driver may miss some"
    assert seen["full"]["size"][0] > 1400
    assert seen["back"]["size"][0] < 700


def test_the_wheel_zooms_the_canvas_until_the_user_clicks_into_the_viewer(scenes, browsed_server, request):
    lacks = "vue" in request.node.callspec.id and browsed_server.version.startswith("0.3.")
    older.expect(not lacks, "ComfyUI", browsed_server.version, "Vue nodes that leave the wheel to a widget")
    seen = scene(scenes, "wheel")
    assert not seen["unfocused"]["zoomed"]
    assert seen["focused"]["scale"] == seen["before"]["scale"]
    assert seen["panned"]["x"] > seen["zoomed"]["x"]
    assert not seen["fitted"]["zoomed"]


def test_nothing_in_the_full_window_reaches_the_hidden_canvas(scenes):
    seen = scene(scenes, "full_window")
    assert seen["after"] == seen["before"]


def test_two_runs_are_compared_at_the_same_step(scenes):
    seen = scene(scenes, "compare")
    assert run_of(seen["wiped"]) not in seen["wiped"]["other"]
    assert "seed" in seen["wiped"]["differences"]
    assert seen["saved"]["compare"] == "difference"
    assert seen["after"]["picture"].split("?")[0].endswith("step_0007.jpg")


def test_the_mouse_reaches_the_oldest_of_many_runs(scenes):
    seen = scene(scenes, "many_runs")
    assert not seen["before"]["reached"]
    assert seen["before"]["left"] < seen["wheel"]["left"] < seen["shift"]["left"]
    assert len({look["scale"] for look in (seen["before"], seen["wheel"], seen["shift"])}) == 1, "the canvas is zoomed"
    assert seen["end"]["reached"]
    assert seen["oldest"]["picture"]


def test_a_locked_step_stays_while_another_run_begins(scenes):
    seen = scene(scenes, "locked")
    assert seen["during"]["picture"] == seen["before"]["picture"]
    assert run_of(seen["after"]) != run_of(seen["before"])


def test_the_settings_panel_sets_and_saves_the_speed(scenes):
    assert scene(scenes, "settings") == {"set": "16/s", "after": "16/s"}


def test_another_workflow_with_the_same_node_ids_has_other_runs(scenes):
    tabs = scene(scenes, "tabs")
    assert tabs["other"]["picture"] is tabs["still"]["picture"] is None
    assert run_of(tabs["back"]) == run_of(tabs["before"])


def test_after_a_reload_the_picture_is_back(scenes):
    reload = scene(scenes, "reload")
    assert reload["after"]["picture"] == reload["before"]["picture"]
    assert reload["after"]["step"] == reload["before"]["step"]


def test_after_a_reload_during_a_run_its_steps_still_arrive(scenes):
    reload = scene(scenes, "reload_while_running")
    pictures = [seen for seen in reload["after"] if seen["painted"] and "running" in seen["state"]]
    assert len(pictures) >= 3
    assert {run_of(seen) for seen in pictures} == {run_of(reload["before"])}


def test_another_person_with_the_same_workflow_sees_nothing_of_a_run(scenes):
    other = scene(scenes, "another_person")
    assert other["ours"]["picture"]
    for seen in (other["before"], other["after"]):
        assert (seen["picture"], seen["runs"]) == (None, [])
    assert other["events"] == []
    assert len(other["lists"]) > 1, "the page asks while the queue is busy"
    assert run_of(other["ours"]) not in json.dumps(other["lists"])
    assert {status for status, _ in other["lists"]} == {200}
    assert len(other["theirs"]["runs"]) == 1, "their own run, and no other"
    assert run_of(other["theirs"]) != run_of(other["ours"]) == run_of(other["mine"])


def test_the_secret_of_the_page_is_sent_with_a_prompt_and_is_nowhere_else(scenes):
    live = scene(scenes, "live")
    assert re.fullmatch(r"[0-9a-f]{64}", live["key"])
    assert not live["isPublished"], "in the prompt, its metadata, the saved workflow or the history"


def test_the_live_page_shows_runs_to_those_who_have_the_key(scenes):
    seen = scene(scenes, "live_page")
    assert "queued no prompt" in seen["without"]["text"]
    assert not seen["without"]["painted"]
    assert seen["there"]["hash"] == ""
    assert seen["there"]["width"] <= 390
    assert seen["errors"] == []


def test_the_live_page_stays_on_top_of_other_windows_where_the_browser_can(scenes):
    seen = scene(scenes, "on_top")
    assert seen["title"] == ["Safelight", "Safelight", 280]
    assert seen["path"].endswith("/safelight/live")
    assert seen["toast"] == "This browser cannot keep a window on top, so it is an ordinary one"
    assert seen["streamed"] > 0, "an <img> shows the stream"


def test_a_rule_ends_a_run_and_the_node_says_when_and_why(scenes):
    seen = scene(scenes, "rule")
    assert seen["before"] == ["stop_below_percent", "send_previews"]
    assert seen["after"] == ["stop_below_percent", "stop_after_steps", "send_previews"]
    assert "stops below 1 % · after 2 steps" in seen["line"]
    step = int(seen["seen"]["step"].removeprefix("kept step ").removesuffix(" / 60"))
    says = f"stopped by your rule at step {step}: moved less than 1 % for 2 steps"
    assert seen["seen"]["note"] == says


def test_pictures_of_a_batch_are_chosen_by_click_and_by_key(scenes):
    seen = scene(scenes, "choose")
    assert seen["asked"]["pressed"] == [False] * 4
    assert seen["picked"]["pressed"] == [True, False, True, False]
    assert (seen["asked"]["go"], seen["picked"]["go"]) == ("Go on with none", "Go on with 2")
    assert seen["asked"]["left"].endswith(" left")
    assert seen["reloaded"]["pressed"] == [False] * 4
    assert seen["keyed"]["pressed"] == [True, False, False, True]
    assert seen["status"] == "success"


def test_a_run_is_paused_and_ended_with_a_step_as_its_result(scenes):
    seen = scene(scenes, "kept")
    assert seen["running"]["faces"] == ["hold", "keep"]
    assert seen["paused"]["faces"] == ["resume", "keep"]
    assert seen["still"]["step"] == seen["paused"]["step"]
    assert seen["armed"]["faces"] == ["hold", "keep this step?"]
    step = int(seen["kept"]["step"].removeprefix("kept step ").removesuffix(" / 40"))
    assert int(seen["on"]["step"].split()[1]) <= step < 40
    assert seen["kept"]["hidden"]
    assert seen["last"] == "success"


def test_a_canceled_or_failed_run_shows_at_which_step(scenes):
    stopped, failed = scene(scenes, "stopped")["seen"], scene(scenes, "failed")["seen"]
    assert stopped["step"].startswith("canceled at step ")
    assert failed["step"] == "failed at step 3 / 8"
    assert failed["note"].startswith("the sampler failed: RuntimeError")
    assert stopped["painted"]
    assert failed["painted"]


def test_a_node_in_a_subgraph_shows_its_run_when_the_subgraph_is_opened(scenes, browsed_server, request):
    lacks = "vue" in request.node.callspec.id and browsed_server.version.startswith("0.3.")
    older.expect(not lacks, "ComfyUI", browsed_server.version, "Vue nodes with DOM widgets in subgraphs")
    nested = scene(scenes, "subgraph")
    assert nested["closed"]["picture"] is None
    assert nested["open"]["step"] == "step 8 / 8"
    assert nested["node"].count(":") == 1


def test_the_node_of_a_subgraph_shows_the_run_of_the_node_in_it(scenes, browsed_server):
    older.expect(
        not browsed_server.version.startswith("0.3."), "ComfyUI", browsed_server.version, "widgets on subgraphs"
    )
    seen = scene(scenes, "outer")
    assert seen["before"]["step"] is None, "no run, no viewer"
    assert seen["finished"]["box"][0] > 200
    # Until then, Vue nodes show the sampler's own preview below it.
    assert seen["reloaded"]["box"][1] >= seen["finished"]["box"][1]
    assert "safelight_stage" not in json.loads(seen["finished"]["saved"]).get("widgets_values_named", {})


def test_a_node_keeps_its_runs_when_it_is_moved_into_a_subgraph_and_out_of_it(scenes, browsed_server, request):
    lacks = browsed_server.version.startswith("0.3.")
    older.expect(not lacks, "ComfyUI", browsed_server.version, "subgraphs that can be unpacked")
    seen = scene(scenes, "moved")
    assert seen["inside"]["picture"] == seen["before"]["picture"]
    assert seen["outside"]["picture"] == seen["inside_again"]["picture"]
    assert len(seen["outside"]["runs"]) == 2


def test_a_result_from_the_cache_of_comfyui_shows_its_run(scenes):
    seen = scene(scenes, "cached")
    assert seen["before"]["runs"] == [], "in another workflow"
    assert run_of(seen["copy"]) == run_of(seen["first"])
    assert seen["stranger"]["picture"] is None, "another browser"
    assert "Nothing was sampled" in seen["stranger"]["placeholder"]


def test_the_pictures_of_a_batch_and_the_frames_of_a_video_are_shown_one_by_one(scenes):
    seen = scene(scenes, "several")
    endings = [name.split("step_0008")[1].split(".")[0] for name in seen["grid"]["pictures"]]
    assert endings == ["_item_01", "_item_02", "_item_03"]
    assert "_item_02." in seen["one"]["picture"]
    assert ".webp" in seen["plays"]["picture"]
    assert seen["plays"]["frame"].endswith(" frames")
    assert seen["first"]["frame"].startswith("1 / ")
    assert seen["second"]["drawn"] == 1


def test_a_workflow_that_is_saved_under_another_name_keeps_its_runs(scenes):
    unsaved, saved, renamed, reloaded, again = scene(scenes, "renamed")["seen"]
    assert unsaved["id"] == saved["id"] != renamed["id"] == reloaded["id"]
    assert unsaved["picture"] == saved["picture"] == renamed["picture"] == reloaded["picture"]
    assert again["runs"] == reloaded["runs"] + 1
    assert again["picture"] != reloaded["picture"]


def test_another_tab_shows_the_runs_of_the_same_workflow(scenes):
    tab = scene(scenes, "second_tab")
    assert tab["after"]["picture"] == tab["before"]["picture"]
    assert run_of(tab["during"]) == run_of(tab["ours"]) == run_of(tab["theirs"]) != run_of(tab["before"])
    assert tab["errors"] == [error for error in tab["errors"] if "/safelight/" not in json.dumps(error)]


def test_a_new_user_is_welcomed_once(scenes):
    assert scene(scenes, "everywhere")["welcomed"] == [True, False]


def test_the_switch_for_all_samplers_is_in_step_with_the_settings(scenes):
    seen = scene(scenes, "everywhere")
    assert [seen[name] for name in ("before", "clicked", "settings", "key")] == [
        ["false", False],
        ["true", True],
        ["false", False],
        ["true", True],
    ]
    assert seen["saved"] is True, "the server reads it there"
    assert seen["label"] == ["Safelight previews on all samplers", "switch"]


def test_a_watched_sampler_shows_no_second_picture_unless_the_user_wants_it(scenes):
    seen = scene(scenes, "second_picture")
    assert seen["hidden"] == {"sampler": False, "host": True}, "the queue and App mode still have the preview"
    assert seen["shown"]["sampler"]
    assert seen["removed"]["sampler"], "without the node the sampler has its own preview"


def test_the_viewer_switches_between_the_denoised_and_the_noisy_latents(scenes):
    seen = scene(scenes, "both_latents")
    assert "step_0004.webp" in seen["denoised"]["picture"]
    assert "step_0004_noisy.webp" in seen["noisy"]["picture"]
    assert (seen["before"]["pressed"], seen["after"]["pressed"]) == ("false", "true")
    assert seen["saved"].endswith("_step_0004_noisy.webp")
    assert seen["again"]["picture"] == seen["denoised"]["picture"]
    assert seen["one"]["hidden"], "a run with one of them has no switch"


def test_the_bar_of_a_video_has_its_frames_and_their_rate(scenes):
    seen = scene(scenes, "both_latents")
    assert seen["denoised"]["frame"] == "3 frames"
    assert seen["before"]["fps"] == "4 fps", "a decoder without time makes one of the 16 / 4 frames of Wan 2.1"
    assert seen["one"]["fps"] == ""


def test_a_canvas_that_is_zoomed_out_shows_the_picture_and_a_progress_line(scenes, browsed_server, request):
    lacks = "vue" in request.node.callspec.id and browsed_server.version.startswith("0.3.")
    older.expect(not lacks, "ComfyUI", browsed_server.version, "Vue nodes with widgets on a canvas that is zoomed out")
    seen = scene(scenes, "far")
    assert {part.split()[0] for part in seen["far"]["drawn"]} == {"stage", "progress"}
    assert (seen["far"]["over"], seen["far"]["done"], seen["far"]["now"]) == (0, "1", "8")
    assert seen["after"] == seen["before"]
    assert {"strip", "caption"} <= {part.split()[0] for part in seen["after"]["drawn"]}


def test_a_node_that_was_saved_with_its_inputs_as_rows_gives_up_their_room_once(scenes, browsed_server):
    older.expect(not browsed_server.version.startswith("0.3."), "ComfyUI", browsed_server.version, "hidden inputs")
    seen = scene(scenes, "saved_before")
    assert (seen["first"]["decoder"], seen["first"]["frames"]) == ("tiny", "animated")
    assert seen["usual"][1] <= seen["first"]["size"][1] < 860
    assert seen["second"] == seen["first"]


WORDS = [["auto", "auto"], ["fast", "fast"], ["fine", "fine"], ["full", "full VAE"]]


def test_the_settings_are_one_line_below_the_picture_until_they_are_unfolded(scenes, browsed_server, request):
    seen = scene(scenes, "settings_line")
    has_order = "vue" in request.node.callspec.id or not browsed_server.version.startswith("0.3.")
    assert (seen["folded"]["line"], seen["folded"]["rows"]) == ("auto · denoised · every step", [])
    assert seen["unfolded"]["open"] == "true"
    assert {"decoder", "show", "every_n_steps", "batch", "frames"} <= set(seen["unfolded"]["rows"])
    assert seen["unfolded"]["above"] == has_order, "the picture is above the inputs"
    assert seen["again"]["rows"] == []
    assert seen["again"]["line"].startswith("sd1-cubic · denoised · every 3 steps · animated")
    assert seen["again"]["size"] == seen["folded"]["size"]


def test_the_picture_above_the_inputs_leaves_the_values_of_a_workflow_in_their_places(scenes, browsed_server):
    older.expect(not browsed_server.version.startswith("0.3."), "ComfyUI", browsed_server.version, "hidden inputs")
    values = scene(scenes, "settings_line")["changed"]["values"]
    inputs = browsed_server.inputs_of("SafelightPreview")
    names = [name for name, (kind, *_) in inputs.items() if kind not in ("MODEL", "VAE")]
    assert len(values) == len(names)
    named = dict(zip(names, values, strict=True))
    assert (named["decoder"], named["every_n_steps"], named["frames"]) == ("sd1-cubic", 3, "animated")


def test_the_list_of_decoders_has_words_and_the_decoders_of_the_model_and_any_name_works(scenes, browsed_server):
    older.expect(not browsed_server.version.startswith("0.3."), "ComfyUI", browsed_server.version, "labels of choices")
    seen = scene(scenes, "settings_line")
    assert seen["folded"]["offered"] == WORDS
    offered = seen["ran"]["offered"]
    assert offered[:4] == WORDS
    assert ["flux2-conv-small", "conv small · net · fast"] in offered
    assert [name for name, _ in offered[4:] if not name.startswith("flux2-")] == ["sd1-cubic"], "the saved name"
    assert "decoder auto is used" in seen["ran"]["note"], "the name of another model's decoder does not end the prompt"
    # A changed input is shown, though the run was of one still image.
    assert "frames" in seen["ran"]["line"] or "animated" in seen["ran"]["line"]


def test_inputs_without_effect_are_hidden(scenes, browsed_server, request):
    hidden = scene(scenes, "hidden")
    everything = ["decoder", "file_format", "sheet", "frames", "batch"]
    if browsed_server.version.startswith("0.3."):  # its frontend would leave a gap
        assert [seen["seen"] for seen in hidden.values()] == [everything] * 6
        return
    assert hidden["writes"]["seen"] == everything
    assert hidden["idle"]["seen"] == hidden["again"]["seen"] == ["decoder", "frames", "batch"]
    assert hidden["again"]["size"] == hidden["idle"]["size"]
    # The run has shown that the model makes a single still image; then the graph before the node changes.
    assert hidden["ran"]["seen"] == hidden["reloaded"]["seen"] == ["decoder"]
    assert hidden["reloaded"]["size"] == hidden["ran"]["size"]
    assert hidden["other"]["seen"] == ["decoder", "frames", "batch"]
    if "litegraph" in request.node.callspec.id:
        assert hidden["writes"]["size"] == hidden["idle"]["size"]


def test_the_properties_panel_leaves_the_width_of_the_viewer(scenes, browsed_server):
    older.expect(not browsed_server.version.startswith("0.3."), "ComfyUI", browsed_server.version, "a properties panel")
    seen = scene(scenes, "panel")
    assert seen["opened"]
    assert "decoder" in seen["rows"], "the panel shows the inputs"
    assert not {"safelight_stage", "Steps"} & set(seen["rows"]), "an empty row"
    assert seen["after"] == seen["before"]


def test_a_run_draws_only_its_own_viewers(scenes):
    assert scene(scenes, "moved_canvas")["drawn"] == 0


def test_a_viewer_has_its_own_layer_only_while_litegraph_moves_it(scenes, request):
    seen = scene(scenes, "moved_canvas")
    before, after = seen["before"], seen["after"]
    in_litegraph = "litegraph" in request.node.callspec.id
    assert any("transform" in now["layer"] for now in seen["during"]) == in_litegraph
    assert "transform" not in (before["layer"], after["layer"])
    assert before["picture"] == after["picture"]
    assert not in_litegraph or before["shot"] == after["shot"]  # Vue nodes may lie half a pixel further


@pytest.mark.parametrize("pan", ["during", "onViewer"])
def test_a_viewer_stays_in_its_node_while_the_canvas_moves(scenes, pan):
    seen = scene(scenes, "moved_canvas")
    assert seen[pan][-1]["offset"] != pytest.approx(seen[pan][0]["offset"], abs=1), "the canvas did not move"
    for now in seen[pan]:
        assert now["place"] == pytest.approx(seen["before"]["place"], abs=1.5)


def test_another_browser_lists_the_runs_of_this_one_with_the_address_that_it_copies(scenes):
    seen = scene(scenes, "other_browser")
    assert [len(seen[name]["runs"]) for name in ("before", "refused", "listed")] == [0, 0, 1]


def test_the_list_of_widgets_of_a_subgraph_has_no_row_that_does_nothing(scenes, browsed_server):
    lacks = browsed_server.version.startswith("0.3.")
    older.expect(not lacks, "ComfyUI", browsed_server.version, "widgets on subgraphs")
    seen = scene(scenes, "subgraph_widgets")
    words = {word for row in seen["rows"] for word in row}
    assert {"Preview Steps", "decoder"} <= words
    assert not {"safelight_stage", "Steps"} & words


def test_the_viewer_of_a_muted_or_bypassed_node_is_dimmed(scenes):
    assert scene(scenes, "idle_modes")["seen"] == ["1", "0.35", "1", "0.35", "1"]


def test_the_inputs_of_an_animation_appear_with_it(scenes, browsed_server):
    older.expect(not browsed_server.version.startswith("0.3."), "ComfyUI", browsed_server.version, "hidden inputs")
    animated = scene(scenes, "animated")
    assert animated["seen"] == animated["names"]


def test_the_vae_socket_is_shown_only_where_it_has_an_effect_or_a_link(scenes, browsed_server, request):
    seen = scene(scenes, "socket")
    sent, noted, in_vue = seen.pop("sent"), seen.pop("noted"), "vue" in request.node.callspec.id
    if in_vue and browsed_server.version.startswith("0.3."):  # its first Vue nodes do not notice the change
        assert {(look["shown"], look["inVue"]) for look in seen.values()} == {(True, True)}
        return
    expected = {
        "idle": False,
        "full": True,
        "linked": True,
        "auto": True,
        "reloaded": True,
        "unlinked": False,
        "again": True,
    }
    assert {name: look["shown"] for name, look in seen.items()} == expected
    if in_vue:
        assert {name: look["inVue"] for name, look in seen.items()} == expected
    [saved] = {tuple(look["saved"]) for look in seen.values()}
    assert saved[:3] == ("model", "vae", "decoder")
    assert "vae" in sent
    assert "connect the model's VAE to the input vae" in noted["note"]
    assert [look["slots"] for look in seen.values()] == [[0], [0], [0, 1], [0, 1], [0, 1], [0], [0]]
    assert {tuple(look["size"]) for look in (seen["idle"], seen["unlinked"])} == {tuple(seen["idle"]["size"])}


SHOWN = (36 * 8, 24 * 8)  # pixels of the final image, for the latents of the lab's model


def file_of(content: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_a_saved_copied_or_opened_picture_has_the_size_of_the_caption_and_its_workflow(scenes):
    seen = scene(scenes, "taken")
    live = file_of(seen["live"]["content"])
    assert seen["live"]["name"] == f"steps_seed{seen['live']['seed']}_step_0008.png"
    assert (live.format, live.size) == ("PNG", SHOWN)
    assert "SafelightPreview" in live.text["workflow"]
    assert "KSampler" in live.text["prompt"]
    assert json.loads(live.text["safelight"])["step"] == 8
    assert tuple(seen["copied"]) == tuple(seen["opened"]) == SHOWN


def test_of_a_run_that_writes_files_the_written_file_is_saved(scenes):
    seen = scene(scenes, "taken")
    assert seen["written"]["content"] == seen["onDisk"]
    assert seen["written"]["name"] == f"{seen['written']['prefix']}_seed{seen['written']['seed']}_step_0008.webp"


def test_a_video_is_saved_whole_and_while_it_is_paused_as_one_frame(scenes):
    seen = scene(scenes, "taken")
    video, frame = (file_of(seen[name]["content"]) for name in ("video", "frame"))
    assert (video.format, video.size, video.is_animated) == ("WEBP", SHOWN, True)
    assert "SafelightPreview" in video.getexif()[EXIF_WORKFLOW]
    assert (frame.format, frame.size) == ("PNG", SHOWN)
    assert seen["frame"]["name"].endswith("_step_0008_frame_0001.png")


def test_the_strip_says_how_much_the_picture_changed_while_the_run_goes_on(scenes):
    seen = scene(scenes, "live")["seen"]
    assert any("changed by" in each["strip"] for each in seen if "running" in each["state"])
    assert "changed by" in seen[-1]["strip"]


def test_a_branch_continues_from_the_step_on_the_screen_and_undo_removes_it(scenes):
    seen = scene(scenes, "acted")
    branch = seen["branch"]
    assert branch["toast"] == "A branch begins at step 5; keep_latents is on now"
    new = ["KSamplerAdvanced", "SafelightPickStep", "SafelightPreview"]
    assert branch["types"] == sorted(seen["before"]["types"] + new)
    assert set(seen["before"]["links"]) < set(branch["links"])
    assert branch["values"]["SafelightPickStep"] == {"step": 5}
    assert branch["values"]["KSamplerAdvanced"]["add_noise"] == "disable"
    assert seen["undone"] == seen["before"]
    assert seen["ran"] == {"step": "step 1 / 1", "painted": True}  # from step 8 of 8
    assert seen["sizes"][0] == seen["sizes"][1], "Undo leaves the viewer of the former node"


def test_a_node_that_is_connected_continues_from_the_step_on_the_screen(scenes):
    again = scene(scenes, "acted")["again"]
    assert again["toast"] == "Continue from Step begins at step 2"
    assert again["values"]["SafelightPickStep"] == {"step": 2}
    assert again["types"].count("SafelightPickStep") == 1


def test_the_seed_of_a_run_is_used_again_and_its_workflow_is_opened(scenes):
    seen = scene(scenes, "acted")
    seeded, opened = seen["seeded"], seen["opened"]
    assert seeded["toast"] == f"Seed {seeded['first']}, fixed"
    sampler = seeded["values"]["KSampler"]
    assert (sampler["seed"], sampler["control_after_generate"], sampler["steps"]) == (seeded["first"], "fixed", 3)
    assert opened["names"][-1] == f"Run with seed {seeded['first']}"
    assert opened["values"]["KSampler"]["steps"] == 8
    assert seen["runs"] == 2, "the run and the one before it"


def test_the_files_of_a_run_are_found_and_opened_from_the_viewer(scenes, browsed_server):
    seen = scene(scenes, "written_files")
    place = f"output/written/{seen['prefix']}_00001"
    assert seen["label"] == f"12 files in {place}"
    assert seen["copied"] == str(browsed_server.base / place)
    assert seen["sheet"][0] > SHOWN[0]
    assert seen["animation"] == list(SHOWN)
    assert seen["page"]["step"] == "step 8 / 8"


def test_a_picture_is_dragged_onto_load_image(scenes):
    seen = scene(scenes, "dragged")
    assert seen["name"] == f"steps_seed{seen['seed']}_step_0008.png"
    dropped = file_of(seen["content"])
    assert (dropped.format, dropped.size) == ("PNG", SHOWN)
    assert "SafelightPreview" in dropped.text["workflow"]
    assert seen["nodes"] == 5, "the page opened the picture as a workflow"
    assert not seen["after"]["zoomed"]


def test_app_mode_shows_the_viewer_as_a_widget(scenes, browsed_server):
    older.expect(not browsed_server.version.startswith("0.3."), "ComfyUI", browsed_server.version, "App mode")
    assert scene(scenes, "app_mode")["seen"]["size"][0] >= 200


def test_a_second_copy_of_the_package_adds_no_widget(scenes):
    copies = scene(scenes, "two_copies")
    assert copies["widgets"].count("safelight_stage") == 1
    assert copies["widgets"][-1] == "safelight_stage"


def test_the_search_finds_the_node_by_what_it_does(scenes, browsed_server):
    older.expect(not browsed_server.version.startswith("0.3."), "ComfyUI", browsed_server.version, "search aliases")
    found = scene(scenes, "search")
    # By its rules, ComfyUI sorts nodes whose ids begin with the word by the length of the id.
    assert "SafelightPreview" in found.pop("safelight")
    assert {words: names[:1] for words, names in found.items()} == {key: ["SafelightPreview"] for key in found}


def test_the_example_workflow_opens_completely(scenes):
    example = scene(scenes, "example")
    assert example["types"] == example["expected"]
    assert example["unknown"] == 0
    assert {node["class_type"] for node in example["output"].values()} == set(example["types"])


def test_the_package_causes_no_error(scenes):
    texts = [json.dumps(error) for error in scenes["errors"]]
    assert [text for text in texts if PACKAGE in text or "/safelight/" in text] == []


def test_the_translations_have_the_texts_of_the_node(browsed_server):
    texts = json.loads((Path(__file__).parents[3] / "locales/en/nodeDefs.json").read_text("utf-8"))["SafelightPreview"]
    node = browsed_server.get("/object_info/SafelightPreview").json()["SafelightPreview"]
    inputs = browsed_server.inputs_of("SafelightPreview")
    assert (texts["display_name"], texts["description"]) == (node["display_name"], node["description"])
    assert {name: entry["tooltip"] for name, entry in texts["inputs"].items()} == {
        name: spec[1]["tooltip"] for name, spec in inputs.items()
    }
