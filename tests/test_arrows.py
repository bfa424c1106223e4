"""Reads every import of the package, so that rooms depend on each other only along the arrows of the house."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# "May import"; what an arrow leads to may be followed further. Weights are data: nobody imports them.
ARROWS = {
    "benchmarks": {"cli"},
    "nodes": {"hosts"},
    "cli": {"hosts"},
    "hosts": {"screens", "fitting"},
    "screens": {"preview"},
    "tools": {"fitting"},
    "fitting": {"decoders"},
    "preview": {"decoders"},
    "decoders": set(),
    "weights": set(),
}
# The files at the root take one step, no further.
ENTRANCES = {"__init__.py": {"nodes"}, "__main__.py": {"cli"}, "errors.py": set()}

HOSTS = {
    *("comfy", "comfy_api", "comfy_api_nodes", "comfy_execution", "comfy_extras", "comfyui_version"),
    *("app", "execution", "folder_paths", "latent_preview", "nodes", "protocol", "server"),
    *("aiohttp", "diffusers", "gradio", "invokeai"),
}
NOTEBOOK = {"IPython", "ipywidgets"}
THREADS = {"_thread", "asyncio", "concurrent", "multiprocessing", "queue", "threading"}
DECODERS_NEED = {"numpy", "safetensors", "torch"}


class Import(NamedTuple):
    line: int
    module: tuple[str, ...]  # of ours: from the root; of others: from the top
    ours: bool
    lazy: bool  # inside a function


class ClimbsOutError(Exception):
    """A relative import leaves the package's folder."""


def reach(room: str) -> set[str]:
    """Every room that `room` may import, itself first."""
    found, new = {room}, {room}
    while new:
        new = set().union(*(ARROWS[name] for name in new)) - found
        found |= new
    return found


def resolve(package: tuple[str, ...], level: int, module: str, name: str | None) -> tuple[str, ...]:
    """The parts, from the root, of a relative import that stands in `package`."""
    if level - 1 > len(package):
        raise ClimbsOutError
    base = package[: len(package) - (level - 1)]
    return (*base, *(module.split(".") if module else ()), *([name] if name else ()))


def named(call: ast.Call) -> tuple[int, str] | None:
    """Level and name of what `import_module("name")` or `__import__("name")` imports."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)
    if function not in ("import_module", "__import__") or not call.args:
        return None
    first = call.args[0]
    if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return None
    name = first.value.lstrip(".")
    return len(first.value) - len(name), name


def imports(package: tuple[str, ...], tree: ast.AST, *, lazy: bool = False) -> Iterator[Import]:
    """Every import below `tree`, in whatever form it is written."""
    for node in ast.iter_child_nodes(tree):
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        found: list[tuple[int, str, str | None]] = []
        if isinstance(node, ast.Import):
            found = [(0, alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [(node.level, node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and (call := named(node)):
            found = [(*call, None)]
        for level, module, name in found:
            parts = resolve(package, level, module, name) if level else tuple(module.split("."))
            yield Import(node.lineno, parts, bool(level), lazy)
        yield from imports(package, node, lazy=inside)


def faults(path: str, source: str) -> list[str]:
    """What the file at `path`, from the root, imports and may not."""
    *package, file = PurePosixPath(path).parts
    room = package[0] if package else file
    allowed = reach(room) if package else ENTRANCES.get(file, set())
    try:
        found = list(imports(tuple(package), ast.parse(source)))
    except ClimbsOutError:
        return [f"{path}: a relative import climbs out of the package"]
    return [
        f"{path}:{one.line}: {'.'.join(one.module)} {fault}"
        for one in found
        for fault in (own_faults(one, room, allowed) if one.ours else other_faults(one.module[0], room))
    ]


def own_faults(one: Import, room: str, allowed: set[str]) -> Iterator[str]:
    if one.module[0] not in allowed and one.module[0] != "errors":
        yield f"is against the arrows: from here only {sorted(allowed)}"
    if room == "__init__.py" and not one.lazy:
        yield "is imported at import time: a host that needs none of it pays for it"


def other_faults(top: str, room: str) -> Iterator[str]:
    if top == "safelight" or (top in ARROWS and top not in HOSTS):
        yield "is ours by an absolute name: the package's folder has any name"
    if top in HOSTS and room not in ("hosts", "nodes"):
        yield "is a host's: only hosts/ and nodes/ may know it"
    if top in NOTEBOOK and room != "screens":
        yield "is a notebook's: only screens/ may know it"
    if room == "decoders" and top in THREADS:
        yield "is for threads: decoders know none"
    elif room == "decoders" and top not in sys.stdlib_module_names | DECODERS_NEED | HOSTS | {"safelight", *ARROWS}:
        yield f"is not needed to decode: only {sorted(DECODERS_NEED)}"


def files() -> list[str]:
    """Every Python file of the package, from the root."""
    found = [*ROOT.glob("*.py"), *(path for room in ARROWS for path in (ROOT / room).rglob("*.py"))]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@pytest.mark.parametrize("path", files())
def test_imports_follow_the_arrows(path):
    assert faults(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_every_room_is_in_the_drawing():
    rooms = {path.parent.name for path in ROOT.glob("[a-z]*/__init__.py")}
    assert rooms == set(ARROWS)


def test_there_is_something_to_read():
    assert {"__init__.py", "decoders/decoder.py", "nodes/comfyui/__init__.py"} <= set(files())


# The test of that test.


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("decoders/a.py", "from ..preview.step import Step", "preview.step.Step is against the arrows"),
        ("decoders/a.py", "from .. import hosts", "hosts is against the arrows"),
        ("decoders/a.py", "from ..weights import table", "weights.table is against the arrows"),
        ("preview/a.py", "from ..fitting import fit", "fitting.fit is against the arrows"),
        ("preview/a.py", "from ..hosts.comfyui import watch", "hosts.comfyui.watch is against the arrows"),
        ("fitting/a.py", "from ..preview.step import Step", "preview.step.Step is against the arrows"),
        ("fitting/deep/a.py", "from ...hosts import cli", "hosts.cli is against the arrows"),
        ("hosts/a.py", "from ..nodes import comfyui", "nodes.comfyui is against the arrows"),
        ("hosts/comfyui/a.py", "from ...nodes.comfyui import X", "nodes.comfyui.X is against the arrows"),
        ("nodes/a.py", "from .. import WEB_DIRECTORY", "WEB_DIRECTORY is against the arrows"),
        ("__init__.py", "def f():\n    from .decoders import kinds", "decoders.kinds is against the arrows"),
        ("__init__.py", "from .nodes import comfyui", "is imported at import time"),
        ("__init__.py", "if True:\n    from .nodes import comfyui", "is imported at import time"),
        ("elsewhere.py", "def f():\n    from .nodes import comfyui", "is against the arrows: from here only []"),
        # However it is written.
        ("decoders/a.py", "def f():\n    from ..preview import step", "preview.step is against the arrows"),
        ("decoders/a.py", "async def f():\n    from ..preview import step", "a.py:2: preview.step is against"),
        ("decoders/a.py", "class A:\n    def f(self):\n        from ..nodes import x", "a.py:3: nodes.x is against"),
        ("decoders/a.py", "if TYPE_CHECKING:\n    from ..preview import step", "preview.step is against the arrows"),
        ("decoders/a.py", "try:\n    import comfy\nexcept ImportError:\n    pass", "comfy is a host's"),
        ("decoders/a.py", "from . import kinds, files\nfrom ..hosts import *", "a.py:2: hosts.* is against the arrows"),
        ("preview/a.py", "import os, safelight.nodes", "safelight.nodes is ours by an absolute name"),
        ("preview/a.py", "from safelight.decoders import kinds", "safelight.decoders is ours by an absolute name"),
        ("preview/a.py", "import decoders.kinds as k", "decoders.kinds is ours by an absolute name"),
        ("preview/a.py", 'importlib.import_module("safelight.hosts")', "safelight.hosts is ours by an absolute name"),
        ("preview/a.py", 'import_module("..hosts.cli", __package__)', "hosts.cli is against the arrows"),
        ("preview/a.py", 'x = lambda: __import__("comfy.utils")', "comfy.utils is a host's"),
        # Hosts.
        *(("preview/a.py", f"import {name}", f"{name} is a host's") for name in sorted(HOSTS)),
        *(("hosts/a.py", f"import {name}", f"{name} is a notebook's") for name in sorted(NOTEBOOK)),
        ("fitting/a.py", "from diffusers import AutoencoderKL", "diffusers is a host's"),
        ("__init__.py", "def f():\n    import comfy.utils", "comfy.utils is a host's"),
        ("decoders/a.py", "from nodes import NODE_CLASS_MAPPINGS", "nodes is a host's"),
        # What decoders do without.
        *(("decoders/a.py", f"import {name}", f"{name} is for threads") for name in sorted(THREADS)),
        ("decoders/a.py", "from concurrent.futures import Executor", "concurrent.futures is for threads"),
        ("decoders/a.py", "import PIL.Image", "PIL.Image is not needed to decode"),
        # Out of the package.
        ("decoders/a.py", "from ...other import x", "climbs out"),
        ("__init__.py", "from .. import x", "climbs out"),
        ("hosts/comfyui/a.py", "from ....other import x", "climbs out"),
        ("preview/a.py", 'import_module("...other", __package__)', "climbs out"),
    ],
)
def test_a_forbidden_import_is_reported_once(path, source, fault):
    (found,) = faults(path, source)
    assert fault in found
    assert found.startswith(path)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("decoders/a.py", "from .kinds import KINDS\nfrom . import files\nimport torch, json, numpy as np"),
        ("decoders/__init__.py", "from .kinds import KINDS"),
        ("preview/a.py", "from ..decoders.decoder import to_bytes\nimport threading, PIL"),
        ("fitting/deep/a.py", "from ...decoders import polynomial\nfrom ..scenes import light"),
        ("hosts/comfyui/a.py", "from ...preview import step\nfrom ...decoders import kinds\nimport comfy, nodes"),
        ("hosts/script.py", "from ..fitting import fit\nimport diffusers"),
        ("nodes/a.py", "from ..hosts.comfyui import watch\nfrom ..decoders import kinds\nimport server"),
        ("__init__.py", "async def f():\n    from .nodes.comfyui import Extension"),
        ("__main__.py", "from .cli.main import main"),
        ("preview/a.py", 'import_module(name)\nopen("safelight.nodes")'),
    ],
)
def test_an_allowed_import_is_not_reported(path, source):
    assert faults(path, source) == []
