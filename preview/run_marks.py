"""The star and the note that a user gives a saved run: a small file of our own beside `run.json`."""

import json
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from ..decoders.files.contained_file import read_below, write_below

MARKS_NAME = "marks.json"
MARKS_FORMAT = "safelight.marks/1"
MAX_MARKS_BYTES = 64_000
MAX_NOTE_CHARS = 2000


@dataclass(frozen=True)
class Marks:
    """What a user says about a run.

    Args:
        star: whether the run has a star.
        note: text of the user, at most `MAX_NOTE_CHARS` characters.
    """

    star: bool = False
    note: str = ""

    def changed(self, star: bool | None = None, note: str | None = None) -> "Marks":
        """The marks with another star or another note; None keeps what is there."""
        return replace(
            self, star=self.star if star is None else star, note=self.note if note is None else plain_note(note)
        )


NO_MARKS = Marks()


def plain_note(text: str) -> str:
    """A note without control characters but line breaks, and of the allowed length."""
    lines = text.replace("\r\n", "\n")
    allowed = (char for char in lines if char == "\n" or unicodedata.category(char) not in ("Cc", "Cs"))
    return "".join(allowed).strip()[:MAX_NOTE_CHARS]


def read_marks(folder: Path, root: Path) -> Marks:
    """The marks of the run in `folder`; none if there is no such file, or if it is damaged.

    Args:
        folder: folder of the run.
        root: folder that `folder` is in. No folder between them may be a link.
    """
    try:
        content = read_below(root, folder.relative_to(root) / MARKS_NAME, MAX_MARKS_BYTES)
        found: Any = json.loads(content.decode())
    except (OSError, ValueError, RecursionError):
        return NO_MARKS
    if not isinstance(found, dict) or found.get("format") != MARKS_FORMAT:
        return NO_MARKS
    note = found.get("note")
    return Marks(found.get("star") is True, plain_note(note) if isinstance(note, str) else "")


def write_marks(folder: Path, root: Path, marks: Marks) -> None:
    """Writes the marks of the run in `folder`, so that the file is complete or as before.

    Raises:
        OSError: the file cannot be written, or a folder between `root` and `folder` is a link.
    """
    write_below(root, PurePath(folder.relative_to(root)) / MARKS_NAME, marks_json(marks))


def marks_json(marks: Marks) -> bytes:
    """The content of a file of marks."""
    return json.dumps({"format": MARKS_FORMAT, "star": marks.star, "note": marks.note}).encode()
