"""The denoise nodes of InvokeAI's families, on tiny random transformers: each picture is the one of its step."""

import pytest
from safelight.hosts.invokeai.denoise_nodes import DENOISE_NODES

pytestmark = pytest.mark.timeout(1600)

STEPS = 4
# The mean difference of a picture in brightness, of 255. Half-precision numbers and lossy files make most of it.
LIMIT = 4.0
# Nodes that are not run here, with the reason.
ELSEWHERE = {
    "denoise_latents": "test_invokeai_server.py runs it with every scheduler",
    "tiled_multi_diffusion_denoise_latents": "it has the schedulers of denoise_latents and needs a server's models",
    "metadata_linked": "the node of FLUX with metadata runs for all of them",
    "cogview4_denoise": "its model does not get the noise level, so test_invokeai_loops.py computes x0 in another way",
}
WITH_METADATA = "flux_denoise_meta"  # runs for all nodes that only add an output for metadata
# Nodes that sample no image.
NO_SAMPLERS = {"create_denoise_mask"}
AT_LEAST = 11  # families; fewer only in an older InvokeAI
OLDEST = 2  # families that InvokeAI 5.0 has too: FLUX and SD3


OTHER_FORM = "InvokeAI's nodes decode latents of FLUX.2 in another form than they are sampled in"
# Families whose estimate is not the output of their node, with the reason.
NOT_RULED = {
    "flux2": OTHER_FORM,
    "ernie_image": OTHER_FORM,
    "ideogram4": OTHER_FORM,
    "wan_video": "InvokeAI reports only one frame of the latents",
    WITH_METADATA: "this node outputs more than latents",
}


@pytest.fixture(scope="session")
def seen(lab):
    return lab("families")[0]


def test_every_family_of_the_host_runs(seen):
    assert {name: found["error"] for name, found in seen["families"].items() if "error" in found} == {}
    known = {node.module for node in DENOISE_NODES} - set(ELSEWHERE) | {WITH_METADATA}
    ran = {name.split()[0] for name in seen["families"]}
    assert {name if name == WITH_METADATA else f"{name}_denoise" for name in ran} == known & set(seen["nodes"])
    families = {name.split()[0] for name in seen["families"]}
    assert len(families) >= (AT_LEAST if int(seen["version"].split(".")[0]) > 5 else OLDEST)


def test_every_denoise_node_of_the_host_has_a_twin(seen):
    samplers = {name for name in seen["nodes"] if "denoise" in name and not name.startswith("safelight_")}
    twins = {name.removeprefix("safelight_") for name in seen["nodes"] if name.startswith("safelight_")}
    assert len(samplers) > OLDEST
    assert samplers - NO_SAMPLERS - twins == set()


def test_the_final_latents_are_those_of_the_core_node_bit_by_bit(seen):
    assert {name for name, found in seen["families"].items() if not found["same"]} == set()


def test_a_run_has_every_step_and_no_notes(seen):
    for name, found in seen["families"].items():
        assert (found["state"], found["notes"]) == ("finished", []), name
        assert list(found["files"]) == list(found["shown"]) == [f"{i}" for i in range(1, STEPS + 1)], name


@pytest.mark.parametrize("place", ["files", "shown"])
def test_each_file_and_each_progress_picture_is_the_one_of_its_own_step(seen, place):
    for name, found in seen["families"].items():
        for step, errors in found[place].items():
            own = errors[int(step) - 1]
            assert own < min(LIMIT, min(errors) + 1), (name, step, errors)


def test_the_first_steps_have_different_pictures(seen):
    """Otherwise the test above would accept the picture of another step."""
    for name, found in seen["families"].items():
        for step in ("1", "2"):
            assert sorted(found["files"][step])[1] > 2 * LIMIT, (name, step)


def test_a_rule_ends_a_node_with_the_estimate_of_a_step_or_a_note_says_why_not(seen):
    for name, found in seen["families"].items():
        ruled, why = found["ruled"], NOT_RULED.get(name.split()[0])
        if why is None:
            assert (ruled["state"], ruled["kept"], ruled["is_estimate"], ruled["as_core"]) == (
                "stopped",
                2,
                True,
                True,
            ), name
            assert ruled["notes"] == ["stopped by your rule at step 2: moved less than 100 % for 3 steps"], name
        else:
            assert (ruled["state"], ruled["kept"], ruled["as_core"]) == ("finished", None, True), name
            assert ruled["notes"] == [f"stop_below_percent has no effect: {why}. Set it to 0"], name
