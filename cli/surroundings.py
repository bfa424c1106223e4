"""Finds the host that this copy of the package is installed in, from the files around it."""

import importlib.metadata
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..decoders.files.regular_file import open_regular_file
from ..hosts.invokeai.preferences import (
    DECODERS,
    DEVICE,
    EVERYWHERE,
    LEARN,
    LEARN_IDLE,
    LEARN_STORE,
    LIBRARY,
    REMOTE,
    SETTINGS_FILE,
)
from .learned import NODES_FOLDER, PACKAGE

COMFYUI_PAGE = PACKAGE / "web" / "comfy.js"
COMFYUI_SETTING = re.compile(r'"(Safelight\.[A-Za-z.]+)"')  # in the page's script, which offers them
INVOKEAI_SETTINGS = (EVERYWHERE, DEVICE, LEARN, LEARN_IDLE, LEARN_STORE, LIBRARY, REMOTE)
MAX_SETTINGS_BYTES = 4 << 20
COMFYUI_VERSION = re.compile(r'^__version__ = "([\w.+-]{1,40})"', re.MULTILINE)


@dataclass(frozen=True)
class Surroundings:
    """The host around the package.

    Args:
        host: name and version of the host; None if the package is in no host's folder.
        settings: what is set of Safelight's settings there.
        runs: folders that have its runs, if they exist.
        decoders: folder of the user's decoder files; None for that of scripts.
    """

    host: str | None
    settings: Mapping[str, Any]
    runs: tuple[Path, ...]
    decoders: Path | None


def find_surroundings(package: Path = PACKAGE) -> Surroundings:
    """The host whose folder of custom nodes has `package` in it."""
    root = package.parents[1] if len(package.parents) > 1 else package
    if package.parent.name == NODES_FOLDER:
        saved = root / "user" / "default" / "comfy.settings.json"
        frontend = _installed("comfyui-frontend-package")
        return Surroundings(
            f"ComfyUI {_comfyui_version(root)}, frontend {frontend or 'unknown'}",
            _settings(saved, COMFYUI_SETTING.findall(_read(COMFYUI_PAGE) or "")),
            (root / "temp" / "safelight", root / "output"),
            root / "models" / "safelight",
        )
    if package.parent.name == "nodes" and (root / "databases").is_dir():
        return Surroundings(
            f"InvokeAI {_installed('InvokeAI') or 'unknown'}",
            _settings(root / DECODERS / SETTINGS_FILE, INVOKEAI_SETTINGS),
            (root / "outputs",),
            root / DECODERS,
        )
    return Surroundings(None, {}, (Path("runs"),), None)


def _comfyui_version(root: Path) -> str:
    found = COMFYUI_VERSION.search(_read(root / "comfyui_version.py") or "")
    return found[1] if found else "unknown"


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _settings(path: Path, names: Iterable[str]) -> Mapping[str, Any]:
    """What a file says of these settings. Others, such as keys of other packs, are not read."""
    try:
        saved = json.loads(_read(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return {name: saved[name] for name in names if name in saved} if isinstance(saved, dict) else {}


def _read(path: Path) -> str | None:
    try:
        with open_regular_file(path) as file:
            return file.read(MAX_SETTINGS_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
