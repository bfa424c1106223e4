"""A real browser before a real ComfyUI: the rig of `tests/comfyui`, and what the driver saw."""

import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "example_workflows/preview_steps.json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
LIMIT_S = 400


def _rig() -> Any:
    spec = importlib.util.spec_from_file_location("safelight_comfyui_rig", HERE.parent / "comfyui/conftest.py")
    rig = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rig)
    return rig


def _chromium() -> str | None:
    return os.environ.get("SAFELIGHT_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


def _missing() -> str | None:
    """What stands in the way of these tests, in one line."""
    wanted = {
        "a ComfyUI (SAFELIGHT_COMFYUI, SAFELIGHT_COMFYUI_PYTHON)": all(
            os.environ.get(name) for name in ("SAFELIGHT_COMFYUI", "SAFELIGHT_COMFYUI_PYTHON")
        ),
        "playwright-core (SAFELIGHT_PLAYWRIGHT: a folder with node_modules)": (
            Path(os.environ.get("SAFELIGHT_PLAYWRIGHT", "/nowhere")) / "node_modules/playwright-core"
        ).is_dir(),
        "a Chromium (SAFELIGHT_CHROMIUM)": _chromium() is not None,
        "Node": shutil.which("node") is not None,
    }
    absent = [what for what, found in wanted.items() if not found]
    return f"no browser tests without {', '.join(absent)}" if absent else None


@pytest.fixture(scope="session")
def browsed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    rig = _rig()
    with rig.serving(tmp_path_factory.mktemp("browser"), rig.FOLDER) as server:
        yield server


@pytest.fixture(scope="session", params=["litegraph", "vue"])
def told(request: pytest.FixtureRequest, browsed_server: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the driver saw, scene by scene, in one of the two renderers."""
    folder = tmp_path_factory.mktemp(request.param)
    asked = {
        "url": f"http://127.0.0.1:{browsed_server.port}",
        "chromium": _chromium(),
        "profiles": str(folder),
        "shots": str(folder),
        "vue": request.param == "vue",
        "latent_format": "Flux",
        "example": str(EXAMPLE),
    }
    drive = ["node", str(HERE / "drive.mjs")]
    ran = subprocess.run(drive, check=False, input=json.dumps(asked), capture_output=True, text=True, timeout=LIMIT_S)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is missing is told once."""
    ours = [item for item in items if item.path.is_relative_to(HERE)]
    reason = _missing()
    for item in ours:
        item.add_marker(pytest.mark.timeout(LIMIT_S + 150))
    if not ours or reason is None:
        return
    ours[0].add_marker(pytest.mark.skip(reason=reason))
    config.hook.pytest_deselected(items=ours[1:])
    items[:] = [item for item in items if item not in ours[1:]]
