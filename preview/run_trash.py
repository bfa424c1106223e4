"""The trash of a folder of runs: deleted runs wait there for undo, inside the same folder, for 30 days."""

import json
import logging
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from ..decoders.files.contained_file import move_below, read_below, remove_below, write_below
from ..errors import GoneError, LibraryError, describe, printable

OWN_FOLDER = ".safelight"  # hidden: no search for runs looks into it
TRASH = PurePath(OWN_FOLDER, "trash")
ORIGIN_NAME, RUN_NAME = "origin.json", "run"
ORIGIN_FORMAT = "safelight.trash/1"
TOKEN = re.compile(r"[0-9a-f]{16}")
MAX_ORIGIN_BYTES = 16_000
MAX_LISTED = 1000
MAX_FREE_NAMES = 100
TIME_IN_TRASH = timedelta(days=30)

log = logging.getLogger("safelight.view")


class TrashedRun(NamedTuple):
    """A run in the trash.

    Args:
        token: name of its place in the trash.
        folder: path that it had in the folder of runs.
        deleted: when it was deleted, ISO 8601.
    """

    token: str
    folder: PurePath
    deleted: str


def move_to_trash(root: Path, folder: PurePath, now_s: float) -> str:
    """Moves the folder of a run to the trash, by one rename. Returns the token that brings it back.

    Args:
        root: folder of runs.
        folder: path of the run's folder in it; no part may be a link.
        now_s: seconds since 1970.

    Raises:
        OSError: the folder is a link, cannot be moved, or is on another disk than `root`.
    """
    token = secrets.token_hex(8)
    deleted = datetime.fromtimestamp(now_s, timezone.utc).isoformat(timespec="seconds")
    origin = {"format": ORIGIN_FORMAT, "folder": folder.as_posix(), "deleted": deleted}
    content = json.dumps(origin).encode(errors="backslashreplace")
    write_below(root, TRASH / token / ORIGIN_NAME, content)
    try:
        move_below(root, folder, TRASH / token / RUN_NAME)
    except OSError:
        with suppress(OSError):
            (root / TRASH / token / ORIGIN_NAME).unlink()
            (root / TRASH / token).rmdir()
        raise
    return token


def restore(root: Path, token: str) -> PurePath:
    """Moves a run from the trash back to where it was. Returns its path, which has another name if that is taken.

    Raises:
        GoneError: the trash has no such run.
        LibraryError: it cannot be moved back.
    """
    trashed = _trashed(root, token)
    if trashed is None:
        raise GoneError("this run is not in the trash any more: it was restored or removed")
    for folder in islice(_names(trashed.folder), MAX_FREE_NAMES):
        try:
            move_below(root, TRASH / token / RUN_NAME, folder)
        except FileExistsError:
            continue
        except OSError as error:
            raise LibraryError(f"{folder.name} cannot be restored: {error.strerror}; it stays in the trash") from None
        with suppress(OSError):
            (root / TRASH / token / ORIGIN_NAME).unlink()
            (root / TRASH / token).rmdir()
        return folder
    raise LibraryError(f"{trashed.folder.name} cannot be restored: all free names are taken; it stays in the trash")


def trashed_runs(root: Path) -> list[TrashedRun]:
    """The runs in the trash, the ones that were deleted last first; at most `MAX_LISTED`."""
    return sorted(islice(_in_trash(root), MAX_LISTED), key=lambda run: run.deleted, reverse=True)


def empty_trash(root: Path, now_s: float) -> int:
    """Removes the runs that were deleted more than `TIME_IN_TRASH` ago. Returns their number.

    A run without a date, or with one that is still to come, stays.

    Args:
        root: folder of runs.
        now_s: seconds since 1970.
    """
    removed = 0
    for run in list(_in_trash(root)):
        if not _is_old(run, now_s):
            continue
        try:
            remove_below(root, TRASH / run.token)
        except OSError as error:
            log.warning("%s cannot be removed from the trash: %s", printable(run.folder.name), describe(error))
        else:
            removed += 1
    return removed


def _is_old(run: TrashedRun, now_s: float) -> bool:
    try:
        return datetime.fromtimestamp(now_s, timezone.utc) - datetime.fromisoformat(run.deleted) > TIME_IN_TRASH
    except (ValueError, TypeError):  # no date, or one without a time zone
        return False


def _in_trash(root: Path) -> Iterator[TrashedRun]:
    try:
        with os.scandir(root / TRASH) as places:
            tokens = [place.name for place in places if place.is_dir(follow_symlinks=False)]
    except OSError:
        return
    yield from filter(None, (_trashed(root, token) for token in tokens))


def _trashed(root: Path, token: str) -> TrashedRun | None:
    """A run in the trash; None if there is none, or if its origin is damaged or leads out of the folder of runs."""
    if not TOKEN.fullmatch(token):
        return None
    try:
        origin: Any = json.loads(read_below(root, TRASH / token / ORIGIN_NAME, MAX_ORIGIN_BYTES).decode())
    except (OSError, ValueError, RecursionError):
        return None
    folder, deleted = (origin.get(key) if isinstance(origin, dict) else None for key in ("folder", "deleted"))
    if not isinstance(folder, str) or not isinstance(deleted, str) or not is_run_path(folder):
        return None
    return TrashedRun(token, PurePath(folder), deleted)


def is_run_path(path: str) -> bool:
    """Whether a text is the path of a folder below a folder of runs: no way out of it, and no hidden part."""
    pure = PurePath(path)
    return pure.anchor == "" and pure.parts != () and not any(part.startswith(".") for part in pure.parts)


def _names(folder: PurePath) -> Any:
    """The path itself, then paths beside it."""
    yield folder
    for i in range(1, MAX_FREE_NAMES):
        yield folder.with_name(f"{folder.name}_restored" + (f"_{i}" if i > 1 else ""))
