"""Finds the folder of the user's decoder files for scripts; ComfyUI and InvokeAI have folders of their own."""

import os
import sys
from pathlib import Path

VARIABLE = "SAFELIGHT_DECODERS"  # a folder in place of the usual one
FOLDER_NAME = "safelight"


def user_folder() -> Path | None:
    """The folder of the user's decoder files, which need not exist; None if the user has no home folder.

    It is in the folder that the system has for a program's data. Source:
    https://specifications.freedesktop.org/basedir/latest for Linux.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / FOLDER_NAME
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / FOLDER_NAME
    data = Path(os.environ.get("XDG_DATA_HOME") or "")
    return (data if data.is_absolute() else home / ".local" / "share") / FOLDER_NAME
