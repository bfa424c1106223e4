"""Whole-host previews beside other packs that replace or silence the host's, whichever of us is loaded first."""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .conftest import FOLDER, serving

RIVALS = "SAFELIGHT_RIVALS"  # a folder with clones of them by their own names, and in `site` what they need
SETTING = "Safelight.Everywhere"
OURS, OURS_MAKES = "replacement.py", "Previewer"
PICTURES = ("binary1", "binary4")
ANIMATED = {"id": "a", "nodes": [], "extra": {"VHS_latentpreview": True, "VHS_latentpreviewrate": 8}}
AGAIN = itertools.count(1)

pytestmark = pytest.mark.skipif(not os.environ.get(RIVALS), reason=f"{RIVALS} names no folder")


@dataclass(frozen=True)
class Rival:
    """A pack, with one of its nodes."""

    folder: str
    node: str


KJNODES = Rival("ComfyUI-KJNodes", "ModelPreviewOverrideKJ")
BLEH = Rival("ComfyUI-bleh", "BlehEnsurePreviewer")
VHS = Rival("ComfyUI-VideoHelperSuite", "VHS_VideoCombine")


@pytest.fixture(scope="module", params=[True, False], ids=["they come first", "ours comes first"])
def beside(request, tmp_path_factory, wire):
    """Starts a server with a rival beside; one at a time."""
    servers: dict[Rival, Any] = {}
    contexts = []

    def start(rival: Rival):
        if rival in servers:
            return servers[rival]
        base = tmp_path_factory.mktemp("beside")
        (base / "rivals").mkdir()
        (base / "rivals" / rival.folder).symlink_to(Path(os.environ[RIVALS], rival.folder))
        needs = base / "rivals" / "needs"
        needs.mkdir()
        (needs / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
        site = str(Path(os.environ[RIVALS], "site"))
        (needs / "prestartup_script.py").write_text(f"import sys\nsys.path.append({site!r})\n")
        first = str(request.param).lower()
        paths = base / "paths.yaml"
        paths.write_text(f"rivals:\n  base_path: {base / 'rivals'}\n  is_default: {first}\n  custom_nodes: .\n")
        context = serving(base / "host", FOLDER, "--extra-model-paths-config", str(paths))
        contexts.append(context)
        server = servers[rival] = context.__enter__()
        server.post("/api/settings", {SETTING: True})
        server.play(wire(step_ms=400.0))  # the first picture of a process takes its time
        return server

    def beside(rival: Rival):
        server = start(rival)
        loaded = list(server.get("/object_info").json())  # in the order in which their packs were
        if rival.node not in loaded:
            pytest.skip(f"{rival.folder} does not run in ComfyUI {server.version}")
        assert (loaded.index(rival.node) < loaded.index("SafelightPreview")) is request.param
        server.post("/api/settings", {SETTING: True})
        return server

    yield beside
    for context in contexts:
        context.__exit__(None, None, None)


def told(server, wire):
    """Which functions make previewers, by their files, and what they make."""
    graph = {key: node for key, node in wire().items() if key == "1"}
    inputs = {"model": ["1", 0], "method": "latent2rgb", "again": next(AGAIN)}
    graph["6"] = {"class_type": "LabPreviewers", "inputs": inputs}
    [output] = server.play(graph).histories[0]["outputs"].values()
    return output["layers"], output["previewer"][0]


def through(graph, node: str, passed: str, **inputs):
    """The graph with a node of a rival in the line from the model to the sampler."""
    graph["20"] = {"class_type": node, "inputs": {passed: graph["4"]["inputs"]["model"], **inputs}}
    graph["4"]["inputs"]["model"] = ["20", 0]
    return graph


def play(server, graph, **how):
    played = server.play(graph, **how)
    assert played.ends == ["execution_success"], played.named("execution_error")
    return played


@pytest.mark.parametrize("rival", [KJNODES, BLEH, VHS], ids=lambda rival: rival.folder)
def test_ours_is_shown_until_it_is_switched_off_and_then_theirs_is_as_it_was(beside, wire, rival):
    server = beside(rival)
    server.post("/api/settings", {SETTING: False})
    before = told(server, wire)
    assert before[1] != OURS_MAKES
    server.post("/api/settings", {SETTING: True})
    layers, previewer = told(server, wire)
    assert layers == [OURS, *before[0]]
    assert previewer == OURS_MAKES
    assert play(server, wire(step_ms=120.0)).named(*PICTURES)
    server.post("/api/settings", {SETTING: False})
    assert told(server, wire) == before
    assert "keeps its own preview" not in server.log


@pytest.mark.parametrize("suppress", [True, False])
def test_kjnodes_silences_it_where_it_is_to_silence_the_hosts(beside, wire, suppress):
    server = beside(KJNODES)
    inputs = {"max_resolution": 512, "jpeg_quality": 80, "preview_frames": 1, "preview_fps": 12, "tiny_vae": "none"}
    graph = through(wire(step_ms=120.0), KJNODES.node, "model", suppress_default_preview=suppress, **inputs)
    played = server.play(graph)
    if any("latent_shapes" in event.data["exception_message"] for event in played.named("execution_error")):
        pytest.skip(f"it does not run in ComfyUI {server.version}")
    assert played.named("kj_preview_override")
    assert bool(played.named(*PICTURES)) is not suppress
    assert play(server, wire(step_ms=120.0)).named(*PICTURES)


@pytest.mark.parametrize(("latent_format", "frames"), [("Wan21", 3), ("SD15", 1)])
def test_what_videohelpersuite_is_to_animate_it_animates(beside, wire, latent_format, frames):
    server = beside(VHS)
    graph = wire(latent_format, flow=True, frames=frames, step_ms=200.0, steps=6)
    played = play(server, graph, workflow=ANIMATED)
    assert played.named("VHS_latentpreview")
    assert not played.named("binary4"), "ours came in between"
    plain = play(server, wire(latent_format, flow=True, frames=frames, step_ms=120.0))
    assert plain.named("binary4")
    assert not plain.named("VHS_latentpreview")


def test_bleh_has_its_way_in_the_prompt_that_says_so(beside, wire):
    server = beside(BLEH)
    graph = through(wire(step_ms=120.0), BLEH.node, "any_input")
    graph["6"] = {"class_type": "LabPreviewers", "inputs": {"model": ["20", 0], "method": "latent2rgb", "again": 0}}
    played = play(server, graph)
    [layers] = [output["layers"] for output in played.histories[0]["outputs"].values() if "layers" in output]
    assert OURS not in layers
    assert told(server, wire)[1] == OURS_MAKES
