"""Names of files and folders that every operating system can hold."""

import re
import unicodedata
from pathlib import PurePath

MAX_NAME_BYTES = 240  # most systems hold 255; a number may be added to the name
MAX_PATH_BYTES = 1000
NOT_ON_WINDOWS = '<>:"|?*'
# Windows opens a device for such a name, whatever follows its dot. A folder may be copied to Windows one day.
WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
PICTURE_TYPES = {  # MIME types of the pictures of a run
    ".png": "image/png",
    ".webp": "image/webp",
    ".jpg": "image/jpeg",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
}


def name_problem(path: str) -> str | None:
    """The reason why `path` cannot be a path on every system; None if it can."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in path):
        return "a control character is in it"
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"it is longer than {MAX_PATH_BYTES} bytes"
    for part in re.split(r"[/\\]", path):
        if found := sorted(set(part) & set(NOT_ON_WINDOWS)):
            return f"{' '.join(found)} cannot be in a name on Windows"
        if part != part.rstrip(" .") and part not in (".", ".."):
            return "one of its parts ends in a dot or a blank, which Windows cuts off"
        if len(part.encode()) > MAX_NAME_BYTES:
            return f"one of its parts is longer than {MAX_NAME_BYTES} bytes"
        if WINDOWS_DEVICE.match(part):
            return f"{part} is the name of a device on Windows"
    return None


def is_file_name(name: str) -> bool:
    """Whether `name` is the name of a file on every system: not hidden, no path, no drive, no stream, no device."""
    return name != "" and not name.startswith(".") and not set(name) & set("/\\") and name_problem(name) is None


def picture_type(name: str) -> str | None:
    """The MIME type of a run's picture by its file name; None for the name of any other file."""
    return PICTURE_TYPES.get(PurePath(name).suffix.lower())
