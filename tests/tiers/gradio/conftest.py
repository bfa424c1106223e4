"""The app in a separate process, and a real browser that shows it."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
LIMIT_S = 200


def _hand() -> Any:
    spec = importlib.util.spec_from_file_location("safelight_hand_gradio", HERE.parent / "browser/hand.py")
    hand = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hand)
    return hand


HAND = _hand()


class Served:
    """The app; `go_on` lets the model continue for some steps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = [sys.executable, str(HERE / "served.py"), str(folder)]
        environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder / "cache"), "GRADIO_ANALYTICS_ENABLED": "False"}
        self._log = (folder / "log.txt").open("w")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment
        )
        self.url = next((line.strip() for line in self._process.stdout if line.startswith("http")), None)
        assert self.url, (folder / "log.txt").read_text()

    def go_on(self, steps: int) -> None:
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()

    def fail(self, text: str) -> None:
        """Lets the model's next step raise an error."""
        self._process.stdin.write(f"{json.dumps(text)}\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._log.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("gradio"))
    yield served
    served.close()


@pytest.fixture
def hand(served: Served, tmp_path: Path) -> Iterator[Any]:
    hand = HAND.Hand(tmp_path / "profile")
    hand("open", url=served.url)
    yield hand
    hand.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(LIMIT_S))
