"""Each stub in `typings` is of a module of a host that Safelight imports."""

import ast
from pathlib import Path

from .test_arrows import HOSTS, imports
from .typed_names import stub_modules

ROOT = Path(__file__).resolve().parent.parent


def imported_modules():
    """The host's modules that our files name in imports, and the packages around them."""
    found = set()
    for room in ("hosts", "nodes"):
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            names = [
                ".".join(each.module) for each in imports(path.relative_to(ROOT).parts[:-1], tree) if not each.ours
            ]
            names += [
                f"{node.module}.{alias.name}"
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.level == 0
                for alias in node.names
            ]
            found.update(name for name in names if name.split(".")[0] in HOSTS)
    return found


def test_no_stub_is_unused():
    imported = imported_modules()
    assert "comfy_api.latest" in imported
    assert [name for name in stub_modules() if name not in imported] == []


def test_stubs_are_only_of_hosts():
    assert {name.split(".")[0] for name in stub_modules()} <= HOSTS
