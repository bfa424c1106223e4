"""Names of files and folders that every system can hold."""

import re
import unicodedata

MAX_NAME_BYTES = 240  # most systems hold 255; a counter comes behind it
MAX_PATH_BYTES = 1000
# What Windows takes for a device, whatever comes behind the dot; a folder is copied there one day.
WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)


def name_problem(path: str) -> str | None:
    """What keeps `path` from being a place for files, on whatever system; None if nothing does."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in path):
        return "a control character is in it"
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"it is longer than {MAX_BYTES} bytes"
    for part in re.split(r"[/\\]", path):
        if len(part.encode()) > MAX_NAME_BYTES:
            return f"one of its parts is longer than {MAX_PART_BYTES} bytes"
        if WINDOWS_DEVICE.match(part):
            return f"{part} is the name of a device on Windows"
    return None
