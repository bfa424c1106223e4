"""The test setup without our node: the facts that the other tests compare with."""

import io
import json

import pytest
from PIL import Image
from safetensors import safe_open

FORMATS = {"SD15": False, "SDXL": False, "Flux": True, "Wan21": True, "ChromaRadiance": True}


@pytest.mark.parametrize("latent_format", FORMATS)
def test_the_same_seed_samples_the_same_latents_twice(server, wire, latent_format):
    graphs = [wire(latent_format, flow=FORMATS[latent_format], seed=5, again=again) for again in (1, 2)]
    first, second = (server.play(graph) for graph in graphs)
    assert first.ends == second.ends == ["execution_success"]
    assert len(first.named("progress")) == len(second.named("progress")) == 4
    assert first.digest == second.digest


def test_different_seeds_sample_different_latents(server, wire):
    assert server.play(wire(sampler="euler_ancestral")).digest != server.play(wire(sampler="euler_ancestral")).digest


def test_the_spy_changes_nothing_and_sees_every_step(server, wire):
    spied, bare = wire(spy="rig/spy", seed=6), wire(seed=6)
    assert server.play(spied).digest == server.play(bare).digest
    with safe_open(server.output / "rig/spy_1.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["steps"]) == [[step, 4] for step in range(4)]
        assert file.get_tensor("x0").shape == (4, 1, 4, 16, 24)


def test_only_the_client_of_a_prompt_receives_the_hosts_previews(server, wire):
    played = server.play(wire())
    assert [Image.open(io.BytesIO(picture)).format for picture in played.previews] == ["JPEG"] * 4
    assert {event.name for event in played.overheard} <= {"status", "feature_flags"}


def test_a_client_without_metadata_support_receives_plain_previews(server, wire):
    played = server.play(wire(), metadata_previews=False)
    assert [event.name for event in played.events if event.name.startswith("binary")] == ["binary1"] * 4


def test_an_interrupted_prompt_ends_as_interrupted(server, wire):
    def stop(event):
        if event.name == "progress" and event.data["value"] == 2:
            server.post("/interrupt", {})

    assert server.play(wire(steps=50, step_ms=40.0), on_event=stop).ends == ["execution_interrupted"]


def test_a_model_that_raises_ends_the_prompt_with_an_error(server, wire):
    played = server.play(wire(fail_at=3))
    assert played.ends == ["execution_error"]
    assert "as it was asked to" in played.named("execution_error")[0].data["exception_message"]
