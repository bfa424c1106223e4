"""The viewer by itself in a browser: states, batches, videos, comparison and keys, on runs that are made up."""

import pytest


def scene(made_up, name: str):
    seen = made_up[name]
    if "error" in seen:
        pytest.fail(f"{name}: {seen['error']}")
    return seen


def test_no_state_is_blank(made_up):
    states = scene(made_up, "states")
    assert "Connect model to a sampler" in states["idle"]["words"]
    assert states["waiting"]["words"] == "Waiting for the first step"
    assert states["running"]["step"] == "step 7 / 20"
    assert "s left" in states["running"]["caption"]
    assert states["failed"]["step"] == "failed at step 5 / 20"
    assert states["failed"]["note"] == "RuntimeError: shapes"
    assert states["interrupted"]["step"] == "stopped at step 3 / 20"
    assert states["gone"]["a"] == states["interrupted"]["a"]
    assert "made room" in states["gone"]["note"]
    assert "made room" in states["lost"]["words"]


def test_live_is_promised_only_where_something_comes(made_up):
    states = scene(made_up, "states")
    assert {name: seen["promised"] for name, seen in states.items() if seen["promised"]} == {"running": "live"}
    assert "no news since" in states["killed"]["caption"]


def test_nothing_moves_from_state_to_state(made_up):
    states = scene(made_up, "states")
    assert len({str(seen["parts"]) for seen in states.values()}) == 1


def test_on_a_slow_link_steps_are_left_out_and_none_is_late(made_up):
    slow = scene(made_up, "slow")
    assert len(slow["asked"]) < 10
    assert slow["asked"][-1] == "slow step_20_0.svg"
    assert slow["asked"] == sorted(set(slow["asked"]), key=slow["asked"].index)


def test_two_pictures_ahead_are_loaded_in_the_direction_of_travel(made_up):
    assert scene(made_up, "ahead")["asked"] == [f"ahead step_{step}_0.svg" for step in (1, 2, 3)]


def test_a_glance_at_a_step_shows_no_picture_of_another_run(made_up):
    glance = scene(made_up, "glance")
    assert glance["first"]["drawn"]
    assert not glance["before"]["drawn"]
    assert glance["after"] == {"drawn": True, "where": glance["before"]["where"]}


def test_a_batch_is_a_grid_and_a_click_enlarges_one_of_it(made_up):
    batch = scene(made_up, "batch")
    assert batch["grid"]["a"] == [f"batch step_20_{item}.svg" for item in range(4)]
    assert batch["one"]["a"] == ["batch step_20_2.svg"]
    assert batch["one"]["back"]
    assert batch["before"]["a"] == ["batch step_19_2.svg"]
    assert batch["again"]["a"] == [f"batch step_19_{item}.svg" for item in range(4)]


def test_a_video_plays_and_its_frames_are_a_bar_of_their_own(made_up):
    video = scene(made_up, "video")
    assert video["held"]["frame"] == video["still"]["frame"]
    assert video["middle"]["a"] == ["video step_20_6.svg"]
    assert video["next"]["a"] == ["video step_20_7.svg"]
    assert video["before"]["frame"] == "8 / 12"
    assert video["animated"]["frame"] == "12 frames"
    assert (video["apart"]["a"], video["apart"]["drawn"]) == ([], ["120,0,90,255"])
    assert (video["further"]["frame"], video["further"]["drawn"]) == ("8 / 12", ["140,0,90,255"])


def test_two_runs_are_locked_by_step_or_by_noise(made_up):
    compare = scene(made_up, "compare")
    assert compare["wipe"]["mode"] == "wipe"
    assert compare["wipe"]["thumbs"] == ["A", "B", ""]
    assert "steps2010" in compare["wipe"]["differences"]
    assert compare["step"]["b"] == ["b step_10_0.svg"]  # the last one that it has
    assert compare["sigma"]["tags"] == ["A 11 · σ 1.82", "B 6 · σ 1.82"]
    assert compare["boards"][0] == compare["boards"][1]
    assert compare["third"]["b"] == ["c step_11_0.svg"]
    assert compare["viewed"] == [{"lock": "sigma"}, {"compare": "side"}]


def test_a_zoom_is_kept_from_step_to_step_and_fits_again(made_up):
    moved = scene(made_up, "moved")
    assert moved["close"]["board"][2] > moved["fit"]["board"][2]
    assert moved["kept"]["board"] == moved["close"]["board"]
    assert moved["again"]["board"] == moved["fit"]["board"]
    assert moved["one"]["board"][2:] == [768, 512]
    assert moved["saved"] == "zoom_step_0019.svg"
    assert moved["full"]["board"][2] > 1200
    assert moved["back"]["board"] == moved["fit"]["board"]


def test_a_picture_is_copied_and_opened_in_a_tab(made_up):
    taken = scene(made_up, "taken")
    assert taken["copied"] == [96, 64]
    assert taken["opened"] == "/pictures/taken/step_20_0.svg"
    assert "right-click" in taken["refused"]


def test_of_a_batch_all_pictures_are_saved_each_under_a_name_of_its_own(made_up):
    taken = scene(made_up, "taken")
    assert taken["saved"] == [f"batch_step_0020_item_{item:02d}.svg" for item in (1, 2, 3)]
    assert all("click one first" in name for name in taken["disabled"])
    assert len(taken["disabled"]) == 2


def test_who_likes_no_motion_sees_a_video_held(made_up):
    assert scene(made_up, "calm")["held"]["frame"] == "1 / 12"


def test_everything_is_reached_by_the_keyboard_and_has_a_name(made_up):
    names = scene(made_up, "order")["names"]
    assert names[0] == "group Steps of a run"
    assert names.index("slider Step") < names.index("button Play (Space)")
    assert names[-1] == "button Compare two runs (C)"
    assert all(len(name.split(" ", 1)[1]) > 3 for name in names)


def test_nothing_is_cut_off_where_there_is_little_room(made_up):
    small = scene(made_up, "small")
    assert not any(seen["overflow"] for seen in small.values())
    assert small["280x280"]["height"] == 280
    assert all(seen["out"] == [] for seen in small.values()), "every button is there at any width"
    assert all(seen["rows"] == 1 for seen in small.values())


def test_no_error_comes_from_the_viewer(made_up):
    assert made_up["troubles"] == []
