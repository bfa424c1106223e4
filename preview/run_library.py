"""The runs that were saved in a folder."""

import logging
import os
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import BinaryIO, final

from ..decoders.files.contained_file import open_below, write_below
from ..errors import GoneError, LibraryError, ManifestError, StoreError, describe
from .folder_listing import FolderContent, FolderListing, list_folder
from .library_entry import LibraryEntry
from .library_index import IndexedRun, LibraryIndex, read_index, write_index
from .library_source import LibrarySource, OwnFolder
from .manifest import MANIFEST_NAME, read_manifest
from .output_folder import is_inner_folder, run_title
from .run_details import FindPrompt, run_details
from .run_marks import MARKS_NAME, Marks, marks_json, read_marks, write_marks
from .run_summary import run_summary, started_s
from .run_trash import TIME_IN_TRASH, TRASH, empty_trash, move_to_trash, restore

MAX_FOLDER_DEPTH = 6  # levels below the folder that is searched
MAX_FOLDERS_SEARCHED = 20_000
MIN_INDEXED_RUNS = 50  # fewer runs are read so quickly that they need no file of ours
TRASH_INTERVAL_S = 24 * 3600.0  # between two looks for runs that have been in the trash too long
MIN_INDEX_INTERVAL_S = 60.0  # a running run changes its manifest every second
RUNNING_S = 600.0  # a running run whose manifest is older was killed: no step takes so long

log = logging.getLogger("safelight.view")


def find_runs(
    root: Path, *, newest_first: bool = False, contents: Callable[[Path], FolderContent] = list_folder
) -> Iterator[Path]:
    """Yields the folders with a run in the folder `root`: itself and those up to `MAX_FOLDER_DEPTH` levels below.

    Folders on upper levels come first. Links are not followed. Hidden folders are skipped. Inside a run's folder only
    those of further runs of the same prompt are searched, unless `root` is that folder. Only the first
    `MAX_FOLDERS_SEARCHED` folders are searched.

    Args:
        root: folder that is searched.
        newest_first: whether the folders of one level come by their last change, else by name.
        contents: function that lists a folder.
    """
    searched, level = 0, [root]
    for _ in range(MAX_FOLDER_DEPTH + 1):
        below: list[Path] = []
        for folder in level[: MAX_FOLDERS_SEARCHED - searched]:
            searched += 1
            has_run, folders = contents(folder)
            if has_run:
                yield folder
            below += [folder / name for name in folders if folder == root or not has_run or is_inner_folder(name)]
        level = sorted(below, key=_changed_s, reverse=True) if newest_first else below


def _changed_s(path: Path) -> float:
    """When a file was added to a folder or removed from it, in seconds since 1970."""
    try:
        return path.lstat().st_mtime
    except OSError:  # deleted meanwhile
        return 0.0


@dataclass(frozen=True)
class _ReadRun:
    """What was read from a folder: the versions of its files, and its run; None if that is not valid."""

    version: str
    marks_version: str
    entry: LibraryEntry | None


def no_prompt(texts: Mapping[str, str], sampler: str | None) -> None:
    """Finds no prompt in a picture."""


@final
class RunLibrary:
    """The runs that `find_runs` finds in a folder. Any thread may use it.

    An index file in the folder saves reading all runs again, see `library_index`. It is only a help: what it says is
    compared with the folder, and without it, or if it is damaged, the runs are read.

    Args:
        root: the folder.
        find_prompt: function that finds the prompt in the texts of a picture.
        clock: function that returns seconds since 1970.
        source: where the files in the folder come from; None: they are there.
    """

    def __init__(
        self,
        root: Path,
        find_prompt: FindPrompt = no_prompt,
        clock: Callable[[], float] = time.time,
        source: LibrarySource | None = None,
    ) -> None:
        self._root, self._find_prompt, self._clock = root.resolve(), find_prompt, clock
        self._source = source or OwnFolder(self._root)
        self._index: LibraryIndex | None = None  # as it is in the file; None: not read yet
        self._index_saved_s = self._trash_emptied_s = float("-inf")
        self._read_runs: dict[Path, _ReadRun] = {}
        self._runs: dict[str, LibraryEntry] = {}
        self._reading = threading.RLock()

    @property
    def name(self) -> str:
        return self._source.title

    @property
    def place(self) -> str:
        """Where the runs are, for people: a path or an address."""
        return self._source.place

    @property
    def root(self) -> Path:
        return self._root

    def runs(self) -> dict[str, LibraryEntry]:
        """All runs by id, newest first. Only manifests that changed are read again."""
        with self._reading:
            self._source.refresh()
            before = self._index or read_index(self._root)
            if not self._read_runs:
                self._read_runs = {self._root / path: self._from_index(path, run) for path, run in before.runs.items()}
            listing = FolderListing(self._root, before.folders, lambda: round(self._clock() * 1e9))
            self._read_runs = {folder: self._read(folder) for folder in find_runs(self._root, contents=listing)}
            self._update_index(before, listing)
            self._empty_trash()
            return self._list()

    def known(self) -> dict[str, LibraryEntry]:
        """All runs as they were last read, or as the index has them, without a look at the folder."""
        if self._index is None and not self._runs:
            with self._reading:
                self._index = self._index or read_index(self._root)
                self._read_runs = {
                    self._root / path: self._from_index(path, run) for path, run in self._index.runs.items()
                }
                self._list()
        return self._runs

    def _list(self) -> dict[str, LibraryEntry]:
        """Gives each run an id of its own, and sorts them."""
        entries = [read.entry for read in self._read_runs.values() if read.entry is not None]
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
        if entry is not None and entry.facts["state"] == "running":
            self._source.renew(entry.place / MANIFEST_NAME)
        unchanged = entry is not None and self._read(entry.folder).version == entry.version
        return entry if unchanged else self.runs().get(run_id)

    def open(self, run_id: str, name: str) -> tuple[BinaryIO, int] | None:
        """Opens a picture that a run lists. Returns it with its size in bytes, or None if there is none of this name.

        `name` is only compared with the names in the manifest. The file must be a regular file, no link.
        """
        for runs in (lambda: self._runs, self.runs):  # the folder is searched only for an unknown run or name
            entry = runs().get(run_id)
            if entry is not None and name in _files_of(entry):
                self._source.fetch(entry.place / name)
                return _open_with_size(self._root, entry.place / name)
        return None

    def texts(self, run_id: str) -> Mapping[str, str]:
        """The texts in the newest picture of a run, from `picture_texts`; empty if there is no such run."""
        entry = self.run(run_id)
        picture = entry and entry.facts["thumbnail"]
        return self._source.texts(entry.place / picture) if entry and picture else {}

    # Changes

    def mark(self, run_id: str, star: bool | None = None, note: str | None = None) -> LibraryEntry:
        """Gives a run a star or a note; None leaves it as it is. Returns the run with its new marks.

        Raises:
            GoneError: there is no such run.
            LibraryError: the marks cannot be written.
        """
        with self._reading:
            entry = self._existing(run_id)
            marks = entry.marks.changed(star, note)
            try:
                self._source.publish(entry.place / MARKS_NAME, marks_json(marks))
                write_marks(entry.folder, self._root, marks)
            except (OSError, StoreError) as error:
                raise LibraryError(
                    f"the star and the note cannot be written into {run_title(entry.folder)}: {describe(error)}"
                ) from None
            return self.runs().get(run_id) or replace(entry, marks=marks)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file of the whole library into its folder.

        Raises:
            OSError, StoreError: it cannot be written.
        """
        self._source.publish(PurePath(name), content)
        write_below(self._root, PurePath(name), content)

    def delete(self, run_id: str) -> str:
        """Moves a run to the trash, with the further runs of the same prompt in its folder. Returns a token to undo it.

        Raises:
            GoneError: there is no such run.
            LibraryError: it is running, it is the folder of the library itself, or it cannot be moved.
        """
        with self._reading:
            entry = self._existing(run_id)
            title = run_title(entry.folder)
            if not self._source.can_delete:
                raise LibraryError(f"{title} is in {self.place}; delete it with a program of this store")
            if entry.folder == self._root:
                raise LibraryError(f"{title} is the folder that is open; open the folder above it to delete this run")
            if any(self._is_running(self._read_runs[folder]) for folder in self._with_inner(entry.folder)):
                raise LibraryError(f"{title} is still running; stop it first")
            try:
                read_manifest(entry.folder, self._root)  # only a folder that holds a run is moved
                token = move_to_trash(self._root, entry.place, self._clock())
            except (OSError, ManifestError) as error:
                raise LibraryError(f"{title} cannot be moved to {TRASH.as_posix()}: {describe(error)}") from None
            self.runs()
            return token

    def inner_runs(self, run_id: str) -> int:
        """The number of further runs of the same prompt in the folder of a run."""
        entry = self._runs.get(run_id)
        return 0 if entry is None else len(self._with_inner(entry.folder)) - 1

    def restore(self, token: str) -> list[str]:
        """Moves what was deleted back. Returns the ids of the runs in it.

        Raises:
            GoneError: the trash has no such run.
            LibraryError: it cannot be moved back.
        """
        with self._reading:
            folder = self._root / restore(self._root, token)
            return [entry.id for entry in self.runs().values() if folder in (entry.folder, *entry.folder.parents)]

    def _empty_trash(self) -> None:
        """Removes runs that have been in the trash too long, once a day."""
        if self._clock() - self._trash_emptied_s < TRASH_INTERVAL_S:
            return
        self._trash_emptied_s = self._clock()
        if removed := empty_trash(self._root, self._clock()):
            days = TIME_IN_TRASH.days
            log.info("%d runs removed from %s: deleted more than %d days ago", removed, TRASH.as_posix(), days)

    def _existing(self, run_id: str) -> LibraryEntry:
        entry = self.runs().get(run_id)
        if entry is None:
            raise GoneError("there is no such run: it was moved or deleted")
        return entry

    def _with_inner(self, folder: Path) -> list[Path]:
        return [path for path in self._read_runs if folder in (path, *path.parents)]

    def _is_running(self, read: _ReadRun) -> bool:
        if read.entry is None or read.entry.facts["state"] != "running":
            return False
        return self._clock() - _changed_s(read.entry.folder / MANIFEST_NAME) < RUNNING_S

    # Reading

    def _read(self, folder: Path) -> _ReadRun:
        """The run in `folder`, which is read only if it has changed."""
        version = _version(folder, MANIFEST_NAME)
        if not version:
            return _ReadRun("", "", None)
        known, marks_version = self._read_runs.get(folder), _version(folder, MARKS_NAME)
        if known is not None and (known.version, known.marks_version) == (version, marks_version):
            return known
        is_same = known is not None and known.version == version
        entry = known.entry if known is not None and is_same else self._entry(folder, version)
        if entry is not None:
            entry = replace(entry, marks=read_marks(folder, self._root) if marks_version else Marks())
        return _ReadRun(version, marks_version, entry)

    def _entry(self, folder: Path, version: str) -> LibraryEntry | None:
        try:
            manifest = read_manifest(folder, self._root)
        except ManifestError as error:
            log.warning("run skipped: %s", error)
            return None
        facts = run_summary(manifest, version)
        picture = facts["thumbnail"]
        texts = self._source.texts(folder.relative_to(self._root) / picture) if picture else {}
        details = run_details(manifest, texts, self._find_prompt)
        return self._with_uuid(LibraryEntry(manifest["id"], self._root, folder, version, facts, details, Marks()))

    def _from_index(self, path: str, run: IndexedRun) -> _ReadRun:
        """A run of the index."""
        if run.facts is None:
            return _ReadRun(run.version, "", None)
        folder = self._root / path
        entry = LibraryEntry(run.facts["id"], self._root, folder, run.version, run.facts, run.details, run.marks)
        return _ReadRun(run.version, run.marks_version, self._with_uuid(entry))

    def _update_index(self, before: LibraryIndex, listing: FolderListing) -> None:
        """Writes the index if it differs from the folder, not too often, and only of many runs."""
        is_due = self._clock() - self._index_saved_s >= MIN_INDEX_INTERVAL_S
        if not is_due or len(self._read_runs) < MIN_INDEXED_RUNS:
            self._index = LibraryIndex(listing.listed, before.runs)
            return
        runs = {
            folder.relative_to(self._root).as_posix(): _indexed(read)
            for folder, read in self._read_runs.items()
            if read.version
        }
        self._index, self._index_saved_s = LibraryIndex(listing.listed, runs), self._clock()
        if self._index == before:
            return
        try:
            write_index(self._root, self._index)
        except OSError as error:  # a folder of others, a full disk: the runs are read again next time
            log.debug("no index of %s: %s", self._root, describe(error))

    def _with_uuid(self, entry: LibraryEntry) -> LibraryEntry:
        return entry if _is_uuid(entry.id) else self._with_new_id(entry)

    def _with_new_id(self, entry: LibraryEntry) -> LibraryEntry:
        """The run with an id from its path and start time: a later run at this path gets another id."""
        place = f"{entry.place.as_posix()} {entry.facts['started']}"
        new_id = str(uuid.uuid5(uuid.NAMESPACE_URL, place.encode(errors="backslashreplace").decode()))
        return replace(entry, id=new_id, facts={**entry.facts, "id": new_id})


def _indexed(read: _ReadRun) -> IndexedRun:
    if read.entry is None:
        return IndexedRun(read.version, None, {})
    entry = read.entry
    return IndexedRun(read.version, dict(entry.facts), dict(entry.details), read.marks_version, entry.marks)


def _version(folder: Path, name: str) -> str:
    """A text that changes whenever a file in a folder changes; empty if there is no such file, or a link."""
    try:
        stats = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - ten times as quick, for thousands of runs
    except OSError:
        return ""
    return f"{stats.st_mtime_ns:x}-{stats.st_size:x}" if stat.S_ISREG(stats.st_mode) else ""


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
