"""Drives a real browser on the viewer alone, on its pages, and on a real ComfyUI."""

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[2] / "example_workflows/01 See every step.json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LIMIT_S = 1800  # all scenes of one renderer take 10 minutes on a quiet machine


def _rig() -> Any:
    spec = importlib.util.spec_from_file_location("safelight_comfyui_rig", HERE.parent / "comfyui/conftest.py")
    rig = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rig)
    return rig


def _chromium() -> str | None:
    return os.environ.get("SAFELIGHT_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


def _drive(script: str, **options: Any) -> Any:
    """The results of a driver."""
    command = ["node", str(HERE / script)]
    options = json.dumps({"chromium": _chromium(), **options})
    ran = subprocess.run(command, check=False, input=options, capture_output=True, text=True, timeout=LIMIT_S)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.fixture(scope="session")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the viewer shows of generated runs on an empty page, by scene."""
    folder = tmp_path_factory.mktemp("made_up")
    shades = [Image.new("RGB", (96, 64), (20 * i, 0, 90)) for i in range(12)]
    shades[0].save(folder / "animation.webp", save_all=True, append_images=shades[1:], duration=50, lossless=True)
    return _drive(
        "made_up.mjs",
        animation=str(folder / "animation.webp"),
        profile=str(folder / "profile"),
        shots=str(folder),
        web=str(HERE.parents[2] / "web"),
    )


@pytest.fixture(scope="session")
def browsed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    rig = _rig()
    with rig.serving(tmp_path_factory.mktemp("browser"), rig.FOLDER) as server:
        yield server


class Browser:
    """A tab of a browser that runs commands, see `tab.mjs`."""

    def __init__(self, profile: Path) -> None:
        command = ["node", str(HERE / "tab.mjs"), _chromium() or "", str(profile)]
        self._driver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, **command: Any) -> Any:
        self._driver.stdin.write(json.dumps(command) + "\n")
        self._driver.stdin.flush()
        answer = json.loads(self._driver.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def close(self) -> None:
        self._driver.stdin.close()
        self._driver.wait(30)
        self._driver.stdout.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="session", params=["litegraph", "vue"])
def scenes(request: pytest.FixtureRequest, browsed_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the node shows, by scene, in one of the two renderers."""
    folder = tmp_path_factory.mktemp(request.param)
    return _drive(
        "drive.mjs",
        url=f"http://127.0.0.1:{browsed_server.port}",
        profiles=str(folder),
        shots=str(folder),
        vue=request.param == "vue",
        latent_format="Flux",
        example=str(EXAMPLE),
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(LIMIT_S + 150))
