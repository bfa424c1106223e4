"""The program `safelight`, as an installer writes it."""

import importlib
import re
from pathlib import Path

import pytest
import safelight
from safelight.cli import main as command_line

program = importlib.import_module("safelight.__main__")
PYPROJECT = (Path(safelight.__file__).parent / "pyproject.toml").read_text(encoding="utf-8")


def test_the_installed_program_is_this_one():
    assert '\n[project.scripts]\nsafelight = "safelight.__main__:main"\n' in PYPROJECT


def test_the_program_returns_the_exit_code_of_the_command(monkeypatch):
    monkeypatch.setattr(command_line, "main", lambda: 7)
    assert program.main() == 7


@pytest.mark.parametrize("missing", [{"torch"}, {"torch", "PIL"}])
def test_without_what_a_host_brings_the_program_says_what_to_install(monkeypatch, capsys, missing):
    monkeypatch.setattr(program, "find_spec", lambda name: None if name in missing else object())
    assert program.main() == 2
    message = capsys.readouterr().err
    named = ", ".join(name for name in program.NEEDED if name in missing)
    assert message.startswith(f"safelight: {named} must be installed")
    assert 'pip install "safelight[standalone]"' in message


def test_the_extra_for_use_without_a_host_has_all_that_the_program_needs():
    packages = re.findall(r'"([a-z]+)', re.search(r"^standalone = (\[.*\])$", PYPROJECT, re.MULTILINE)[1])
    assert [{"pillow": "PIL"}.get(name, name) for name in packages] == list(program.NEEDED)
