"""Learning from every VAE decode on a real server: a setting, no node; the decodes stay as they are."""

import itertools
import shutil

import pytest
import torch
import torch.nn.functional as F
from safelight.fitting.online.state import OnlineState
from safetensors.torch import load_file, save_file

LEARN, EVERYWHERE = "Safelight.Learn", "Safelight.Everywhere"
OFF = {LEARN: False, EVERYWHERE: False}
SAMPLER = "4"
COUNT = itertools.count(1)


@pytest.fixture(scope="module")
def decoding(own_server):
    own_server.inputs_of("SafelightLearn")
    return own_server


@pytest.fixture
def learning(decoding):
    """A server that learns from every decode, and has learned nothing yet."""
    shutil.rmtree(decoding.models / "safelight", ignore_errors=True)
    decoding.post("/api/settings", OFF | {LEARN: True})
    yield decoding
    decoding.post("/api/settings", OFF)


def decode(server, wire, latent_format="NeverSeen", node="VAEDecode", tiny=False, seed=None, samples=None, **inputs):
    """Samples and decodes with stock nodes; returns the image."""
    number = next(COUNT)
    graph = wire(latent_format, height=24, width=32, seed=number if seed is None else seed, steps=2)
    out = f"learned_{number}.safetensors"
    graph["11"] = {"class_type": "LabDecoder", "inputs": {"tiny": tiny, "broken": False}}
    graph["12"] = {"class_type": node, "inputs": {"samples": [SAMPLER, 0], "vae": ["11", 0], **inputs}}
    if samples is not None:
        name = f"latent_{number}.safetensors"
        save_file({"samples": samples}, server.output / name)
        graph = {key: graph[key] for key in ("11", "12")}
        graph["10"] = {"class_type": "LabLatent", "inputs": {"file": name}}
        graph["12"]["inputs"]["samples"] = ["10", 0]
    graph["13"] = {"class_type": "LabKeep", "inputs": {"file": out, "image": ["12", 0]}}
    graph["14"] = {"class_type": "LabLearned", "inputs": {"image": ["12", 0]}}
    played = server.play(graph)
    assert played.ends == ["execution_success"], played
    return load_file(server.output / out)["image"]


def states(server):
    return [OnlineState.load(path) for path in (server.models / "safelight" / "learned").glob("*/state.safetensors")]


def test_nothing_is_learned_while_the_setting_is_off(decoding, wire):
    shutil.rmtree(decoding.models / "safelight", ignore_errors=True)
    decoding.post("/api/settings", OFF)
    decode(decoding, wire)
    assert states(decoding) == []


@pytest.mark.parametrize("tiny", [False, True], ids=["a VAE of another pack", "the host's own class"])
def test_stock_decodes_teach_and_stay_bit_identical(learning, wire, tiny):
    latent_format = "SD15" if tiny else "NeverSeen"
    image = decode(learning, wire, latent_format, tiny=tiny, seed=7)
    assert len(states(learning)) == 1, learning.log[-3000:]
    (state,) = states(learning)
    assert (state.space.name, state.decodes, state.pictures) == ("sd1" if tiny else "neverseen", 1, 1)
    assert len(state.vae) == (12 if tiny else len(state.vae))
    learning.post("/api/settings", OFF)
    assert torch.equal(image, decode(learning, wire, latent_format, tiny=tiny, seed=7))


def test_the_pair_is_in_model_space(learning, wire):
    image = decode(learning, wire, "SD15", tiny=True, seed=3)
    assert len(states(learning)) == 1, learning.log[-3000:]
    (state,) = states(learning)
    rows = F.avg_pool2d(image.movedim(-1, 1), 8).double()
    assert torch.allclose(state.sums[1].xy[-1], rows.sum((0, 2, 3)), rtol=1e-3)
    # The sampler's model makes latents of about 1; in the VAE's units they would be 5.5 times as large.
    means = state.sums[1].xx.diagonal()[:4] / state.pixels
    assert float(means.mean()) < 4


def test_a_cached_sampler_is_found_again(learning, wire):
    decode(learning, wire, "SD15", tiny=True, seed=5)
    decode(learning, wire, "SD15", tiny=True, seed=5, node="VAEDecodeTiled", tile_size=192, overlap=16,
           temporal_size=64, temporal_overlap=8)  # fmt: skip
    assert len(states(learning)) == 1, learning.log[-3000:]
    (state,) = states(learning)
    assert state.decodes == 1  # of the same latents


def test_tiled_decodes_teach(learning, wire):
    decode(learning, wire, "SD15", tiny=True, node="VAEDecodeTiled", tile_size=192, overlap=16, temporal_size=64,
           temporal_overlap=8)  # fmt: skip
    assert [state.decodes for state in states(learning)] == [1]


def test_latents_of_unknown_origin_teach_nothing_and_the_log_says_why_once(learning, wire):
    for seed in range(2):
        samples = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
        decode(learning, wire, tiny=True, samples=samples)
    assert states(learning) == []
    assert learning.log.count("from no known sampler fit") == 1


def test_the_preview_uses_the_learned_decoder(learning, wire):
    for _ in range(9):
        decode(learning, wire, "NeverSeen")
    assert list((learning.models / "safelight").glob("neverseen-learned*.safetensors"))
