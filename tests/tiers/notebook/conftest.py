"""Notebooks that nbclient runs and nbconvert converts to pages, and JupyterLab in a real browser."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
LIMIT_S = 200


def load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HAND = load("safelight_hand_notebook", HERE.parent / "browser/hand.py")


@pytest.fixture(autouse=True, scope="session")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Uses the kernel of this Python, and writes no file to the home folder."""
    home = tmp_path_factory.mktemp("jupyter")
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        os.environ[name] = str(home / name.lower())
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny pipeline with random weights."""
    folder = tmp_path_factory.mktemp("tiny")
    pipeline = load("safelight_tiny_notebook", HERE.parent / "gradio/tiny.py").pipeline(folder / "tokenizer")
    pipeline.save_pretrained(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture
def hand(tmp_path: Path) -> Iterator[Any]:
    hand = HAND.Hand(tmp_path / "profile")
    yield hand
    hand.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Callable[[Path], str]]:
    """Returns a function that serves a folder with JupyterLab and returns its address."""
    running = []

    def lab(folder: Path) -> str:
        quiet = ["--no-browser", "--allow-root", "--port=0", "--ServerApp.token=", "--ServerApp.password="]
        quiet += [
            "--ServerApp.ip=127.0.0.1",
            "--ServerApp.port_retries=0",
            "--LabApp.news_url=",
            "--ServerApp.open_browser=False",
        ]
        log = (tmp_path / "lab.log").open("w+")
        command = [sys.executable, "-m", "jupyterlab", *quiet]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        running.append((process, log))
        for line in process.stdout:
            log.write(line)
            if found := re.search(r"(http://127\.0\.0\.1:\d+)/lab", line):
                return found[1]
        log.seek(0)
        raise AssertionError(log.read())

    yield lab
    for process, log in running:
        process.terminate()
        process.wait(30)
        process.stdout.close()
        log.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(LIMIT_S))
