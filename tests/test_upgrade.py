"""Files of released versions still open: `tests/released/<version>` has them as that version wrote them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safelight.cli.main import main
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.files.decoder_file import read_card
from safelight.decoders.latents.space_table import SPACES
from safelight.fitting.online.learned_files import list_learned_spaces
from safelight.preview.images.metadata import picture_texts
from safelight.preview.manifest import read_manifest
from safelight.preview.options import RunOptions
from safelight.preview.run_library import RunLibrary
from safelight.preview.saved_run import SavedRun

ROOT = Path(__file__).resolve().parent.parent
RELEASED = ROOT / "tests" / "released"
VERSIONS = sorted(path.name for path in RELEASED.iterdir())
CURRENT_EXAMPLE = ROOT / "example_workflows" / "02 Write every step.json"
NODE = "SafelightPreview"


@pytest.fixture(params=VERSIONS)
def released(request):
    """The folder with the files of a version."""
    return RELEASED / request.param


@pytest.fixture
def run(released, tmp_path):
    """A copy of a run that a version wrote in ComfyUI."""
    return Path(shutil.copytree(released / "run", tmp_path / "steps_00001"))


def node_of(workflow):
    (node,) = (node for node in json.loads(workflow.read_text("utf-8"))["nodes"] if node["type"] == NODE)
    return node


def settings_of(node):
    """The values of a node's settings by name; workflows hold them by position."""
    names = [slot["name"] for slot in node["inputs"] if "widget" in slot]
    return dict(zip(names, node["widgets_values"], strict=True))


def test_there_are_files_of_each_earlier_version():
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    stated = [line[4:].partition("]")[0] for line in changelog.splitlines() if line.startswith("## [")]
    assert "0.1.0" in VERSIONS
    assert set(VERSIONS) <= set(stated)


def test_a_run_is_read_as_it_was_written(run):
    written = json.loads((run / "run.json").read_text("utf-8"))
    assert read_manifest(run) == written
    assert [step["index"] for step in written["steps"]] == [1, 2, 3]


def test_the_library_lists_a_run_with_its_workflow(run):
    (entry,) = RunLibrary(run.parent).runs().values()
    assert (entry.facts["state"], entry.facts["steps"], entry.details["workflow"]) == ("finished", 3, True)
    assert json.loads(picture_texts(run, Path("step_0003.png"))["workflow"])["nodes"]


def test_the_page_of_a_folder_shows_a_run(run, capsys):
    assert main(["index", str(run.parent)]) == 0
    assert "step_0003.png" in (run.parent / "library.html").read_text("utf-8")


def test_load_run_opens_pictures_and_latents(run):
    saved = SavedRun.open(run)
    assert len(saved.pictures(10)) == 3
    assert tuple(saved.latents(3).denoised.shape) == (1, 4, 4, 6)
    assert "3" in saved.summary()


def test_saved_latents_are_decoded(run, tmp_path, capsys):
    out = tmp_path / "decoded"
    assert main(["decode", str(run / "step_0003.safetensors"), "--out", str(out)]) == 0
    (picture,) = out.rglob("*.png")
    with Image.open(picture) as image:
        assert image.size == (6, 4)


def test_a_learned_decoder_is_listed_and_decodes(released, tmp_path):
    (path,) = released.glob("*-learned.safetensors")
    shutil.copy(path, tmp_path)
    card = read_card(tmp_path / path.name)
    assert (card.space, card.vae) == ("sdxl", None)
    (learned,) = list_learned_spaces(tmp_path)
    assert (learned.space, learned.vae, learned.decoder) == ("sdxl", None, tmp_path / path.name)
    candidates = Catalogue([tmp_path]).candidates(SPACES["sdxl"], path.stem)
    assert candidates[0].name == path.stem
    assert candidates[0].open().decode(torch.zeros(1, 4, 4, 6)).shape == (1, 3, 4, 6)


def test_the_settings_of_a_workflow_keep_their_names_and_places(released):
    old, current = settings_of(node_of(released / "workflow.json")), settings_of(node_of(CURRENT_EXAMPLE))
    assert list(current)[: len(old)] == list(old)


def test_the_values_of_a_workflow_are_still_allowed(released):
    old = settings_of(node_of(released / "workflow.json"))
    options = RunOptions.of({**settings_of(node_of(CURRENT_EXAMPLE)), **old})
    assert {name: getattr(options, name) for name in old} == old


def test_each_node_of_a_workflow_exists(released):
    nodes = json.loads((released / "workflow.json").read_text("utf-8"))["nodes"]
    ours = {node["type"] for node in nodes if node["type"].startswith("Safelight")}
    known = json.loads((ROOT / "locales/en/nodeDefs.json").read_text("utf-8"))
    assert ours
    assert ours <= set(known)
    for node in nodes:
        if node["type"] in ours:
            assert [slot["name"] for slot in node["inputs"] if slot["name"] not in known[node["type"]]["inputs"]] == []
