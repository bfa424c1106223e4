"""The viewer alone in a browser: states, batches, videos, comparison and keys, with generated runs."""

import pytest


def scene(made_up, name: str):
    seen = made_up[name]
    if "error" in seen:
        pytest.fail(f"{name}: {seen['error']}")
    return seen


def test_every_state_shows_a_text_or_a_picture(made_up):
    states = scene(made_up, "states")
    assert "Connect model to a sampler" in states["idle"]["placeholder"]
    assert states["waiting"]["placeholder"] == "Waiting for the first step"
    assert states["running"]["step"] == "step 7 / 20"
    assert "s left" in states["running"]["caption"]
    assert states["failed"]["step"] == "failed at step 5 / 20"
    assert states["failed"]["note"] == "RuntimeError: shapes"
    assert states["interrupted"]["step"] == "canceled at step 3 / 20"
    assert states["gone"]["a"] == states["interrupted"]["a"]
    assert "deleted to make room" in states["gone"]["note"]
    assert "deleted to make room" in states["lost"]["placeholder"]


def test_the_live_button_appears_only_while_steps_arrive(made_up):
    states = scene(made_up, "states")
    assert {name: seen["live_text"] for name, seen in states.items() if seen["live_text"]} == {"running": "live"}
    assert "no update since" in states["killed"]["caption"]


def test_the_layout_is_the_same_in_all_states(made_up):
    states = scene(made_up, "states")
    assert len({str(seen["parts"]) for seen in states.values()}) == 1


def test_a_slow_link_skips_steps_and_shows_none_late(made_up):
    slow = scene(made_up, "slow")
    assert len(slow["requested"]) < 10
    assert slow["requested"][-1] == "slow step_20_0.svg"
    assert slow["requested"] == sorted(set(slow["requested"]), key=slow["requested"].index)


def test_two_pictures_are_preloaded_in_the_direction_of_the_last_move(made_up):
    assert scene(made_up, "ahead")["requested"] == [f"ahead step_{step}_0.svg" for step in (1, 2, 3)]


def test_the_hover_thumbnail_shows_no_picture_of_another_run(made_up):
    hover = scene(made_up, "hover")
    assert hover["first"]["drawn"]
    assert not hover["before"]["drawn"]
    assert hover["after"] == {"drawn": True, "where": hover["before"]["where"]}


def test_the_hover_thumbnail_has_the_aspect_ratio_of_the_picture(made_up):
    for size, seen in scene(made_up, "hover_sizes").items():
        width, height = map(int, size.split("x"))
        assert seen["shown"] == pytest.approx(width / height, rel=0.02)
        assert seen["drawn"] == pytest.approx(width / height, rel=0.02)
        assert seen["height"] <= 150


def test_over_a_step_that_does_not_exist_yet_the_strip_shows_no_older_picture(made_up):
    seen = scene(made_up, "beyond")
    assert seen["running"] == {"text": "18 · not sampled yet", "picture": False}
    assert seen["stopped"] == {"text": "18 · not sampled", "picture": False}
    assert seen["before"]["text"].startswith("5 · σ")
    assert seen["before"]["picture"]


def test_the_wipe_runs_over_the_picture_and_not_over_the_ground_beside_it(made_up):
    seen = scene(made_up, "wiped")
    left, width = seen["board"][0], seen["board"][2]
    assert seen["at"] == pytest.approx([left, left + width / 2, left + width], abs=2)


def test_the_thumbnail_of_a_running_run_is_its_newest_step(made_up):
    assert scene(made_up, "looking_back") == {"shown": "live step_2_0.svg", "thumbnail": "live step_9_0.svg"}


def test_a_click_unfolds_a_long_note(made_up):
    seen = scene(made_up, "long_note")
    assert seen["cut"]["shown"] < seen["cut"]["whole"]
    assert seen["unfolded"]["shown"] >= seen["unfolded"]["whole"]
    assert seen["another"]["shown"] < seen["another"]["whole"]


def luminance(color):
    """Source: https://www.w3.org/TR/WCAG21/#dfn-relative-luminance."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (part / 255 for part in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", ["arc", "dark", "github", "light", "nord", "solarized"])
def test_texts_and_the_accent_have_enough_contrast_in_each_palette(made_up, palette):
    colors = scene(made_up, "palettes")[palette]
    ground = colors["background"]
    assert contrast(colors["text"], ground) >= 4.5
    assert contrast(colors["quiet"], ground) >= 4.5
    assert contrast(colors["accent"], ground) >= 3


def test_the_two_buttons_that_play_differ(made_up):
    faces = scene(made_up, "video")["faces"]
    assert len(set(faces)) == 2


def test_a_batch_is_a_grid_and_a_click_enlarges_one_picture(made_up):
    batch = scene(made_up, "batch")
    assert batch["grid"]["a"] == [f"batch step_20_{item}.svg" for item in range(4)]
    assert batch["one"]["a"] == ["batch step_20_2.svg"]
    assert batch["one"]["back"]
    assert batch["before"]["a"] == ["batch step_19_2.svg"]
    assert batch["again"]["a"] == [f"batch step_19_{item}.svg" for item in range(4)]


def test_a_video_plays_and_a_bar_selects_its_frames(made_up):
    video = scene(made_up, "video")
    assert video["held"]["frame"] == video["still"]["frame"]
    assert video["middle"]["a"] == ["video step_20_6.svg"]
    assert video["next"]["a"] == ["video step_20_7.svg"]
    assert video["before"]["frame"] == "8 / 12"
    assert video["animated"]["frame"] == "12 frames"
    assert (video["single"]["a"], video["single"]["drawn"]) == ([], ["120,0,90,255"])
    assert (video["further"]["frame"], video["further"]["drawn"]) == ("8 / 12", ["140,0,90,255"])


def test_two_runs_are_compared_at_the_same_step_or_noise_level(made_up):
    compare = scene(made_up, "compare")
    assert compare["wipe"]["mode"] == "wipe"
    assert compare["wipe"]["thumbs"] == ["A", "B", ""]
    assert "steps2010" in compare["wipe"]["differences"]
    assert compare["step"]["b"] == ["b step_10_0.svg"]  # its last one
    assert compare["sigma"]["tags"] == ["A 11 · σ 1.83", "B 6 · σ 1.83"]
    assert compare["boards"][0] == compare["boards"][1]
    assert compare["third"]["b"] == ["c step_11_0.svg"]
    assert compare["viewed"] == [{"lock": "sigma"}, {"compare": "side"}]


def test_the_zoom_stays_from_step_to_step_until_it_is_reset(made_up):
    zoomed = scene(made_up, "zoomed")
    assert zoomed["close"]["board"][2] > zoomed["fit"]["board"][2]
    assert zoomed["moved"]["board"] == zoomed["close"]["board"]
    assert zoomed["again"]["board"] == zoomed["fit"]["board"]
    assert zoomed["one"]["board"][2:] == [768, 512]
    assert zoomed["saved"] == "zoom_step_0019.svg"
    assert zoomed["full"]["board"][2] > 1200
    assert zoomed["back"]["board"] == zoomed["fit"]["board"]


def test_a_picture_is_copied_and_opened_in_a_tab(made_up):
    exported = scene(made_up, "exported")
    assert exported["copied"] == [96, 64]
    assert exported["opened"] == "/pictures/exported/step_20_0.svg"
    assert "Right-click" in exported["refused"]


def test_all_pictures_of_a_batch_are_saved_each_with_its_own_name(made_up):
    exported = scene(made_up, "exported")
    assert exported["saved"] == [f"batch_step_0020_item_{item:02d}.svg" for item in (1, 2, 3)]
    assert all("click one first" in name for name in exported["disabled"])
    assert len(exported["disabled"]) == 2


def test_any_two_pictures_are_compared(made_up):
    seen = scene(made_up, "pinned")

    def pair(name):
        return [*seen[name]["a"], *seen[name]["b"]]

    assert pair("second") == ["p step_20_1.svg"]
    assert pair("itself") == ["p step_20_1.svg"] * 2
    assert pair("items") == ["p step_20_2.svg", "p step_20_1.svg"]
    assert "two pictures of this batch" in seen["items"]["differences"]
    assert seen["items"]["tags"][0].startswith("A 20 · 3 / 4")
    assert pair("steps") == ["p step_1_2.svg", "p step_20_1.svg"]
    assert "two steps of this run" in seen["steps"]["differences"]
    assert pair("runs") == ["q step_1_2.svg", "p step_20_1.svg"]
    assert pair("follows") == ["q step_1_2.svg", "p step_1_2.svg"]
    assert pair("keeps") == ["q step_20_2.svg", "p step_1_2.svg"]
    assert pair("all") == [f"q step_20_{item}.svg" for item in range(4)]
    assert pair("clicked") == ["q step_20_1.svg", "q step_20_0.svg"]
    assert pair("strip") == pair("no_batch") == ["one step_20_0.svg", "one step_1_0.svg"]


def test_in_a_narrow_viewer_two_pictures_are_one_above_the_other(made_up):
    seen = scene(made_up, "pinned")
    above, below = seen["340"]
    assert above[0] == below[0] == 0
    assert above[2] == below[2] == 340
    assert below[1] == above[1] + above[3] + 2
    left, right = seen["400"]
    assert left[1] == right[1] == 0
    assert right[0] == left[0] + left[2] + 2


def test_the_full_window_has_a_film_strip_that_is_quick_with_a_thousand_steps(made_up):
    film = scene(made_up, "film")
    assert not film["closed"]["visible"]
    assert not film["after"]["visible"]
    assert film["open"]["steps"][-1] == 1000
    assert film["open"]["selected"] == [["1000", "Step 1000"]]
    assert film["open"]["active"] == "film-1000"
    assert all(film[when]["pictures"] == film[when]["inView"] > 10 for when in ("open", "first", "scrolled", "key"))
    assert film["requested"] < 40
    assert all(len(film[when]["steps"]) < 40 for when in ("open", "first", "scrolled", "key"))
    assert film["compared"] == ["A 4 · σ 14.5", "B 7 · σ 14.3"]
    assert film["scrolled"]["steps"][0] > 100
    assert film["key"]["selected"] == [["5", "Step 5"]]
    assert film["moves_ms"] < 100


def test_the_strip_shows_how_much_the_picture_changed_and_where_it_settled(made_up):
    seen = scene(made_up, "settled")
    bars = seen["settles"]["bars"]
    assert len(bars) == 19
    assert bars == sorted(bars, reverse=True)
    assert seen["settles"]["label"] == "settled at step 14"
    assert seen["settles"]["flag"]
    assert (seen["restless"]["label"], seen["restless"]["flag"]) == ("", "")
    assert seen["went"] == "step 14 / 20"
    assert seen["hover"].startswith("changed by ")
    assert seen["settles"]["text"].endswith("changed by 0.09 %")


def test_the_figures_of_a_run_are_shown_by_a_key_and_by_a_click(made_up):
    seen = scene(made_up, "settled")
    rows = seen["figures"]["rows"]
    assert rows["Settled"] == "at step 14; all later steps changed the picture by 1.2 %"
    assert rows["Previews"] == "14 ms of the sampler's time (0.11 %), 31 ms at the end, 3.3 MB on cpu"
    assert rows["Time"] == "13 s"
    assert seen["running"]["rows"]["Time"].endswith("left of about 10 s")
    assert [seen[when]["card"] for when in ("settles", "figures", "clicked", "closed")] == [False, True, True, False]


def test_a_menu_has_the_actions_on_the_picture_for_keyboard_and_mouse(made_up):
    menu = scene(made_up, "menu")
    assert menu["opened"]["open"]
    assert menu["opened"]["expanded"] == "true"
    entries = menu["opened"]["entries"]
    assert entries[-3:] == ["Name the step", "Fail", "Do more"]
    assert [menu[when]["focused"] for when in ("opened", "last", "around")] == [entries[0], entries[-1], entries[0]]
    assert menu["closed"] == menu["closed"] | {"open": False, "focused": "viewer", "step": "step 19 / 20"}
    assert menu["named"]["toast"] == "acted at 19"
    assert menu["failed"]["toast"] == "it failed"
    assert menu["refused"]["toast"] == "it cannot be done"
    assert not any(menu[when]["open"] for when in ("named", "failed", "refused", "again", "away"))
    assert menu["clicked"]["open"]


def test_with_reduced_motion_a_video_is_paused(made_up):
    assert scene(made_up, "reduced_motion")["held"]["frame"] == "1 / 12"


def test_with_reduced_motion_the_thumbnail_of_a_video_stands_still(made_up):
    assert scene(made_up, "reduced_motion")["still"] == ["canvas"]


def test_the_keyboard_reaches_every_control_and_each_has_a_name(made_up):
    names = scene(made_up, "tab_order")["names"]
    assert names[0] == "group Steps of a run"
    assert names.index("slider Step") < names.index("button Play the steps (Space)")
    assert names[-1] == "button Compare two runs (C)"
    assert all(len(name.split(" ", 1)[1]) > 3 for name in names)


def test_nothing_is_cut_off_in_a_small_viewer(made_up):
    small = scene(made_up, "small")
    assert not any(seen["overflow"] for seen in small.values())
    assert small["280x280"]["height"] == 280
    assert {name: seen["out"] for name, seen in small.items()} == {key: [] for key in small}, "buttons are cut off"
    assert all(seen["rows"] == 1 for seen in small.values())


def test_the_viewer_causes_no_error(made_up):
    assert made_up["errors"] == []
