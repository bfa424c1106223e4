"""Decides which tests run: the core by default, a tier of `tests/tiers` if its path is on the command line."""

import importlib.util
import os
import shutil
import signal
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import fsspec
import pytest

TIERS = Path(__file__).parent / "tiers"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Need(NamedTuple):
    """One thing that tests need: its description, and a function that returns whether it is there.

    `variable` is the environment variable that names it, if there is one.
    """

    description: str
    is_there: Callable[[], bool]
    variable: str | None = None


def _path_in(variable: str, inside: str = "") -> Callable[[], bool]:
    """Returns whether the path that a variable names contains `inside`."""
    return lambda: bool(os.environ.get(variable)) and (Path(os.environ[variable]) / inside).exists()


def _variable(name: str, meaning: str, inside: str = "") -> Need:
    return Need(f"{name} ({meaning})", _path_in(name, inside), name)


def _package(name: str) -> Need:
    return Need(name, lambda: importlib.util.find_spec(name) is not None)


def _has_browser() -> bool:
    return bool(os.environ.get("SAFELIGHT_CHROMIUM") or any(map(shutil.which, BROWSERS)))


COMFYUI = (
    _variable("SAFELIGHT_COMFYUI", "folder of a ComfyUI checkout", "main.py"),
    _variable("SAFELIGHT_COMFYUI_PYTHON", "the Python that has ComfyUI's requirements"),
)
INVOKEAI = (_variable("INVOKEAI_PYTHON", "the Python of a virtual environment with InvokeAI"),)
BROWSER = (
    _variable("SAFELIGHT_PLAYWRIGHT", "folder with node_modules/playwright-core", "node_modules/playwright-core"),
    Need("a Chromium (SAFELIGHT_CHROMIUM)", _has_browser),
    Need("Node", lambda: shutil.which("node") is not None),
)
DIFFUSERS = tuple(map(_package, ("diffusers", "transformers", "accelerate")))
NOTEBOOK = tuple(
    map(_package, ("ipywidgets", "ipykernel", "nbclient", "nbconvert", "jupyterlab", "diffusers", "transformers"))
)
GRADIO = tuple(map(_package, ("gradio", "diffusers", "transformers")))
REMOTE = tuple(map(_package, ("s3fs", "moto", "flask", "flask_cors", "diffusers")))
# Tier, fixture and what the tests that use the fixture need; without a fixture: all tests of the tier.
NEEDS = (
    ("comfyui", None, COMFYUI),
    ("browser", "browsed_server", COMFYUI),
    ("browser", None, BROWSER),
    ("invokeai", "lab", INVOKEAI),
    ("diffusers", None, DIFFUSERS),
    ("notebook", None, NOTEBOOK),
    ("notebook", None, BROWSER),
    ("gradio", None, GRADIO),
    ("release", "wheel", (_package("build"),)),
    ("release", "comfy", (_variable("SAFELIGHT_COMFY_CLI", "path of the program `comfy` of comfy-cli"),)),
    ("release", "pack_server", COMFYUI),
    ("gradio", None, BROWSER),
    ("remote", None, REMOTE),
)


def pytest_configure(config: pytest.Config) -> None:
    """Restores Ctrl+C, and gives the tests and all processes that they start a temporary folder of their own."""
    config.addinivalue_line("markers", "gpu: needs a CUDA or ROCm device; `python -m safelight.benchmarks.gpu` runs it")
    # A shell that starts tests in the background ignores SIGINT, and child processes inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    own = Path(tempfile.mkdtemp(prefix="safelight-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(own, ignore_errors=True))
    if "PYTEST_XDIST_WORKER" in os.environ:  # each process has a core: more threads would wait for each other
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Of failed tests pytest keeps its folders, so these stay where it puts them.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.environ.update(dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(own)))
    tempfile.tempdir = None
    if any(Path(arg.partition("::")[0]).resolve().is_relative_to(TIERS) for arg in config.args):
        _use_home(own / "home")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests of a GPU where there is none."""
    if item.get_closest_marker("gpu") is not None and not importlib.import_module("torch").cuda.is_available():
        pytest.skip("needs a CUDA device")


def _use_home(home: Path) -> None:
    """Gives hosts and browsers a home folder that is removed at the end. Git keeps its settings."""
    settings = Path.home() / ".gitconfig"
    if settings.is_file():
        os.environ.setdefault("GIT_CONFIG_GLOBAL", str(settings))
    home.mkdir()
    os.environ["HOME"] = str(home)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips tests whose host is missing, with one line for all tests of a tier that miss the same.

    Raises:
        pytest.UsageError: a host is there in part: a variable is set, but another one or a program is missing.
    """
    affected = defaultdict(list)
    for item in items:
        tier = tier_of(item.path)
        groups = [needs for name, fixture, needs in NEEDS if name == tier and fixture in (None, *item.fixturenames)]
        for needs in groups:
            _expect_all_or_none(needs)
        if missing := tuple(need.description for needs in groups for need in needs if not need.is_there()):
            affected[tier, missing].append(item)
    deselected = set()
    for (tier, missing), tests in affected.items():
        reason = f"{len(tests)} tests of tier {tier} did not run: they need {', '.join(missing)}"
        tests[0].add_marker(pytest.mark.skip(reason=reason))
        deselected.update(tests[1:])
    if deselected:
        config.hook.pytest_deselected(items=list(deselected))
        items[:] = [item for item in items if item not in deselected]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """After a run of the whole core, names the tiers that did not run."""
    if {Path(arg).resolve() for arg in config.args} <= {TIERS.parent, TIERS.parent.parent}:
        tiers = ", ".join(sorted(path.parent.name for path in TIERS.glob("*/conftest.py")))
        terminalreporter.write_line(
            f"This was the core. The tiers {tiers} run with: pytest tests/tiers/NAME (see CONTRIBUTING.md)."
        )


def tier_of(path: Path) -> str | None:
    """The name of the tier that a test file belongs to; None for the core."""
    return path.relative_to(TIERS).parts[0] if path.is_relative_to(TIERS) else None


def _expect_all_or_none(needs: tuple[Need, ...]) -> None:
    if not any(need.variable and os.environ.get(need.variable) for need in needs):
        return
    if missing := [need.description for need in needs if not need.is_there()]:
        names = ", ".join(need.variable for need in needs if need.variable)
        raise pytest.UsageError(f"missing or wrong: {', '.join(missing)}; to skip these tests, unset {names}")


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    """The memory of fsspec, which all of this process share, empty."""
    files = fsspec.filesystem("memory")

    def clear() -> None:
        files.store.clear()
        files.pseudo_dirs[:] = [""]

    clear()
    yield files
    clear()
