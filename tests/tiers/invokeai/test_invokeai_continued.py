"""Runs of InvokeAI's families are continued from each step, on tiny random transformers."""

import pytest

from ... import older

pytestmark = pytest.mark.timeout(1600)

STEPS = 5
# Deterministic schedulers that look at one step only: the result is that of the whole run, bit for bit.
EXACT = {"flux", "sd3", "sd3 0.75", "cogview4", "z_image", "wan euler", "anima", "ernie_image"}
# Schedulers that look back, or whose states InvokeAI rounds to half precision when they are loaded.
NEAR = {"anima heun": 0.01, "anima dpmpp_2m": 0.01, "wan": 0.1}
OTHER_IMAGE = {"ernie_image lcm"}
REFUSED = {
    "flux heun": "begins the schedule of 'heun' with its first step. Sample with euler",
    "flux lcm": "begins the schedule of 'lcm' with its first step. Sample with euler",
    "z_image heun": "begins the schedule of 'heun' with its first step. Sample with euler",
    "z_image lcm": "begins the schedule of 'lcm' with its first step. Sample with euler",
    "anima lcm": "begins the schedule of 'lcm' with its first step. Sample with euler",
    "ernie_image heun": "begins the schedule of 'heun' with its first step. Sample with euler",
    "flux2": "its node spaces the remaining steps in another way",
    "qwen_image": "its node mixes noise of its seed with the latents",
    "krea2": "its node mixes noise of its seed with the latents",
    "ideogram4": "its node has no input for latents",
    "wan_video": "has no input for latents, as that of Wan videos",
}
NOT_FIRST = {"z_image", "wan euler"}  # their nodes do not report what they begin with


@pytest.fixture(scope="session")
def seen(lab):
    return lab("continued")[0]


def of(seen, name):
    older.expect("error" not in seen["runs"][name], "InvokeAI", seen["version"], name)
    return seen["runs"][name]


def test_every_case_is_looked_at(seen):
    assert set(seen["runs"]) == EXACT | set(NEAR) | OTHER_IMAGE | set(REFUSED)
    assert all(
        "error" in found or (found["state"], found["notes"]) == ("finished", []) for found in seen["runs"].values()
    )


@pytest.mark.parametrize("name", sorted(EXACT))
def test_a_continued_run_is_the_whole_one_bit_for_bit(seen, name):
    found = of(seen, name)
    begun = [f"{step}" for step in range(2 if name in NOT_FIRST else 1, STEPS + (name != "sd3 0.75"))]
    assert found["parts"] == dict.fromkeys(begun, 0.0), found
    assert found["chained"] == 0.0
    assert found["other"] > 0.01  # with another denoising_start, so the latents alone do not settle the result


@pytest.mark.parametrize("name", sorted(NEAR))
def test_other_schedulers_continue_to_nearly_the_same_image(seen, name):
    found = of(seen, name)
    assert len(found["parts"]) >= STEPS - 1
    assert 0 < max(found["parts"].values()) < NEAR[name]


@pytest.mark.parametrize("name", sorted(OTHER_IMAGE))
def test_a_scheduler_that_adds_noise_continues_to_another_image(seen, name):
    found = of(seen, name)
    assert len(found["parts"]) == STEPS
    assert found["parts"]["1"] > 0.01


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_continued_says_why(seen, name):
    found = of(seen, name)
    assert found["parts"] == {}
    assert found["errors"]
    assert all(REFUSED[name] in error for error in found["errors"].values()), found


def test_the_first_step_is_refused_where_its_latents_are_not_reported(seen):
    for name in NOT_FIRST:
        assert list(of(seen, name)["errors"]) == ["1"]
        assert "choose a later step" in of(seen, name)["errors"]["1"]


def test_a_flux_node_without_added_noise_still_fails_in_invokeai_itself(seen):
    """So FLUX gets noise to mix. If this fails, InvokeAI has mended it, and FLUX can be continued as Z-Image is."""
    older.expect(seen["version"].startswith("6."), "InvokeAI", seen["version"], "FLUX node with add_noise")
    assert "einops" in seen["flux_without_noise"]
