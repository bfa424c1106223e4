"""Learning from the decodes of a real InvokeAI."""

import pytest

pytestmark = pytest.mark.timeout(1600)

NODES = {
    "l2i": "sd1",
    "l2i, tiled": "sd1",
    "l2i of SDXL": "sdxl",
    "flux_vae_decode": "flux1",
    "flux_vae_decode of diffusers": "flux1",
    "flux2_vae_decode": "flux2",
    "sd3_l2i": "sd3",
    "cogview4_l2i": "cogview4",
    "z_image_l2i": "flux1",
    "qwen_image_l2i": "wan21",
    "wan_l2i": "wan21",
    "wan_l2v": "wan21",
    "anima_l2i": "wan21",
    "ernie_image_vae_decode": "flux2",
}


@pytest.fixture(scope="session")
def decodes(lab):
    return lab("decodes")[0]


def test_every_decode_node_of_the_host_teaches_or_is_named(decodes):
    assert set(decodes["host"]) == set(decodes["taught"]) | set(decodes["silent"])


@pytest.mark.parametrize("name", NODES)
def test_a_decode_node_teaches_and_its_result_is_bit_identical(decodes, name):
    found = decodes["nodes"][name]
    assert found["same"]
    assert (found["spaces"], found["pictures"]) == ([NODES[name]], 1)
    assert found["latents_error"] < 1e-5
    assert found.get("color_error", 0) < 1e-5


@pytest.fixture(scope="session")
def learning(lab):
    return lab("learning")[0]


def test_the_images_of_a_server_that_learns_are_those_of_one_that_does_not(learning):
    assert learning["learning"]["final"] == learning["own"]["final"]


def test_a_server_learns_only_while_the_setting_is_on(learning):
    assert learning["files"]["own"] == []
    assert learning["files"]["on"] == ["state.safetensors"]
    assert learning["decodes"] == 7


def test_the_next_preview_shows_the_learned_decoder(learning):
    assert learning["twin"]["status"] == "completed"
    assert [name for name in learning["decoders"] if name.startswith("sd1-learned")]
    assert learning["shown"].startswith("sd1-learned")


def test_nothing_is_learned_with_user_accounts(learning):
    assert (learning["accounts"], learning["files"]["accounts"]) == ("completed", [])
    assert "InvokeAI has user accounts" in learning["accounts_log"]
