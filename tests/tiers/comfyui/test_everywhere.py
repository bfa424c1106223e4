"""Whole-host previews on a real server: the sampler's own preview, from our decoder, without a node."""

import io
import itertools
import json
import struct
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.decoder import to_bytes
from safelight.decoders.latents.space_table import SPACES
from safetensors.torch import load_file, save_file

from .conftest import FOLDER, serving

SETTING, DECODER = "Safelight.Everywhere", "Safelight.Decoder"
OFF = {SETTING: False, DECODER: "auto"}
SAMPLER = "4"
OURS = "replacement.py"
JPEG, JPEG_WITH_IDS = "binary1", "binary4"
STEP_MS = 120.0  # time enough for a picture of each step, so that none is replaced by the next
SIDE_PX = 512
AGAIN = itertools.count(1)


@pytest.fixture(scope="module")
def warm_server(own_server, wire):
    """A server whose first picture, which on a busy machine takes seconds, is behind it."""
    own_server.post("/api/settings", OFF | {SETTING: True})
    own_server.play(wire(step_ms=500.0))
    own_server.post("/api/settings", OFF)
    return own_server


@pytest.fixture
def everywhere(warm_server):
    """A server with the setting on, until the end of the test."""
    warm_server.post("/api/settings", OFF | {SETTING: True})
    yield warm_server
    warm_server.post("/api/settings", OFF)


class Told(NamedTuple):
    """Which functions make previewers, by their files; what they make for a format; the workers there are."""

    layers: list[str]
    previewer: str
    threads: list[str]


def told(server, wire, latent_format="SD15", method="latent2rgb", workflow=None):
    """What a LabPreviewers tells."""
    graph = {key: node for key, node in wire(latent_format, flow=False).items() if key == "1"}
    inputs = {"model": ["1", 0], "method": method, "again": next(AGAIN)}
    graph["6"] = {"class_type": "LabPreviewers", "inputs": inputs}
    played = server.play(graph, workflow=workflow)
    assert played.ends == ["execution_success"], played.named("execution_error")
    output = played.histories[0]["outputs"]["6"]
    return Told(output["layers"], output["previewer"][0], output["threads"])


def previews_of(played):
    """Each preview as it came: the ids it brought, and its pixels."""
    found = []
    for event in played.named(JPEG, JPEG_WITH_IDS):
        (count,) = struct.unpack(">I", event.data[4:8])
        ids = json.loads(event.data[8 : 8 + count]) if event.name == JPEG_WITH_IDS else {}
        assert ids or count == 1, "expected the type of a JPEG"
        with Image.open(io.BytesIO(event.data[8 + (count if ids else 0) :])) as picture:
            assert picture.format == "JPEG"
            found.append((event.name, ids, np.asarray(picture.convert("RGB"), dtype=float)))
    return found


def shown(rgb):
    """A picture `[1, 3, H, W]` in 0..1 as the host shows one."""
    image = Image.fromarray(to_bytes(rgb)[0].numpy())
    return np.asarray(ImageOps.contain(image, (SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR), dtype=float)


def by_ours(space, latents):
    """What the decoder that ships as the best shows of latents `[1, C, T, H, W]`."""
    [first, *_] = Catalogue().candidates(SPACES[space])
    return shown(next(iter(first.open().frames(latents))))


def by_host(latents, factors):
    return shown((torch.einsum("bchw,cd->bdhw", latents, torch.tensor(factors)) / 2 + 0.5).clamp(0, 1))


def differ(picture, other):
    assert picture.shape == other.shape
    return np.abs(picture - other).mean()


def x0_of(server, name):
    return load_file(server.output / f"{name}_1.safetensors")["x0"]


# Source: ComfyUI 0.33 `comfy/latent_formats.py`, `SD15.latent_rgb_factors`.
SD15 = [[0.3512, 0.2297, 0.3227], [0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]]


def test_while_it_is_off_nothing_of_the_host_is_replaced(own_server, wire):
    assert told(own_server, wire)[:2] == (["latent_preview.py"], "Latent2RGBPreviewer")
    played = own_server.play(wire(steps=3, spy="spied/off"))
    pictures = [pixels for _, _, pixels in previews_of(played)]
    for x0, pixels in zip(x0_of(own_server, "spied/off"), pictures, strict=True):
        assert differ(pixels, by_host(x0, SD15)) < 3


@pytest.mark.parametrize("kind", [JPEG, JPEG_WITH_IDS])
def test_every_step_is_shown_by_our_decoder_where_the_host_shows_it(everywhere, wire, kind):
    spied = f"spied/on_{kind}"
    graph = wire(steps=4, spy=spied, step_ms=STEP_MS)
    played = everywhere.play(graph, metadata_previews=kind == JPEG_WITH_IDS)
    assert played.ends == ["execution_success"]
    previews = previews_of(played)
    x0s = x0_of(everywhere, spied)
    expected = [by_ours("sd1", x0.unsqueeze(2)) for x0 in x0s]
    steps = []
    for event, ids, pixels in previews:
        assert event == kind
        assert max(pixels.shape) == SIDE_PX
        differences = [differ(pixels, picture) for picture in expected]
        assert min(differences) < 3
        assert min(differ(pixels, by_host(x0, SD15)) for x0 in x0s) > 6
        steps.append(np.argmin(differences) + 1)
        if kind == JPEG_WITH_IDS:
            assert ids == {
                "node_id": SAMPLER,
                "display_node_id": SAMPLER,
                "real_node_id": SAMPLER,
                "parent_node_id": None,
                "prompt_id": played.prompt_ids[0],
                "image_type": "image/jpeg",
            }
    # On a busy machine a step may be replaced by the next one before it is decoded; the last one never is.
    assert steps == sorted(set(steps))
    assert steps[-1] == len(expected) == 4
    assert len(steps) > 1
    names = [event.name for event in played.events]
    done = next(i for i, e in enumerate(played.events) if e.name == "executing" and e.data["node"] == "5")
    assert max(i for i, name in enumerate(names) if name == kind) < done, "a preview came after its sampler was done"
    assert [e.name for e in played.overheard if e.name.startswith("binary")] == []


def test_the_result_is_the_same_to_the_last_bit(everywhere, wire):
    graph = wire(steps=6, seed=77)
    with_ours = everywhere.play(graph).digest
    everywhere.post("/api/settings", OFF)
    graph["1"]["inputs"]["again"] = 1
    assert everywhere.play(graph).digest == with_ours


def test_a_sampler_that_is_done_leaves_no_thread_behind(everywhere, wire):
    for _ in range(3):
        everywhere.play(wire())
    assert told(everywhere, wire).threads == []


def test_the_last_step_is_shown_however_fast_the_sampler_is(everywhere, wire):
    played = everywhere.play(wire(steps=30, spy="spied/fast"))
    previews = previews_of(played)
    assert 1 <= len(previews) <= 30
    assert differ(previews[-1][2], by_ours("sd1", x0_of(everywhere, "spied/fast")[-1].unsqueeze(2))) < 3


def test_where_nobody_says_whose_setting_counts_it_stays_off(tmp_path, wire):
    with serving(tmp_path / "host", FOLDER, "--multi-user") as server:
        settings = server.base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps({SETTING: True}))
        assert told(server, wire)[:2] == (["latent_preview.py"], "Latent2RGBPreviewer")


def test_switched_off_again_it_leaves_the_hosts_own_function(everywhere, wire):
    assert told(everywhere, wire)[:2] == ([OURS, "latent_preview.py"], "Previewer")
    everywhere.post("/api/settings", OFF)
    assert told(everywhere, wire)[:2] == (["latent_preview.py"], "Latent2RGBPreviewer")


@pytest.mark.parametrize(
    ("latent_format", "method", "previewer"),
    [
        ("SD15", "none", "NoneType"),
        ("NeverSeen", "latent2rgb", "NoneType"),  # nobody has a decoder
        ("ChromaRadiance", "latent2rgb", "Latent2RGBPreviewer"),  # the latents are the picture
        ("Wan21", "latent2rgb", "Previewer"),
        ("SD15", "taesd", "Previewer"),
    ],
)
def test_it_steps_aside_where_it_has_nothing_better(everywhere, wire, latent_format, method, previewer):
    if latent_format not in everywhere.inputs_of("LabModel")["latent_format"][0]:
        pytest.skip(f"ComfyUI {everywhere.version} has no latent format {latent_format}")
    assert told(everywhere, wire, latent_format, method).previewer == previewer


def test_a_workflow_that_another_pack_is_to_animate_is_ours_where_that_pack_is_not_installed(everywhere, wire):
    workflow = {"id": "a", "nodes": [], "extra": {"VHS_latentpreview": True}}
    assert told(everywhere, wire, workflow=workflow).previewer == "Previewer"


@pytest.mark.parametrize(("latent_format", "space", "channels"), [("Wan21", "wan21", 16), ("Wan22", "wan22", 48)])
def test_a_sampler_with_a_loop_of_its_own_shows_the_first_of_its_frames(everywhere, latent_format, space, channels):
    latents = torch.randn((3, 5, channels, 8, 12), generator=torch.Generator().manual_seed(3))  # [steps, T, C, H, W]
    save_file({"latents": latents}, everywhere.output / f"own_loop_{latent_format}.safetensors")
    inputs = {"latent_format": latent_format, "file": f"own_loop_{latent_format}.safetensors"}
    played = everywhere.play({"8": {"class_type": "LabOwnLoop", "inputs": inputs}})
    assert played.ends == ["execution_success"], played.named("execution_error")
    _, ids, pixels = previews_of(played)[-1]
    assert ids["node_id"] == "8"
    assert differ(pixels, by_ours(space, latents[-1, :1].movedim(0, 1)[None])) < 4


def test_a_sampler_that_preview_steps_watches_as_well_is_seen_in_both_places(everywhere, wire):
    graph = wire(preview={"write_intermediates": True, "filename_prefix": "both"}, steps=4, step_ms=STEP_MS)
    played = everywhere.play(graph)
    assert played.ends == ["execution_success"]
    assert 1 < len(previews_of(played)) <= 4
    assert len(list((everywhere.output / "both_00001").glob("step_*"))) == 4
    assert "Traceback" not in everywhere.log.rpartition("got prompt")[2]
    everywhere.post("/api/settings", OFF)
    bare = wire.without_preview(graph)
    bare["1"]["inputs"]["again"] = 2
    assert everywhere.play(bare).digest == played.digest


def test_a_run_can_be_cancelled(everywhere, wire):
    asked = []

    def cancel(event):
        # Newer hosts leave out some of the progress of a fast sampler that brings no picture along.
        if event.name == "progress" and event.data["value"] >= 4 and not asked:
            asked.append(everywhere.post("/interrupt", {}))

    played = everywhere.play(wire(steps=60, step_ms=40.0), on_event=cancel)
    assert played.ends == ["execution_interrupted"]
    assert 1 <= len(previews_of(played)) < 40
    assert everywhere.play(wire()).ends == ["execution_success"], "the server no longer samples"


def test_a_preview_that_fails_leaves_the_rest_of_the_run_to_the_host(everywhere, wire):
    layers = {"in_proj": (12, 4), "hidden_layers.0": (12, 12), "out_proj": (3, 12)}
    state = {f"{name}.weight": torch.full(shape, float("nan")) for name, shape in layers.items()}
    state |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in layers.items()}
    save_file(state, everywhere.models / "vae_approx" / "lab_not_numbers.safetensors")
    everywhere.post("/api/settings", {DECODER: "lab_not_numbers.safetensors"})
    played = everywhere.play(wire(steps=4, spy="spied/failing", step_ms=STEP_MS))
    assert played.ends == ["execution_success"]
    *_, (_, ids, pixels) = previews_of(played)
    assert ids["node_id"] == SAMPLER
    assert differ(pixels, by_host(x0_of(everywhere, "spied/failing")[-1], SD15)) < 3
    told_of = [line for line in everywhere.log.rpartition("got prompt")[2].splitlines() if "lab_not_numbers" in line]
    assert len(told_of) == 1, told_of


def test_beneath_somebody_elses_it_works_and_does_nothing_once_switched_off(everywhere, wire):
    """The last test of the server: what the other one replaced stays replaced."""
    told(everywhere, wire)
    everywhere.play({"7": {"class_type": "LabWrapPreviewers", "inputs": {"again": next(AGAIN)}}})
    assert told(everywhere, wire)[:2] == (["previews.py", OURS, "latent_preview.py"], "Previewer")
    everywhere.post("/api/settings", OFF)
    assert told(everywhere, wire)[:2] == (["previews.py", OURS, "latent_preview.py"], "Latent2RGBPreviewer")
