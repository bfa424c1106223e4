"""The version of this package. `pyproject.toml` is the only file that states it."""

import importlib.metadata
import re
from pathlib import Path

PROJECT = Path(__file__).with_name("pyproject.toml")
VERSION_LINE = re.compile(r'^version = "([^"]+)"', re.MULTILINE)
UNKNOWN = "unknown"


def safelight_version(project: Path = PROJECT) -> str:
    """Returns the version, such as `0.1.0`; `unknown` if the installation is incomplete.

    Args:
        project: `pyproject.toml` of a clone, or of a pack in a host's folder. It goes first, because another copy of
            Safelight may be installed beside it. An installed copy has no such file, but metadata.
    """
    try:
        found = VERSION_LINE.search(project.read_text("utf-8"))
        return found[1] if found else UNKNOWN
    except FileNotFoundError:
        pass
    try:
        return importlib.metadata.version("safelight")
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN
