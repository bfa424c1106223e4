"""Finds the folders of an installed InvokeAI, for programs outside it. It imports nothing of InvokeAI."""

import os
import re
from pathlib import Path

from ...errors import PageError

ROOT_VARIABLE, ENVIRONMENT_VARIABLE = "INVOKEAI_ROOT", "VIRTUAL_ENV"
SETTINGS, DEFAULT_ROOT, OUTPUTS = "invokeai.yaml", Path("~/invokeai"), "outputs"
OUTPUTS_VARIABLE = "INVOKEAI_OUTPUTS_DIR"
# The line of the settings with the outputs folder; `outdir` until InvokeAI 3. A comment begins with a blank and `#`.
OUTPUTS_LINE = re.compile(
    r"^\s*(?:outputs_dir|outdir):\s+(?P<quote>[\"']?)(?P<path>.+?)(?P=quote)\s*(?:\s#.*)?$", re.MULTILINE
)
MAX_SETTINGS_BYTES = 1 << 20


def outputs_folder(root: Path | None = None) -> Path:
    """The folder that InvokeAI writes to.

    Args:
        root: InvokeAI's root folder; None for the one that InvokeAI itself would use: that of the variable
            `INVOKEAI_ROOT`, the folder around the active virtual environment, or `~/invokeai`.

    Raises:
        PageError: there is no such folder.
    """
    root = (root or _usual_root()).expanduser()
    outputs = root / Path(os.environ.get(OUTPUTS_VARIABLE) or _saved_outputs(root) or OUTPUTS).expanduser()
    if not outputs.is_dir():
        raise PageError(
            f"{outputs}: expected InvokeAI's outputs folder, found no folder; name InvokeAI's root folder behind "
            f"--invokeai, or set {ROOT_VARIABLE}"
        )
    return outputs


def _usual_root() -> Path:
    """The root folder that InvokeAI uses by default. Source: InvokeAI 6.14 `InvokeAIAppConfig.find_root`."""
    if typed := os.environ.get(ROOT_VARIABLE):
        return Path(typed)
    around = Path(os.environ.get(ENVIRONMENT_VARIABLE, "")).parent
    is_invokeai = ENVIRONMENT_VARIABLE in os.environ and (around / SETTINGS).is_file()  # it may be Safelight's own
    return around if is_invokeai else DEFAULT_ROOT


def _saved_outputs(root: Path) -> str | None:
    """The outputs folder in InvokeAI's settings, which are YAML; None if they do not name one."""
    try:
        with (root / SETTINGS).open(encoding="utf-8", errors="replace") as file:
            found = OUTPUTS_LINE.search(file.read(MAX_SETTINGS_BYTES))
    except OSError:
        return None
    return found["path"] if found else None
