"""The documentation: its links, commands, options and paths exist."""

import importlib
import re
from functools import cache
from pathlib import Path

import pytest
import safelight
from safelight.benchmarks.__main__ import main as benchmarks
from safelight.benchmarks.gpu.__main__ import main as benchmarks_of_gpu
from safelight.benchmarks.growth.__main__ import main as benchmarks_of_growth
from safelight.cli.main import main

ROOT = Path(safelight.__file__).parent
FOLDERS = (".", "docs", "web/docs", "weights")
PAGES = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))
MAX_README_LINES = 140

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s]+)\)")
COMMAND = re.compile(r"(?:^|(?<!from)[\s/])safelight ([a-z]+)\b([^\n]*)", re.MULTILINE)
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
TEST_PATH = re.compile(r"tests/[\w./-]*\w")
SOURCE_PATH = re.compile(r"(?:[\w.]+/)+[\w.]+\.(?:py|mjs|js|md)")
VARIABLE = re.compile(r"\b(?:SAFELIGHT|INVOKEAI)_[A-Z_]+\b")
IMPORT = re.compile(r"^from (safelight[\w.]*) import (.+)$", re.MULTILINE)
# Options of other programs that the pages mention.
BENCHMARKS = {"benchmarks": benchmarks, "benchmarks.gpu": benchmarks_of_gpu, "benchmarks.growth": benchmarks_of_growth}
FOREIGN = {
    *("--cpu", "--cpu-vae", "--multi-user", "--disable-metadata"),  # ComfyUI
    *("--ignore", "--check", "--test", "--help"),  # pytest, ruff, node, any
}


VARIABLE_NAMES = {
    name
    for folder in ("cli", "decoders", "hosts", "nodes", "screens", "tests", "benchmarks")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".mjs")
    for name in VARIABLE.findall(path.read_text(encoding="utf-8"))
}


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def spans(page: Path) -> list[str]:
    return SPAN.findall(FENCE.sub("", text_of(page)))


def shell_code(page: Path) -> str:
    """All commands on a page, one per line."""
    blocks = [code for language, code in FENCE.findall(text_of(page)) if language in ("sh", "text")]
    return "\n".join([*blocks, *spans(page)])


def slugs(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def each_page(test):
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())(test)


@pytest.fixture
def options_of(capsys):
    """Returns the options that `--help` of a command lists; those in `BENCHMARKS` measure."""

    @cache
    def options(command: str) -> set[str]:
        with pytest.raises(SystemExit, match="0"):
            BENCHMARKS[command](["--help"]) if command in BENCHMARKS else main([command, "--help"])
        return set(OPTION.findall(capsys.readouterr().out))

    return options


def test_the_readme_fits_on_two_screens():
    assert len(text_of(ROOT / "README.md").splitlines()) <= MAX_README_LINES


@each_page
def test_each_relative_link_leads_to_a_file_and_its_heading(page):
    broken = []
    for link in LINK.findall(FENCE.sub("", text_of(page))):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in slugs(target)):
            broken.append(link)
    assert broken == []


@each_page
def test_each_command_and_option_exists(page, options_of):
    for command, rest in COMMAND.findall(shell_code(page)):
        known = options_of(command)
        assert [option for option in OPTION.findall(rest) if option not in known] == [], f"safelight {command}"
    for line in shell_code(page).splitlines():
        if found := re.search(r"safelight\.(benchmarks[.\w]*)", line):
            assert [option for option in OPTION.findall(line) if option not in options_of(found[1])] == []


@each_page
def test_each_option_that_stands_alone_exists(page, options_of, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    commands = re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)
    known = FOREIGN.union(*map(options_of, [*commands, *BENCHMARKS]))
    alone = [option for span in spans(page) if span.startswith("--") for option in OPTION.findall(span)]
    assert [option for option in alone if option not in known] == []


@each_page
def test_each_path_of_a_test_or_a_module_exists(page):
    text = text_of(page)
    paths = [*TEST_PATH.findall(text), *(span for span in spans(page) if SOURCE_PATH.fullmatch(span))]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@each_page
def test_each_variable_is_read_by_the_code(page):
    assert VARIABLE_NAMES.issuperset(VARIABLE.findall(text_of(page)))


@each_page
def test_python_examples_compile_and_import_existing_names(page):
    for language, code in FENCE.findall(text_of(page)):
        if language != "python":
            continue
        compile(code, str(page), "exec")
        for module, names in IMPORT.findall(code):
            found = importlib.import_module(module)
            assert [name for name in names.split(", ") if not hasattr(found, name)] == [], module
