"""The runs in a folder, each as its manifest has it, whoever wrote that."""

import json
import logging
import math
import os
import stat
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, final

from ..decoders.files.regular_file import open_regular_file
from ..errors import ManifestError
from .file_names import name_problem
from .manifest import MANIFEST_NAME, read_manifest

DEPTH = 2  # of folders in folders
MOST_FOLDERS = 20_000  # that are looked into
LONGEST_RUN_S = 1e9  # what says more does not know

TYPES = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg", ".gif": "image/gif", ".mp4": "video/mp4"}
STATES = ("running", "finished", "interrupted", "failed")
SHAPES: Mapping[str, type | tuple[type, ...]] = {
    "started": str,
    "host": dict,
    "sampler": dict,
    "space": (str, type(None)),
    "decoder": (dict, type(None)),
    "picture": (dict, type(None)),
    "steps": list,
    "notes": list,
}
MADE = ("sheet", "animation")  # of a whole run

log = logging.getLogger("safelight.view")


@dataclass(frozen=True)
class LibraryEntry:
    """A run in a folder, as its manifest has it.

    Args:
        id: the manifest's; another where two folders have the same, or where it could not be an id of ours.
        folder: that holds it.
        version: is another after each change.
        manifest: of this version.
        files: that may be looked at: what the manifest lists, by name.
    """

    id: str
    folder: Path
    version: str
    manifest: Mapping[str, Any]
    files: frozenset[str]

    def written_ms(self) -> int | None:
        """When its record was written, by what it says of itself: a copy of a folder may be younger."""
        started_s, seconds = _started_s(self), self.manifest.get("seconds")
        if started_s > 0 and isinstance(seconds, int | float) and 0 <= seconds < LONGEST_RUN_S:
            return round((started_s + seconds) * 1000)
        return None

    def summary(self) -> dict[str, Any]:
        """What a list of runs says of it."""
        last = next((step for step in reversed(self.manifest["steps"]) if step["files"]), {"files": [None]})
        return {
            "id": self.id,
            "version": self.version,
            "state": self.manifest["state"],
            "started": self.manifest["started"],
            "index": last.get("index"),
            "total": self.manifest["sampler"].get("steps"),
            "file": last["files"][0],
            "at": last.get("at"),
            "written": self.written_ms(),
        }


@final
class RunLibrary:
    """The runs in a folder, in its folders, and in theirs; links are not followed.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._read: dict[Path, tuple[str, LibraryEntry | None]] = {}
        self._runs: dict[str, LibraryEntry] = {}
        self._reading = threading.Lock()

    @property
    def name(self) -> str:
        return self._root.name

    def runs(self) -> dict[str, LibraryEntry]:
        """All runs by id, newest first, read again where something has changed."""
        with self._reading:
            folders = list(islice(_folders(self._root, DEPTH), MOST_FOLDERS))
            found = [kept for folder in folders if (kept := self._kept(folder)) is not None]
            there = set(folders)
            self._read = {folder: read for folder, read in self._read.items() if folder in there}
        runs: dict[str, LibraryEntry] = {}
        for kept in found:
            one = kept if kept.id not in runs else _renamed(kept, self._root)
            runs[one.id] = one
        self._runs = dict(sorted(runs.items(), key=lambda item: _started_s(item[1]), reverse=True))
        return self._runs

    def open(self, run_id: str, name: str) -> tuple[BinaryIO, int] | None:
        """A picture that a run lists, with its size in bytes; None if it lists none of this name or has it no more.

        `name` is compared; what is opened is the manifest's own, as long as that is a plain file in the run's folder.
        """
        for runs in (lambda: self._runs, self.runs):  # as last seen, which spares a look at every folder; then anew
            kept = runs().get(run_id)
            if kept is not None and name in kept.files:
                return _open(kept.folder / name)
        return None

    def _kept(self, folder: Path) -> LibraryEntry | None:
        path = folder / MANIFEST_NAME
        try:
            told = path.lstat()
        except OSError:
            return None
        if not stat.S_ISREG(told.st_mode):
            return None
        version = f"{told.st_mtime_ns:x}-{told.st_size:x}"
        known = self._read.get(folder)
        if known is None or known[0] != version:
            try:
                kept = _check(folder, version, read_manifest(folder), self._root)
            except ManifestError as error:
                log.warning("left out: %s", error)
                kept = None
            known = self._read[folder] = version, kept
        return known[1]


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """`root` and the folders in it, in theirs and so on, in order of their names."""
    yield root
    if depth:
        try:
            inside = sorted(entry.path for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
        except OSError:  # gone by now, or somebody else's
            return
        for path in inside:
            yield from _folders(Path(path), depth - 1)


def _check(folder: Path, version: str, manifest: dict[str, Any], root: Path) -> LibraryEntry:
    """The run, if its manifest is one that a viewer can rely on: it may come from anywhere."""
    wrong = [key for key, shape in SHAPES.items() if not isinstance(manifest.get(key), shape)]
    wrong += [] if manifest.get("state") in STATES else ["state"]
    wrong += [] if wrong or all(map(_is_step, manifest["steps"])) else ["steps"]
    try:
        json.dumps(manifest, allow_nan=False)
    except ValueError:
        wrong.append("a number")
    if wrong:
        raise ManifestError(f"{folder / NAME}: {', '.join(wrong)}: not as in the record of a run")
    # Nobody is told of files that nobody can have.
    steps = [{**step, "files": [name for name in step["files"] if _is_plain(name)]} for step in manifest["steps"]]
    made = {key: name for key in MADE if isinstance(name := manifest.get(key), str) and _is_plain(name)}
    manifest = manifest | {"steps": steps} | dict.fromkeys(MADE) | made
    listed = frozenset([*(name for step in steps for name in step["files"]), *made.values()])
    kept = LibraryEntry(str(manifest.get("id")), folder, version, manifest, listed)
    return kept if _is_uuid(kept.id) else _renamed(kept, root)


def _is_step(step: Any) -> bool:
    return (
        isinstance(step, dict)
        and isinstance(step.get("index"), int)
        and isinstance(step.get("files"), list)
        and all(isinstance(name, str) for name in step["files"])
        and all(_is_number(step.get(key)) for key in ("sigma", "at", "decode_ms"))
    )


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def _is_plain(name: str) -> bool:
    """Whether this is a picture's name and no path, on any system."""
    picture = not set(name) & set("/\\:") and not name.startswith(".") and Path(name).suffix in TYPES
    return picture and name_problem(name) is None


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _renamed(kept: LibraryEntry, root: Path) -> LibraryEntry:
    """The run with an id made of its place, and its time: another run in this place is not taken for it."""
    place = f"{kept.folder.relative_to(root).as_posix()} {kept.manifest['started']}"
    name = str(uuid.uuid5(uuid.NAMESPACE_URL, place.encode(errors="backslashreplace").decode()))
    return replace(kept, id=name, manifest={**kept.manifest, "id": name})


def _started_s(kept: LibraryEntry) -> float:
    try:
        return datetime.fromisoformat(kept.manifest["started"]).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0


def _open(path: Path) -> tuple[BinaryIO, int] | None:
    """The file with its size, unless it is a link, a pipe, a folder or anything else that is no plain file."""
    try:
        file = open_regular_file(path, links=False)
    except OSError:
        return None
    return file, os.fstat(file.fileno()).st_size
