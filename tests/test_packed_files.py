"""What users download, as a pack of ComfyUI or as a wheel, is all that runs and nothing else."""

import ast
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

from .test_arrows import imports

ROOT = Path(__file__).resolve().parent.parent
IGNORED = (ROOT / ".comfyignore").read_text("utf-8")
PYPROJECT = (ROOT / "pyproject.toml").read_text("utf-8")

ENTRY_MODULES = ("__init__.py", "__main__.py")
DOCUMENTED_MODULE = re.compile(r"\bsafelight((?:\.\w+)+)")
BUNDLED = re.compile(r'\bbundle\("([\w-]+)"\)')
MODULE_LIST = re.compile(r"^const \w*MODULES = \[$(.*?)^\];$", re.MULTILINE | re.DOTALL)  # of comfy.js
JS_IMPORT = re.compile(r'\bfrom "\./([\w.-]+)";|@typedef \{import\("\./([\w.-]+)"\)')
PICTURE_LINK = re.compile(r"!\[[^\]]*\]\(([\w.-]+)\)")
ABOUT_THE_PACK = {"LICENSE", "README.md", "pyproject.toml", "requirements.txt"}
LEFT_BEHIND = ("__pycache__", ".egg-info", "node_modules")
PACK_LIMIT_BYTES = 15_000_000


def text_of(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def all_files() -> Iterator[str]:
    """The files of the repository, from its root, without what tools leave behind."""
    for folder, inner, names in os.walk(ROOT):  # a folder that another test removes meanwhile is no error
        inner[:] = [name for name in inner if not name.startswith(".") and not name.endswith(LEFT_BEHIND)]
        yield from (Path(folder, name).relative_to(ROOT).as_posix() for name in names)


def is_packed(path: str, ignored: str = IGNORED) -> bool:
    """Whether `comfy node pack` takes a file. Of the rules of a .gitignore, only the simplest are allowed here."""
    packed = True
    for line in ignored.splitlines():
        if not line or line.startswith("#"):
            continue
        keeps, name = line.startswith("!"), line.removeprefix("!").removeprefix("/")
        if not re.fullmatch(r"!?/([\w.-]+(/[\w.-]+)*|\*)", line):
            raise ValueError(f"expected /*, !/name or /folder/name in .comfyignore, found {line!r}")
        if name == "*" or path == name or path.startswith(f"{name}/"):
            packed = keeps
    return packed


def files_of(module: tuple[str, ...]) -> Iterator[str]:
    """The files that run when a module is imported: its own, and that of each package around it.

    The last part may be a name in the module.
    """
    for count in range(1, len(module) + 1):
        path = "/".join(module[:count])
        yield from (name for name in (f"{path}.py", f"{path}/__init__.py") if (ROOT / name).is_file())


@cache
def running_modules() -> frozenset[str]:
    """The Python files that hosts, the command line and documented imports reach."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "example_scripts").iterdir()]
    named = {found for page in pages for found in DOCUMENTED_MODULE.findall(page.read_text("utf-8"))}
    queue = [*ENTRY_MODULES, *(file for name in named for file in files_of(tuple(name[1:].split("."))))]
    found: set[str] = set()
    while queue:
        path = queue.pop()
        if path in found or path.split("/")[0] in ("tools", "benchmarks", "tests"):
            continue
        found.add(path)
        package = tuple(path.split("/")[:-1])
        for imported in imports(package, ast.parse(text_of(path))):
            queue += files_of(imported.module) if imported.ours else ()
    return frozenset(found)


def running_scripts(entries: Iterable[str]) -> set[str]:
    """The modules in `web` that the browser loads from these ones."""
    found, queue = set(), list(entries)
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            source = text_of(f"web/{name}")
            queue += [first or second for first, second in JS_IMPORT.findall(source)]
            listed = "".join(MODULE_LIST.findall(source))  # imported by address, with a number against old copies
            queue += [f"{module}.mjs" for module in re.findall(r'"([\w-]+)"', listed)]
    return {f"web/{name}" for name in found}


def pages_of_the_viewer(modules: Iterable[str]) -> set[str]:
    """The scripts that Python puts into pages."""
    return {f"{name}.mjs" for path in modules for name in BUNDLED.findall(text_of(path))}


def weights() -> set[str]:
    """The decoders that the manifest lists, and the files about them."""
    names = {line.split()[1] for line in text_of("weights/MANIFEST.sha256").splitlines()}
    return {f"weights/{name}" for name in (*names, "MANIFEST.sha256", "README.md", "__init__.py", "defaults.json")}


def help_pages() -> set[str]:
    """ComfyUI's help pages with their pictures: the pages of each node, in any language."""
    pages = [path.relative_to(ROOT).as_posix() for path in (ROOT / "web/docs").rglob("*.md")]
    pictures = {f"web/docs/{name}" for page in pages for name in PICTURE_LINK.findall(text_of(page))}
    return {*pages, *pictures}


def example_workflows() -> set[str]:
    """ComfyUI's templates, with their pictures."""
    names = [path.relative_to(ROOT).as_posix() for path in (ROOT / "example_workflows").glob("*.json")]
    return {*names, *(str(name).replace(".json", ".jpg") for name in names)}


def translations() -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / "locales").glob("*/*.json")}


def differences(packed: Iterable[str], running: Iterable[str]) -> dict[str, list[str]]:
    """Files that are packed and never run, such as a tool in a room; and files that run and are missing."""
    found = {"packed in vain": set(packed) - set(running), "missing": set(running) - set(packed)}
    return {what: sorted(paths) for what, paths in found.items() if paths}


def test_the_pack_of_comfyui_is_what_runs_and_nothing_else():
    modules = running_modules()
    scripts = running_scripts({"comfy.js", *pages_of_the_viewer(modules)})
    data = weights() | help_pages() | example_workflows() | translations()
    packed = {path for path in all_files() if is_packed(path)}
    assert differences(packed, modules | scripts | data | ABOUT_THE_PACK) == {}


def test_the_pack_is_small():
    assert sum((ROOT / path).stat().st_size for path in all_files() if is_packed(path)) < PACK_LIMIT_BYTES


def test_no_file_of_the_pack_belongs_to_the_development():
    packed = [path for path in all_files() if is_packed(path)]
    assert [
        path for path in packed if path.startswith(("tests/", "tools/", "benchmarks/", "docs/", ".", "dist/"))
    ] == []


def test_the_wheel_is_what_runs_without_comfyui_and_nothing_else():
    packages = ast.literal_eval(re.search(r"^packages = (\[.*?\])$", PYPROJECT, re.DOTALL | re.MULTILINE)[1])
    folders = {name.removeprefix("safelight").replace(".", "/").lstrip("/") for name in packages}
    data = re.search(r"^\[tool.setuptools.package-data\]\n(.*?)\n\n", PYPROJECT, re.DOTALL | re.MULTILINE)[1]
    patterns = {
        f"{name.removeprefix('safelight').lstrip('.')}/{pattern}".lstrip("/")
        for name, listed in re.findall(r'^"([\w.]+)" = (\[[^\]]*\])', data, re.MULTILINE)
        for pattern in ast.literal_eval(listed)
    }
    wheel = {
        path
        for path in all_files()
        if (path.endswith(".py") and path.rpartition("/")[0] in folders)
        or any(fnmatchcase(path, pattern) and path.count("/") == pattern.count("/") for pattern in patterns)
    }
    modules = running_modules()
    scripts = running_scripts({"comfy.js", *pages_of_the_viewer(modules)})
    texts = {path for path in translations() if path.endswith(("/viewer.json", "/notes.json"))}
    assert differences(wheel, modules | scripts | weights() | texts) == {}


# Tests of these tests.


@pytest.mark.parametrize(
    ("path", "expected"),
    [("cli/main.py", True), ("cli", True), ("client/main.py", False), ("cli/old/main.py", False), ("setup.py", False)],
)
def test_the_last_rule_that_matches_a_path_counts(path, expected):
    assert is_packed(path, "# what runs\n/*\n!/cli\n/cli/old\n") == expected


@pytest.mark.parametrize("rule", ["*.py", "cli", "!/cli/", "/a b", "/cli/*"])
def test_other_rules_are_refused(rule):
    with pytest.raises(ValueError, match=re.escape(f"found {rule!r}")):
        is_packed("cli/main.py", f"/*\n{rule}\n")


def test_modules_are_found_over_every_kind_of_import():
    modules = running_modules()
    assert {"errors.py", "cli/main.py", "decoders/nets/registry.py", "hosts/comfyui/routes.py"} <= modules
    assert {"hosts/trainer.py", "hosts/__init__.py", "nodes/invokeai/denoise.py"} <= modules
