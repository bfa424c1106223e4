"""Rules that every test keeps: it asserts something, no other test hides it, and a wrong name does not skip it."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted(TESTS.rglob("test_*.py"))
MODULES = sorted(TESTS.rglob("*.test.mjs"))
CHECKS = {"raises", "warns", "fail"}  # of pytest; functions whose names begin with `assert` check something, too


def functions(tree: ast.AST) -> dict[str, ast.AST]:
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def called(node: ast.AST) -> set[str]:
    """The names of the functions and methods that are called in a node."""
    calls = (inner.func for inner in ast.walk(node) if isinstance(inner, ast.Call))
    return {call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "") for call in calls}


def checks(node: ast.AST, known: dict[str, ast.AST], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a function, or one of the same file that it calls, asserts something."""
    names = called(node)
    if any(isinstance(inner, ast.Assert) for inner in ast.walk(node)):
        return True
    if names & CHECKS or any(name.startswith("assert") for name in names):
        return True
    return any(checks(known[name], known, seen | names) for name in names & known.keys() - seen)


def without_check(source: str) -> list[str]:
    tree = ast.parse(source)
    known = functions(tree)
    tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    return [node.name for node in tests if not checks(node, known, frozenset({node.name}))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_every_test_asserts_something(path):
    assert without_check(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_no_test_has_the_name_of_another_one_in_its_file(path):
    names = Counter(node.name for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_what_a_host_lacks_is_decided_by_its_version(path):
    """`older.expect` skips a test of an older host; of a newer one, the missing name is an error."""
    skips = re.findall(r"skip\(\s*f?\"[^\"]*(?:ComfyUI|InvokeAI|diffusers|host)[^\"]* has no", path.read_text("utf-8"))
    assert skips == []


def test_the_rules_find_a_test_that_breaks_them():
    helpers = "def helper():\n    other()\n\ndef other():\n    helper()\n"
    assert without_check(f"def test_a():\n    run()\n\ndef test_b():\n    helper()\n\n{helpers}") == [
        "test_a",
        "test_b",
    ]
    assert without_check("def test_a():\n    helper()\n\ndef helper():\n    assert 1\n") == []
    assert without_check("def test_a():\n    with pytest.raises(OSError):\n        run()\n") == []


def test_contributing_lists_every_tier_and_every_variable():
    text = (TESTS.parent / "CONTRIBUTING.md").read_text("utf-8")
    tiers = sorted(path.parent.name for path in (TESTS / "tiers").glob("*/conftest.py"))
    assert len(tiers) >= 6
    assert [name for name in tiers if f"`.venv/bin/pytest tests/tiers/{name}" not in text] == []
    sources = [path.read_text("utf-8") for path in TESTS.rglob("*") if path.suffix in (".py", ".mjs")]
    read = r"environ(?:\.get\(|\[)\"(\w+)\"|process\.env\.(\w+)|^HOST = \"(\w+)\"|_variable\(\s*\"(\w+)\""
    names = {name for source in sources for found in re.findall(read, source, re.MULTILINE) for name in found if name}
    assert {"SAFELIGHT_COMFYUI", "SAFELIGHT_FUZZ", "INVOKEAI_PYTHON", "SAFELIGHT_PLAYWRIGHT", "SCENES"} <= names
    of_tests = {name for name in names if name.startswith("SAFELIGHT_")} | {"INVOKEAI_PYTHON", "SCENES"}
    assert [name for name in sorted(of_tests) if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_every_test_of_a_viewer_module_asserts_something(path):
    source = path.read_text("utf-8")
    bodies = re.split(r"^ *test\(", source, flags=re.MULTILINE)[1:]
    assert len(bodies) > 0
    helpers = re.findall(r"^const (\w+) = .*\bassert\.", source, re.MULTILINE)
    check = re.compile("|".join([r"\bassert\b", *(rf"\b{name}\(" for name in helpers)]))
    assert [body.split("\n", 1)[0] for body in bodies if not check.search(body)] == []
