"""Previews of all samplers on a real server: our decoder shows them on the sampler's own node."""

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

from ... import older
from .conftest import FOLDER, serving

SETTING, DECODER = "Safelight.Everywhere", "Safelight.Decoder"
OFF = {SETTING: False, DECODER: "auto"}
SAMPLER = "4"
OURS = "reversible_patch.py"
JPEG, JPEG_WITH_IDS = "binary1", "binary4"
STEP_MS = 120.0  # long enough for a picture of each step, so that none is replaced by the next
SIDE_PX = 512
AGAIN = itertools.count(1)


@pytest.fixture(scope="module")
def warm_server(own_server, wire):
    """A server that has shown its first picture, which takes seconds on a busy machine."""
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


class Previewers(NamedTuple):
    """The files of the functions that create previewers, the previewer's class, and the worker threads."""

    layers: list[str]
    previewer: str
    threads: list[str]


def told(server, wire, latent_format="SD15", method="latent2rgb", workflow=None):
    """The output of a LabPreviewers."""
    graph = {key: node for key, node in wire(latent_format, flow=False).items() if key == "1"}
    inputs = {"model": ["1", 0], "method": method, "again": next(AGAIN)}
    graph["6"] = {"class_type": "LabPreviewers", "inputs": inputs}
    played = server.play(graph, workflow=workflow)
    assert played.ends == ["execution_success"], played.named("execution_error")
    output = played.histories[0]["outputs"]["6"]
    return Previewers(output["layers"], output["previewer"][0], output["threads"])


def previews_of(played):
    """The previews in order: their ids and pixels."""
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
    """Converts a picture `[1, 3, H, W]` in 0..1 as ComfyUI does."""
    image = Image.fromarray(to_bytes(rgb)[0].numpy())
    return np.asarray(ImageOps.contain(image, (SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR), dtype=float)


def by_ours(space, latents):
    """The output of the default decoder for latents `[1, C, T, H, W]`."""
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


def test_nothing_is_replaced_while_the_setting_is_off(own_server, wire):
    assert told(own_server, wire)[:2] == (["latent_preview.py"], "Latent2RGBPreviewer")
    played = own_server.play(wire(steps=3, spy="spied/off"))
    pictures = [pixels for _, _, pixels in previews_of(played)]
    for x0, pixels in zip(x0_of(own_server, "spied/off"), pictures, strict=True):
        assert differ(pixels, by_host(x0, SD15)) < 3


@pytest.mark.parametrize("kind", [JPEG, JPEG_WITH_IDS])
def test_our_decoder_shows_every_step_on_the_samplers_node(everywhere, wire, kind):
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
    # On a busy machine the next step may replace one before it is decoded; the last step is always shown.
    assert steps == sorted(set(steps))
    assert steps[-1] == len(expected) == 4
    assert len(steps) > 1
    names = [event.name for event in played.events]
    done = next(i for i, e in enumerate(played.events) if e.name == "executing" and e.data["node"] == "5")
    assert max(i for i, name in enumerate(names) if name == kind) < done, "a preview came after its sampler was done"
    assert [e.name for e in played.overheard if e.name.startswith("binary")] == []


def test_the_result_is_bit_identical(everywhere, wire):
    graph = wire(steps=6, seed=77)
    with_ours = everywhere.play(graph).digest
    everywhere.post("/api/settings", OFF)
    graph["1"]["inputs"]["again"] = 1
    assert everywhere.play(graph).digest == with_ours


def test_no_thread_is_left_after_sampling(everywhere, wire):
    for _ in range(3):
        everywhere.play(wire())
    assert told(everywhere, wire).threads == []


def test_the_last_step_of_a_fast_sampler_is_shown(everywhere, wire):
    played = everywhere.play(wire(steps=30, spy="spied/fast"))
    previews = previews_of(played)
    assert 1 <= len(previews) <= 30
    assert differ(previews[-1][2], by_ours("sd1", x0_of(everywhere, "spied/fast")[-1].unsqueeze(2))) < 3


def test_the_setting_is_ignored_with_multi_user(tmp_path, wire):
    with serving(tmp_path / "host", FOLDER, "--multi-user") as server:
        settings = server.base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps({SETTING: True}))
        assert told(server, wire)[:2] == (["latent_preview.py"], "Latent2RGBPreviewer")


def test_switching_it_off_restores_the_hosts_function(everywhere, wire):
    assert told(everywhere, wire)[:2] == ([OURS, "latent_preview.py"], "SafelightPreviewer")
    everywhere.post("/api/settings", OFF)
    assert told(everywhere, wire)[:2] == (["latent_preview.py"], "Latent2RGBPreviewer")


@pytest.mark.parametrize(
    ("latent_format", "method", "previewer"),
    [
        ("SD15", "none", "NoneType"),
        ("NeverSeen", "latent2rgb", "NoneType"),  # there is no decoder
        ("ChromaRadiance", "latent2rgb", "Latent2RGBPreviewer"),  # latents are pixels
        ("Wan21", "latent2rgb", "SafelightPreviewer"),
        ("SD15", "taesd", "SafelightPreviewer"),
    ],
)
def test_the_hosts_previewer_is_used_if_ours_is_not_better(everywhere, wire, latent_format, method, previewer):
    formats = everywhere.inputs_of("LabModel")["latent_format"][0]
    older.expect(latent_format in formats, "ComfyUI", everywhere.version, f"latent format {latent_format}")
    assert told(everywhere, wire, latent_format, method).previewer == previewer


def test_the_option_of_another_pack_is_ignored_if_the_pack_is_not_installed(everywhere, wire):
    workflow = {"id": "a", "nodes": [], "extra": {"VHS_latentpreview": True}}
    assert told(everywhere, wire, workflow=workflow).previewer == "SafelightPreviewer"


@pytest.mark.parametrize(("latent_format", "space", "channels"), [("Wan21", "wan21", 16), ("Wan22", "wan22", 48)])
def test_the_first_frame_of_a_sampler_with_its_own_loop_is_shown(everywhere, latent_format, space, channels):
    latents = torch.randn((3, 5, channels, 8, 12), generator=torch.Generator().manual_seed(3))  # [steps, T, C, H, W]
    save_file({"latents": latents}, everywhere.output / f"own_loop_{latent_format}.safetensors")
    inputs = {"latent_format": latent_format, "file": f"own_loop_{latent_format}.safetensors"}
    played = everywhere.play({"8": {"class_type": "LabOwnLoop", "inputs": inputs}})
    assert played.ends == ["execution_success"], played.named("execution_error")
    _, ids, pixels = previews_of(played)[-1]
    assert ids["node_id"] == "8"
    assert differ(pixels, by_ours(space, latents[-1, :1].movedim(0, 1)[None])) < 4


def test_a_sampler_with_preview_steps_is_shown_on_both_nodes(everywhere, wire):
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
        # Newer versions of ComfyUI skip some progress events of a fast sampler without pictures.
        if event.name == "progress" and event.data["value"] >= 4 and not asked:
            asked.append(everywhere.post("/interrupt", {}))

    played = everywhere.play(wire(steps=60, step_ms=40.0), on_event=cancel)
    assert played.ends == ["execution_interrupted"]
    assert 1 <= len(previews_of(played)) < 40
    assert everywhere.play(wire()).ends == ["execution_success"], "the server no longer samples"


def test_after_a_failed_preview_the_host_shows_the_rest_of_the_run(everywhere, wire):
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


def test_below_another_packs_function_it_works_until_it_is_switched_off(everywhere, wire):
    """The last test on this server, because the other pack's replacement stays."""
    told(everywhere, wire)
    everywhere.play({"7": {"class_type": "LabWrapPreviewers", "inputs": {"again": next(AGAIN)}}})
    assert told(everywhere, wire)[:2] == (["previews.py", OURS, "latent_preview.py"], "SafelightPreviewer")
    everywhere.post("/api/settings", OFF)
    assert told(everywhere, wire)[:2] == (["previews.py", OURS, "latent_preview.py"], "Latent2RGBPreviewer")
