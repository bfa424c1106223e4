"""Previews of all samplers beside other packs that replace or disable ComfyUI's, in either order of loading."""

import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ... import older
from .conftest import FOLDER, serving

RIVALS = "SAFELIGHT_RIVALS"  # a folder with clones of the packs by their own names, and their requirements in `site`
SETTING = "Safelight.Everywhere"
OURS, OURS_MAKES = "reversible_patch.py", "SafelightPreviewer"
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
ALL = (KJNODES, BLEH, VHS)


@pytest.fixture(scope="module", params=[True, False], ids=["they come first", "ours comes first"])
def beside(request, tmp_path_factory, wire):
    """Starts a server with other packs, once for each set of them."""
    servers: dict[tuple[Rival, ...], Any] = {}
    contexts = []

    def start(*rivals: Rival):
        if rivals in servers:
            return servers[rivals]
        base = tmp_path_factory.mktemp("beside")
        (base / "rivals").mkdir()
        for rival in rivals:
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
        server = servers[rivals] = context.__enter__()
        server.post("/api/settings", {SETTING: True})
        server.play(wire(step_ms=400.0))  # the first picture of a process takes longer
        return server

    def beside(*rivals: Rival):
        server = start(*rivals)
        loaded = list(server.get("/object_info").json())  # in the order of their packs
        for rival in rivals:
            older.expect(rival.node in loaded, "ComfyUI", server.version, f"node {rival.node}")
            assert (loaded.index(rival.node) < loaded.index("SafelightPreview")) is request.param
        server.post("/api/settings", {SETTING: True})
        return server

    yield beside
    for context in contexts:
        context.__exit__(None, None, None)


def told(server, wire):
    """The files of the functions that create previewers, and the class of the previewer."""
    graph = {key: node for key, node in wire().items() if key == "1"}
    inputs = {"model": ["1", 0], "method": "latent2rgb", "again": next(AGAIN)}
    graph["6"] = {"class_type": "LabPreviewers", "inputs": inputs}
    [output] = server.play(graph).histories[0]["outputs"].values()
    return output["layers"], output["previewer"][0]


def through(graph, node: str, passed: str, **inputs):
    """The graph with another pack's node between the model and the sampler."""
    graph["20"] = {"class_type": node, "inputs": {passed: graph["4"]["inputs"]["model"], **inputs}}
    graph["4"]["inputs"]["model"] = ["20", 0]
    return graph


def play(server, graph, **how):
    played = server.play(graph, **how)
    assert played.ends == ["execution_success"], played.named("execution_error")
    return played


@pytest.mark.parametrize("rival", [KJNODES, BLEH, VHS], ids=lambda rival: rival.folder)
def test_our_preview_is_shown_until_it_is_switched_off_then_theirs_again(beside, wire, rival):
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
    assert "has its ordinary preview" not in server.log


@pytest.mark.parametrize("suppress", [True, False])
def test_kjnodes_disables_our_preview_if_it_disables_comfyuis(beside, wire, suppress):
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
def test_videohelpersuite_animates_the_previews_if_its_option_is_on(beside, wire, latent_format, frames):
    server = beside(VHS)
    graph = wire(latent_format, flow=True, frames=frames, step_ms=200.0, steps=6)
    played = play(server, graph, workflow=ANIMATED)
    assert played.named("VHS_latentpreview")
    assert not played.named("binary4"), "ours came in between"
    plain = play(server, wire(latent_format, flow=True, frames=frames, step_ms=120.0))
    assert plain.named("binary4")
    assert not plain.named("VHS_latentpreview")


def test_bleh_shows_its_preview_in_a_prompt_with_its_node(beside, wire):
    server = beside(BLEH)
    graph = through(wire(step_ms=120.0), BLEH.node, "any_input")
    graph["6"] = {"class_type": "LabPreviewers", "inputs": {"model": ["20", 0], "method": "latent2rgb", "again": 0}}
    played = play(server, graph)
    [layers] = [output["layers"] for output in played.histories[0]["outputs"].values() if "layers" in output]
    assert OURS not in layers
    assert told(server, wire)[1] == OURS_MAKES


# All of them together


KJ_INPUTS = {"max_resolution": 512, "jpeg_quality": 80, "preview_frames": 1, "preview_fps": 12, "tiny_vae": "none"}


@pytest.fixture
def watching(wire):
    """Builds a graph with our node, which writes its steps to `<output>/beside/<name>_00001`."""

    def watching(name: str, latent_format: str = "SD15", **how):
        preview = {"write_intermediates": True, "filename_prefix": f"beside/{name}"}
        return wire(latent_format, preview=preview, steps=6, step_ms=150.0, again=next(AGAIN), **how)

    return watching


def without_ours(graph):
    """The same graph without our node, with another input so that it is sampled again."""
    bare = json.loads(json.dumps({key: node for key, node in graph.items() if key != "2"}))
    for node in bare.values():
        taken = {key: graph["2"]["inputs"]["model"] for key, value in node["inputs"].items() if value == ["2", 0]}
        node["inputs"].update(taken)
    bare["1"]["inputs"]["again"] = next(AGAIN)
    return bare


def why(played):
    """ComfyUI's error message for a prompt that failed."""
    return played.named("execution_error")[0].data["exception_message"].strip()


def ours_works(server, graph, played, name):
    """Our node announced, showed and saved each step, and the result is the same as without it."""
    assert played.ends == ["execution_success"], played.named("execution_error")
    assert played.named("safelight.step")[-1].data["index"] == 6
    kept = json.loads((server.output / "beside" / f"{name}_00001" / "run.json").read_text())
    assert (kept["state"], kept["notes"]) == ("finished", [])
    assert [step["index"] for step in kept["steps"] if step["files"]] == [1, 2, 3, 4, 5, 6]
    assert play(server, without_ours(graph)).digest == played.digest


@pytest.mark.parametrize("everywhere", [False, True], ids=["the host's previews", "whole-host previews"])
def test_all_packs_and_ours_show_their_previews_in_one_server(beside, wire, watching, everywhere):
    server = beside(*ALL)
    assert "IMPORT FAILED" not in server.log
    server.post("/api/settings", {SETTING: everywhere})
    name = "everywhere" if everywhere else "own"

    graph = watching(f"plain_{name}")
    played = play(server, graph)
    assert played.named(*PICTURES)
    ours_works(server, graph, played, f"plain_{name}")

    # Their node before ours on the model line, and after it.
    for place in ("before", "behind"):
        graph = watching(f"kj_{place}_{name}")
        kj = {"class_type": KJNODES.node, "inputs": {**KJ_INPUTS, "suppress_default_preview": False}}
        if place == "before":
            graph["20"] = {**kj, "inputs": {**kj["inputs"], "model": graph["2"]["inputs"]["model"]}}
            graph["2"]["inputs"]["model"] = ["20", 0]
        else:
            graph["20"] = {**kj, "inputs": {**kj["inputs"], "model": ["2", 0]}}
            graph["4"]["inputs"]["model"] = ["20", 0]
        played = play(server, graph)
        assert played.named("kj_preview_override")
        assert played.named(*PICTURES), "KJNodes was not to silence the sampler's own"
        ours_works(server, graph, played, f"kj_{place}_{name}")

    graph = watching(f"vhs_{name}", "Wan21", flow=True, frames=3)
    played = server.play(graph, workflow=ANIMATED)
    # VideoHelperSuite fails the run if it finds bleh's previewer, and shows nothing if bleh was installed last. This
    # also happens without our pack.
    server.post("/api/settings", {SETTING: False})
    alone = server.play(without_ours(graph), workflow=ANIMATED)
    server.post("/api/settings", {SETTING: everywhere})
    assert bool(played.named("VHS_latentpreview")) == bool(alone.named("VHS_latentpreview"))
    assert played.ends == alone.ends
    if played.ends == ["execution_success"]:
        ours_works(server, graph, played, f"vhs_{name}")
    else:
        assert [why(one) for one in (played, alone)] == ["Unsupported preview type for VHS animated previews"] * 2

    graph = through(watching(f"bleh_{name}"), BLEH.node, "any_input")
    played = play(server, graph)
    assert played.named(*PICTURES)
    ours_works(server, graph, played, f"bleh_{name}")

    assert play(server, wire(step_ms=120.0)).named(*PICTURES), "what one of them did is still done in the next prompt"
    assert "has its ordinary preview" not in server.log
    assert "this run has no preview" not in server.log
