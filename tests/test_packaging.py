"""What is installed is what is here."""

import ast
import re
from pathlib import Path

import safelight

ROOT = Path(safelight.__file__).parent
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
NOT_INSTALLED = {"tests", "benchmarks", "tools"}


def test_every_package_is_installed():
    """`pip install .` takes the packages by name: one that is forgotten is missing only for those who do not clone."""
    listed = ast.literal_eval(re.search(r"^packages = (\[.*?\])$", PYPROJECT, re.DOTALL | re.MULTILINE)[1])
    folders = {path.parent.relative_to(ROOT) for path in ROOT.rglob("__init__.py") if ".venv" not in path.parts}
    there = {".".join(("safelight", *folder.parts)) for folder in folders if not NOT_INSTALLED & set(folder.parts)}
    assert set(listed) == there


def test_the_version_has_a_place_in_the_changelog():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changelog or re.search(r'^version = "(.+)"', PYPROJECT, re.MULTILINE)[1] in changelog


def test_importing_the_package_imports_nothing_of_ours():
    """A host imports the root to ask for what it knows by name, before it is known which host it is."""
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    assert not [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
