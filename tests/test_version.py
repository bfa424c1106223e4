"""The version of the package, wherever it is installed."""

import importlib.metadata
import re
from pathlib import Path

import pytest
import safelight
from safelight.cli.main import main
from safelight.version import safelight_version

ROOT = Path(safelight.__file__).parent


@pytest.fixture
def installed(monkeypatch):
    """Says which version the metadata of installed packages have; None: Safelight is not installed."""

    def install(version):
        def find(name):
            assert name == "safelight"
            if version is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return version

        monkeypatch.setattr(importlib.metadata, "version", find)

    return install


def test_a_clone_has_the_version_of_its_project_file_whatever_is_installed_beside_it(tmp_path, installed):
    installed("9.9.9")
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\nname = "safelight"\nversion = "0.2.0" # here only\n', encoding="utf-8")
    assert safelight_version(project) == "0.2.0"


def test_an_installed_copy_has_the_version_of_its_metadata(tmp_path, installed):
    installed("0.3.1")
    assert safelight_version(tmp_path / "pyproject.toml") == "0.3.1"


def test_an_incomplete_installation_has_an_unknown_version(tmp_path, installed):
    installed(None)
    assert safelight_version(tmp_path / "pyproject.toml") == "unknown"
    (tmp_path / "pyproject.toml").write_text("[project]\n", encoding="utf-8")
    assert safelight_version(tmp_path / "pyproject.toml") == "unknown"


def test_the_command_line_prints_the_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)[1]
    assert capsys.readouterr().out == f"safelight {stated}\n"


def test_no_other_file_states_the_version():
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)[1]
    rooms = ("cli", "decoders", "fitting", "hosts", "nodes", "preview", "screens", "web", "locales")
    sources = [path for room in rooms for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".mjs", ".json")]
    named = re.compile(rf"""(safelight|version)\W{{1,5}}{re.escape(stated)}\b""", re.IGNORECASE)
    assert [path for path in sources if named.search(path.read_text("utf-8"))] == []
