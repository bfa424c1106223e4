"""The structure of the package: who imports whom, who constructs a pipeline, and which names are unique."""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# "May import"; a room may also import what follows along further arrows. Weights are data, which nothing imports.
ARROWS = {
    "benchmarks": {"cli"},
    "nodes": {"hosts"},
    "cli": {"hosts"},
    "hosts": {"screens", "fitting"},
    "screens": {"preview"},
    "tools": {"fitting", "preview"},
    "fitting": {"decoders"},
    "preview": {"decoders"},
    "decoders": set(),
    "weights": set(),
}
# The files at the root may import only these rooms. `__init__.py` loads the public names when they are used.
ENTRANCES = {"__init__.py": {"nodes", "hosts", "decoders", "preview"}, "__main__.py": {"cli"}}
FOUNDATIONS = {"errors", "version"}  # at the root too: any file may import them, and they import nothing of ours

HOSTS = {
    *("comfy", "comfy_api", "comfy_api_nodes", "comfy_execution", "comfy_extras", "comfyui_version"),
    *("app", "execution", "folder_paths", "latent_preview", "nodes", "protocol", "server"),
    *("aiohttp", "diffusers", "gradio", "invokeai"),
}
NOTEBOOK = {"IPython", "ipywidgets"}
THREADS = {"_thread", "asyncio", "concurrent", "multiprocessing", "queue", "threading"}
DECODERS_NEED = {"numpy", "safetensors", "torch"}

START = "preview/start.py"
UNTYPED_CALLS = {"isinstance", "getattr"}
NO_UNTYPED_CALLS = {"preview/pipeline.py", START}
MAX_CONSTANT_MODULES = 3
CONSTANT = re.compile(r"[A-Z][A-Z0-9_]*")


class Import(NamedTuple):
    line: int
    module: tuple[str, ...]  # from the root for our modules
    ours: bool
    lazy: bool  # inside a function


class ClimbsOutError(Exception):
    """A relative import leaves the folder of the package."""


def reach(room: str) -> set[str]:
    """Returns all rooms that `room` may import, with itself."""
    found, new = {room}, {room}
    while new:
        new = set().union(*(ARROWS[name] for name in new)) - found
        found |= new
    return found


def resolve(package: tuple[str, ...], level: int, module: str, name: str | None) -> tuple[str, ...]:
    """Returns the parts, from the root, of a relative import in `package`."""
    if level - 1 > len(package):
        raise ClimbsOutError
    base = package[: len(package) - (level - 1)]
    return (*base, *(module.split(".") if module else ()), *([name] if name else ()))


def called_import(call: ast.Call) -> tuple[int, str] | None:
    """Returns level and name of the module that `import_module("name")` or `__import__("name")` imports."""
    function = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)
    if function not in ("import_module", "__import__") or not call.args:
        return None
    first = call.args[0]
    if not isinstance(first, ast.Constant) or not isinstance(first.value, str):
        return None
    name = first.value.lstrip(".")
    return len(first.value) - len(name), name


def imports(package: tuple[str, ...], tree: ast.AST, *, lazy: bool = False) -> Iterator[Import]:
    """Yields every import below `tree`, in all forms."""
    for node in ast.iter_child_nodes(tree):
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        found: list[tuple[int, str, str | None]] = []
        if isinstance(node, ast.Import):
            found = [(0, alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [(node.level, node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and (call := called_import(node)):
            found = [(*call, None)]
        for level, module, name in found:
            parts = resolve(package, level, module, name) if level else tuple(module.split("."))
            yield Import(node.lineno, parts, bool(level), lazy)
        yield from imports(package, node, lazy=inside)


def import_faults(path: str, source: str) -> list[str]:
    """Returns the forbidden imports of the file at `path`, from the root."""
    *package, file = PurePosixPath(path).parts
    room = package[0] if package else file
    allowed = reach(room) if package else ENTRANCES.get(file, set())
    try:
        found = list(imports(tuple(package), ast.parse(source)))
    except ClimbsOutError:
        return [f"{path}: a relative import climbs out of the package"]
    return [
        f"{path}:{imported.line}: {'.'.join(imported.module)} {fault}"
        for imported in found
        for fault in (own_faults(imported, room, allowed) if imported.ours else other_faults(imported.module[0], room))
    ]


def own_faults(imported: Import, room: str, allowed: set[str]) -> Iterator[str]:
    if imported.module[0] not in allowed | FOUNDATIONS or room.removesuffix(".py") in FOUNDATIONS:
        yield f"is against the arrows: allowed are {sorted(allowed)}"
    if room == "__init__.py" and not imported.lazy:
        yield "is imported at import time: all hosts would pay for it"


def other_faults(top: str, room: str) -> Iterator[str]:
    if top == "safelight" or (top in ARROWS and top not in HOSTS):
        yield "is ours by an absolute name: the package's folder can have any name"
    if top in HOSTS and room not in ("hosts", "nodes"):
        yield "is a host's: only hosts/ and nodes/ may import it"
    if top in NOTEBOOK and room != "screens":
        yield "is a notebook's: only screens/ may import it"
    if room == "decoders" and top in THREADS:
        yield "is for threads: decoders use none"
    elif room == "decoders" and top not in sys.stdlib_module_names | DECODERS_NEED | HOSTS | {"safelight", *ARROWS}:
        yield f"is not needed to decode: allowed are {sorted(DECODERS_NEED)}"


def files() -> list[str]:
    """Returns every Python file of the package, from the root."""
    found = [*ROOT.glob("*.py"), *(path for room in ARROWS for path in (ROOT / room).rglob("*.py"))]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def source_of(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def calls(source: str) -> Iterator[tuple[int, str]]:
    """Yields line and name of every call, also of a method."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            function = node.func
            yield node.lineno, function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def call_faults(path: str, source: str) -> list[str]:
    """Returns the forbidden calls of the file at `path`: of `Pipeline` outside of start, and of untyped functions."""
    faults = []
    for line, name in calls(source):
        if name == "Pipeline" and path != START:
            faults.append(f"{path}:{line}: constructs a Pipeline: only {START} may; call start()")
        if name in UNTYPED_CALLS and path in NO_UNTYPED_CALLS:
            faults.append(f"{path}:{line}: calls {name}: sinks say what they need by type")
    return faults


def class_names(source: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef)}


def constant_names(source: str) -> set[str]:
    """Returns the names of all constants that a module defines at its top level."""
    targets: list[ast.expr] = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, ast.AnnAssign):
            targets.append(node.target)
    names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    return {name for name in names if CONSTANT.fullmatch(name)}


def repeated(names: Iterable[tuple[str, Iterable[str]]], most: int) -> Mapping[str, list[str]]:
    """Returns every name that more than `most` files define, with these files."""
    definitions = defaultdict(list)
    for path, defined in names:
        for name in defined:
            definitions[name].append(path)
    return {name: paths for name, paths in definitions.items() if len(paths) > most}


@pytest.mark.parametrize("path", files())
def test_imports_follow_the_arrows(path):
    assert import_faults(path, source_of(path)) == []


@pytest.mark.parametrize("path", files())
def test_only_start_constructs_a_pipeline_and_the_core_asks_for_no_types(path):
    assert call_faults(path, source_of(path)) == []


def test_no_two_classes_share_a_name():
    assert repeated(((path, class_names(source_of(path))) for path in files()), most=1) == {}


def test_no_constant_name_has_many_meanings():
    names = ((path, constant_names(source_of(path))) for path in files())
    assert repeated(names, most=MAX_CONSTANT_MODULES) == {}


def test_every_room_has_an_arrow():
    rooms = {path.parent.name for path in ROOT.glob("[a-z]*/__init__.py")}
    assert rooms == set(ARROWS)


def test_files_are_found():
    assert {"__init__.py", "decoders/decoder.py", "nodes/comfyui/__init__.py"} <= set(files())


# Tests of these tests.


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
        ("__init__.py", "def f():\n    from .fitting import fit", "fitting.fit is against the arrows"),
        ("__init__.py", "from .nodes import comfyui", "is imported at import time"),
        ("__init__.py", "from .hosts import diffusers", "is imported at import time"),
        ("__init__.py", "if True:\n    from .nodes import comfyui", "is imported at import time"),
        ("elsewhere.py", "def f():\n    from .nodes import comfyui", "is against the arrows: allowed are []"),
        # All forms of an import.
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
        # Modules that decoders do not need.
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
    (found,) = import_faults(path, source)
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
        ("__init__.py", "def __getattr__(name):\n    from .hosts import diffusers\n    from .decoders import latents"),
        ("__init__.py", "def f():\n    from .preview.options import RunOptions"),
        ("__main__.py", "from .cli.main import main"),
        ("preview/a.py", 'import_module(name)\nopen("safelight.nodes")'),
    ],
)
def test_an_allowed_import_is_not_reported(path, source):
    assert import_faults(path, source) == []


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("hosts/a.py", "Pipeline(run, decoder, [])", "a.py:1: constructs a Pipeline"),
        ("hosts/a.py", "def f():\n    return pipeline.Pipeline(run)", "a.py:2: constructs a Pipeline"),
        ("preview/a.py", "x = [Pipeline(run) for run in runs]", "constructs a Pipeline"),
        ("preview/pipeline.py", "if isinstance(sink, Page):\n    pass", "pipeline.py:1: calls isinstance"),
        ("preview/pipeline.py", "Pipeline(run)", "constructs a Pipeline"),
        ("preview/start.py", "x = getattr(sink, 'keeps', True)", "start.py:1: calls getattr"),
    ],
)
def test_a_forbidden_call_is_reported_once(path, source, fault):
    (found,) = call_faults(path, source)
    assert fault in found
    assert found.startswith(path)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("preview/start.py", "return Pipeline(run)"),
        ("hosts/a.py", "pipeline: Pipeline = start(run)\nWatchedPipeline(pipe)"),
        ("hosts/a.py", "isinstance(x, Sink)\ngetattr(x, 'y', None)"),
        ("preview/pipeline.py", "class Pipeline:\n    pass"),
    ],
)
def test_an_allowed_call_is_not_reported(path, source):
    assert call_faults(path, source) == []


def test_a_class_name_that_two_files_share_is_reported():
    sources = {"a.py": "class Options:\n    pass", "b.py": "def f():\n    class Options:\n        pass", "c.py": ""}
    assert repeated(((path, class_names(source)) for path, source in sources.items()), most=1) == {
        "Options": ["a.py", "b.py"]
    }


def test_a_constant_name_that_too_many_files_share_is_reported():
    sources = ["MAX_BYTES = 1", "MAX_BYTES: int = 2", "MAX_BYTES, MIN_BYTES = 3, 4", "MAX_BYTES = OTHER = 5"]
    names = [(str(at), constant_names(source)) for at, source in enumerate(sources)]
    assert repeated(names, most=3) == {"MAX_BYTES": ["0", "1", "2", "3"]}
    assert repeated(names[1:], most=3) == {}


def test_only_constants_of_the_module_are_counted():
    assert constant_names("X = 1\nx = 2\nclass C:\n    Y = 3\ndef f():\n    Z = 4") == {"X"}
