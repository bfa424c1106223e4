"""The runs that were saved in a folder."""

import logging
import os
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, BinaryIO, final

from ..decoders.files.contained_file import open_below
from ..errors import ManifestError
from .manifest import MANIFEST_NAME, read_manifest
from .output_folder import is_inner_folder
from .run_summary import run_summary, started_s

MAX_FOLDER_DEPTH = 6  # levels below the folder that is searched
MAX_FOLDERS_SEARCHED = 20_000

log = logging.getLogger("safelight.view")


def find_runs(root: Path, *, newest_first: bool = False) -> Iterator[Path]:
    """Yields the folders with a run in the folder `root`: itself and those up to `MAX_FOLDER_DEPTH` levels below.

    Folders on upper levels come first. Links are not followed. Hidden folders are skipped. Inside a run's folder only
    those of further runs of the same prompt are searched, unless `root` is that folder. Only the first
    `MAX_FOLDERS_SEARCHED` folders are searched.

    Args:
        root: folder that is searched.
        newest_first: whether the folders of one level come by their last change, else by name.
    """
    searched, level = 0, [root]
    for _ in range(MAX_FOLDER_DEPTH + 1):
        below: list[Path] = []
        for folder in level[: MAX_FOLDERS_SEARCHED - searched]:
            searched += 1
            has_run, folders = _contents(folder)
            if has_run:
                yield folder
            below += [path for path in folders if folder == root or not has_run or is_inner_folder(path.name)]
        level = sorted(below, key=_changed_s, reverse=True) if newest_first else below


def _contents(folder: Path) -> tuple[bool, list[Path]]:
    """Whether there is a manifest in `folder`, and the folders in it."""
    has_run, folders = False, list[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name == MANIFEST_NAME:
                    has_run = entry.is_file(follow_symlinks=False)
                elif not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    except OSError:  # it was deleted since, or this user may not read it
        pass
    return has_run, [Path(path) for path in sorted(folders)]


def _changed_s(path: Path) -> float:
    """When a file was added to a folder or removed from it, in seconds since 1970."""
    try:
        return path.lstat().st_mtime
    except OSError:  # deleted meanwhile
        return 0.0


@dataclass(frozen=True)
class LibraryEntry:
    """A run of a library. Only its summary stays in memory: a manifest of 8 MB needs about 190 MB.

    Args:
        id: id in the manifest, or a new one if that is no UUID or if another folder has the same.
        root: folder of the library.
        folder: folder of the run.
        version: a text that changes whenever the manifest changes.
        facts: the run in a list of runs, with this id.
    """

    id: str
    root: Path
    folder: Path
    version: str
    facts: Mapping[str, Any]

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The validated manifest with this id, read again from the folder.

        Raises:
            ManifestError: it was deleted or damaged since it was listed.
        """
        return {**_manifest(self.folder, self.root, self.version), "id": self.id}

    @property
    def files(self) -> frozenset[str]:
        """The names of the pictures that the manifest lists."""
        manifest = _manifest(self.folder, self.root, self.version)
        products = (name for key in ("sheet", "animation") if (name := manifest[key]) is not None)
        return frozenset([*(name for step in manifest["steps"] for name in step["files"]), *products])

    def summary(self) -> dict[str, Any]:
        """The run in a list of runs."""
        return dict(self.facts)


_reading_one = threading.Lock()  # many requests at a time need the memory of one manifest


def _manifest(folder: Path, root: Path, version: str) -> Mapping[str, Any]:
    """The manifest in a folder; `version` is another one after each change."""
    with _reading_one:
        return _read_once(folder, root, version)


@lru_cache(maxsize=2)  # the runs that a viewer compares
def _read_once(folder: Path, root: Path, version: str) -> Mapping[str, Any]:  # noqa: ARG001 - part of the cache's key
    return read_manifest(folder, root)


@final
class RunLibrary:
    """The runs that `find_runs` finds in a folder. Any thread may use it.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._entries: dict[Path, tuple[str, LibraryEntry | None]] = {}  # by folder, with the version that was read
        self._runs: dict[str, LibraryEntry] = {}
        self._reading = threading.Lock()

    @property
    def name(self) -> str:
        return self._root.name

    def runs(self) -> dict[str, LibraryEntry]:
        """All runs by id, newest first. Only manifests that changed are read again."""
        with self._reading:
            self._entries = {folder: self._read(folder) for folder in find_runs(self._root)}
            entries = [entry for _, entry in self._entries.values() if entry is not None]
        runs: dict[str, LibraryEntry] = {}
        for entry in entries:
            unique = entry if entry.id not in runs else self._with_new_id(entry)
            runs[unique.id] = unique
        newest_first = sorted(runs.values(), key=lambda entry: started_s(entry.facts) or 0.0, reverse=True)
        self._runs = {entry.id: entry for entry in newest_first}
        return self._runs

    def run(self, run_id: str) -> LibraryEntry | None:
        """One run as it is now. The folder is searched only if the run is not known or has changed."""
        entry = self._runs.get(run_id)
        unchanged = entry is not None and self._read(entry.folder)[0] == entry.version
        return entry if unchanged else self.runs().get(run_id)

    def open(self, run_id: str, name: str) -> tuple[BinaryIO, int] | None:
        """Opens a picture that a run lists. Returns it with its size in bytes, or None if there is none of this name.

        `name` is only compared with the names in the manifest. The file must be a regular file, no link.
        """
        for runs in (lambda: self._runs, self.runs):  # the folder is searched only for an unknown run or name
            entry = runs().get(run_id)
            if entry is not None and name in _files_of(entry):
                return _open_with_size(self._root, entry.folder.relative_to(self._root) / name)
        return None

    def _read(self, folder: Path) -> tuple[str, LibraryEntry | None]:
        """The version of the manifest in `folder`, and its run; None if it is not valid."""
        try:
            stats = (folder / MANIFEST_NAME).lstat()
        except OSError:
            return "", None
        version = f"{stats.st_mtime_ns:x}-{stats.st_size:x}"
        known = self._entries.get(folder)
        if known is not None and known[0] == version:
            return known
        try:
            manifest = read_manifest(folder, self._root)
        except ManifestError as error:
            log.warning("run skipped: %s", error)
            return version, None
        entry = LibraryEntry(manifest["id"], self._root, folder, version, run_summary(manifest, version))
        return version, entry if _is_uuid(entry.id) else self._with_new_id(entry)

    def _with_new_id(self, entry: LibraryEntry) -> LibraryEntry:
        """The run with an id made from its path and start time: a later run at this path gets another id."""
        place = f"{entry.folder.relative_to(self._root).as_posix()} {entry.facts['started']}"
        new_id = str(uuid.uuid5(uuid.NAMESPACE_URL, place.encode(errors="backslashreplace").decode()))
        return replace(entry, id=new_id, facts={**entry.facts, "id": new_id})


def _files_of(entry: LibraryEntry) -> frozenset[str]:
    try:
        return entry.files
    except ManifestError:  # deleted since it was listed
        return frozenset()


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _open_with_size(root: Path, relative: PurePath) -> tuple[BinaryIO, int] | None:
    try:
        file = open_below(root, relative)
    except OSError:
        return None
    return file, os.fstat(file.fileno()).st_size
