"""How the code for InvokeAI is written, and when it is imported."""

import ast
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import safelight
from safelight.hosts.invokeai.denoise_nodes import DENOISE_NODES

ROOT = Path(safelight.__file__).parent


@pytest.mark.parametrize("path", sorted((ROOT / "nodes" / "invokeai").glob("*.py")), ids=lambda path: path.name)
def test_annotations_in_files_with_nodes_are_not_strings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    futures = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert futures == []


def test_inputs_of_the_nodes_for_saved_runs_have_one_text_each():
    """A node that describes such an input itself would use other words than the others."""
    created = {"folder": "folder_input", "step": "step_input", "max_images": "max_images_input"}
    found = []
    for name in ("load_run", "continue_from_step", "steps_sheet"):
        tree = ast.parse((ROOT / "nodes" / "invokeai" / f"{name}.py").read_text(encoding="utf-8"))
        inputs = [node for node in ast.walk(tree) if isinstance(node, ast.AnnAssign) and node.target.id in created]
        found += [(name, node.target.id) for node in inputs]
        assert [node.value.func.id for node in inputs] == [created[node.target.id] for node in inputs]
    assert len(found) == 7


def test_only_folders_of_invokeai_import_it():
    rooms = [init.parent for init in ROOT.glob("[a-z]*/__init__.py")]
    paths = [*ROOT.glob("*.py"), *(path for room in rooms for path in room.rglob("*.py"))]
    elsewhere = [path for path in paths if "invokeai" not in path.relative_to(ROOT).parts]
    assert len(elsewhere) > 100
    for path in elsewhere:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
        names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        assert not [name for name in names if name.split(".")[0] == "invokeai"], path


def test_each_denoise_node_is_listed_once():
    assert len({node.name for node in DENOISE_NODES}) == len(DENOISE_NODES)


@pytest.mark.parametrize(
    ("modules", "is_invokeai"),
    [
        ([], False),
        (["invokeai.app.invocations"], True),
        (["comfy", "folder_paths"], False),
        (["comfy", "folder_paths", "invokeai.app.invocations"], False),  # installed next to ComfyUI, and imported
    ],
)
def test_the_host_that_imports_the_package_is_recognized(monkeypatch, modules, is_invokeai):
    for name in ("comfy", "folder_paths"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    for name in modules:
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    assert safelight._is_in_invokeai() is is_invokeai


def test_without_a_host_the_import_registers_nothing():
    assert os.environ.get("INVOKEAI_ROOT") is None
    assert not hasattr(safelight, "nodes") or not hasattr(safelight.nodes, "invokeai")
