"""The installed package, and what importing it loads."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import safelight

ROOT = Path(safelight.__file__).parent
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
NOT_INSTALLED = {"tests", "benchmarks", "tools"}
DATA_FOLDER = "safelight.web"  # without Python; setuptools warns if it is not listed


def test_every_package_is_installed():
    """pyproject.toml lists the packages; a missing one would be missing only in installed copies."""
    listed = ast.literal_eval(re.search(r"^packages = (\[.*?\])$", PYPROJECT, re.DOTALL | re.MULTILINE)[1])
    folders = {path.parent.relative_to(ROOT) for path in ROOT.rglob("__init__.py") if ".venv" not in path.parts}
    expected = {".".join(("safelight", *folder.parts)) for folder in folders if not NOT_INSTALLED & set(folder.parts)}
    assert set(listed) == {*expected, DATA_FOLDER}


def test_an_installer_in_a_host_changes_nothing():
    """Installers read one of these two lists; torch in one of them could replace the host's own."""
    assert "\ndependencies = []\n" in PYPROJECT
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_the_changelog_has_an_entry_for_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changelog or re.search(r'^version = "(.+)"', PYPROJECT, re.MULTILINE)[1] in changelog


def test_the_root_imports_nothing_at_import_time():
    """Every host imports the root, so it must not import what only another host needs."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    assert not [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]


def run_python(code):
    """Runs code in a new process and returns what it prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_loads_neither_torch_nor_its_own_rooms():
    modules = run_python("import safelight, sys; dir(safelight); print(*sys.modules)").split()
    assert "safelight" in modules
    assert [name for name in modules if name.split(".")[0] == "torch" or name.startswith("safelight.")] == []


@pytest.mark.parametrize(
    ("name", "module", "original"),
    [
        ("watch", "hosts.diffusers", "watch"),
        ("Previews", "hosts.diffusers", "Previews"),
        ("recording", "hosts.script", "recording"),
        ("SPACES", "decoders.latents.space_table", "SPACES"),
        ("Options", "preview.options", "RunOptions"),
    ],
)
def test_each_public_name_is_loaded_when_it_is_used(name, module, original):
    assert name in dir(safelight)
    code = f"from safelight import {name}; from safelight.{module} import {original} as original"
    assert run_python(f"{code}; print({name} is original)") == "True"


def test_the_test_lists_every_public_name():
    parameters = test_each_public_name_is_loaded_when_it_is_used.pytestmark[0].args[1]
    assert {name for name, *_ in parameters} == set(safelight.PUBLIC_NAMES)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'safelight' has no attribute 'glance'"):
        safelight.glance  # noqa: B018
