"""Saved runs are loaded and continued in a real InvokeAI; runs for a minute."""

import pytest

pytestmark = pytest.mark.timeout(1600)

STEPS = 5


@pytest.fixture(scope="module")
def seen(lab):
    return lab("saved_runs")[0]


@pytest.mark.parametrize("scheduler", ["euler", "ddim", "heun"])
def test_a_continued_run_has_the_latents_of_the_whole_one_bit_for_bit(seen, scheduler):
    found = seen[scheduler]
    whole = {name: found["whole"][name] for name in ("digest", "shape")}
    assert len(found["parts"]) == (STEPS if scheduler == "euler" else 1)
    assert all(part == whole for part in found["parts"].values()), found


def test_a_scheduler_that_looks_back_continues_to_another_image(seen):
    [part] = seen["dpmpp_2m"]["parts"].values()
    assert part["shape"] == seen["dpmpp_2m"]["whole"]["shape"]
    assert part["digest"] != seen["dpmpp_2m"]["whole"]["digest"]


def test_the_twin_continues_too_and_step_0_is_the_last_one(seen):
    digest = seen["euler"]["whole"]["digest"]
    assert seen["chained"]["digest"] == seen["last"]["digest"] == digest


def test_what_cannot_be_continued_says_why(seen):
    assert "this run has no step 9" in seen["no_step"]["error"]
    assert "does not take one timestep for each step" in seen["pndm"]["error"]


def test_a_run_is_loaded_and_its_latents_are_decoded(seen):
    for step, found in seen["loaded"].items():
        assert found["images"] == STEPS, step
        assert found["latents"]["shape"] == seen["euler"]["whole"]["shape"]
        assert found["decoded"] == [64, 64]
        assert "run_00001: finished, 5 steps, name euler" in found["summary"]
    assert seen["loaded"]["0"]["latents"] != seen["loaded"]["2"]["latents"]


def test_a_run_without_latents_is_loaded_if_they_are_not_wanted(seen):
    assert "switch on keep_latents" in seen["bare"]["error"]
    assert seen["alone"] == {"status": "completed", "images": 2}
