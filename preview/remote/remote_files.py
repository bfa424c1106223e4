"""The files of a library in a store, in a temporary folder as far as they were asked for."""

import logging
import os
import shutil
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import PurePath, PurePosixPath
from typing import final

from ...decoders.files.contained_file import write_below
from ...errors import ManifestError, StoreError, describe
from ..decode.memory_budget import MB
from ..images.metadata import picture_texts, texts_in
from ..library_source import LibrarySource
from ..manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, read_manifest
from ..run_library import MAX_FOLDER_DEPTH, MAX_FOLDERS_SEARCHED
from ..run_marks import MARKS_NAME
from ..run_summary import run_summary
from ..run_trash import is_run_path
from .scratch import scratch_folder
from .store import Store

MAX_PICTURES_BYTES = 1024 * MB  # of pictures in the temporary folder
MAX_FETCHED_BYTES = 256 * MB
MIN_RENEW_S = 2.0  # between two looks at the record of a run that is running
READERS = 8  # a store answers many requests at a time
RECORDS = (MANIFEST_NAME, MARKS_NAME)

log = logging.getLogger("safelight.view")


@final
class RemoteFiles(LibrarySource):
    """The records of all runs in a store, and the pictures that a viewer showed last.

    What the store holds may come from anywhere: no name leads out of the temporary folder, and sizes are limited.

    Args:
        store: the store.
        max_bytes: largest size of all pictures in the folder together.
        clock: function that returns monotonic seconds.

    Attributes:
        folder: temporary folder, which is removed with this object.
    """

    can_delete = False  # a store has no move: a run would be in two places if it is away in the middle

    def __init__(
        self, store: Store, max_bytes: int = MAX_PICTURES_BYTES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store, self._max_bytes, self._clock = store, max_bytes, clock
        self.title = self.place = store.address
        self.folder = scratch_folder()
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._versions: dict[str, str] = {}  # of records, by their path; empty if it could not be read
        self._renewed_s: dict[PurePath, float] = {}
        self._texts: dict[PurePath, Mapping[str, str]] = {}  # read with the records, until the library asks for them
        self._pictures: OrderedDict[PurePath, int] = OrderedDict()  # sizes, the one that was shown last at the end
        self._problem = ""
        self._refreshing, self._changing = threading.Lock(), threading.RLock()

    def connect(self) -> None:
        """Brings the records into the folder.

        Raises:
            StoreError: the store does not answer.
        """
        with self._refreshing:
            listed = self._store.list()
            found = {name: file.version for name, file in listed.items() if _is_record(name)}
            found = dict(islice(found.items(), len(RECORDS) * MAX_FOLDERS_SEARCHED))
            in_use = {name for name in self._versions.keys() - found.keys() if not self._remove(name)}
            failed = self._bring(name for name, version in found.items() if self._versions.get(name) != version)
            self._versions = found | dict.fromkeys(failed | in_use, "")  # tried again with the next look

    def refresh(self) -> None:
        """As `connect`, but a store that is away leaves everything as it is."""
        try:
            self.connect()
            self._problem = ""
        except StoreError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                log.warning("the runs are shown as they were: %s", error)

    def renew(self, record: PurePath) -> None:
        now_s = self._clock()
        if now_s - self._renewed_s.get(record, float("-inf")) >= MIN_RENEW_S:
            self._renewed_s[record] = now_s
            self._bring_one(record.as_posix())

    def fetch(self, picture: PurePath) -> None:
        with self._changing:
            if picture in self._pictures:
                self._pictures.move_to_end(picture)
                return
        try:
            content = self._store.read(picture.as_posix(), MAX_FETCHED_BYTES)
            write_below(self.folder, picture, content)
        except (StoreError, OSError) as error:
            log.debug("no picture: %s", error)
            return
        with self._changing:
            self._pictures[picture] = len(content)
            while sum(self._pictures.values()) > self._max_bytes:
                self._forget(next(iter(self._pictures)))

    def texts(self, picture: PurePath) -> Mapping[str, str]:
        known = self._texts.pop(picture, None)
        if known is not None:
            return known
        return picture_texts(self.folder, picture) if picture in self._pictures else self._read_texts(picture)

    def publish(self, file: PurePath, content: bytes) -> None:
        self._store.write(file.as_posix(), content)

    def _bring(self, names: Iterable[str]) -> set[str]:
        """Reads records, several at a time. Returns the names of those that cannot be read."""
        names = list(names)
        if not names:
            return set()
        with ThreadPoolExecutor(READERS, "safelight-read") as readers:
            return {
                name for name, is_read in zip(names, readers.map(self._bring_one, names), strict=True) if not is_read
            }

    def _bring_one(self, name: str) -> bool:
        """Brings a record into the folder. Returns whether it can be read."""
        try:
            if self._is_new(PurePath(name), self._store.read(name, MAX_MANIFEST_BYTES)):
                self._bring_texts(PurePath(name))
        except (StoreError, OSError) as error:  # deleted since it was listed, or a file has the name of a folder
            log.debug("%s is not read: %s", name, error)
            return False
        return True

    def _is_new(self, record: PurePath, content: bytes) -> bool:
        """Writes a record into the folder, unless it is there. Returns whether it is the new record of a run."""
        if self._content(record) == content:
            return False
        if record.name == MANIFEST_NAME:
            self._forget_pictures(record.parent)
        write_below(self.folder, record, content)
        return record.name == MANIFEST_NAME

    def _bring_texts(self, record: PurePath) -> None:
        try:
            picture = run_summary(read_manifest(self.folder / record.parent, self.folder))["thumbnail"]
        except ManifestError:  # the library says so
            return
        if picture is not None:
            self._texts[record.parent / picture] = self._read_texts(record.parent / picture)

    def _content(self, record: PurePath) -> bytes | None:
        with suppress(OSError):
            return (self.folder / record).read_bytes()
        return None

    def _read_texts(self, picture: PurePath) -> Mapping[str, str]:
        """The texts of a picture in the store, of which only the parts with the texts are read."""
        try:
            with self._store.open_file(picture.as_posix()) as file:
                return texts_in(file)
        except Exception as error:  # of fsspec while it reads, whatever package is below it
            log.debug("no texts: %s", describe(error))
            return {}

    def _remove(self, name: str) -> bool:
        """Removes a record that the store has no more. Returns whether it is gone: Windows deletes no file in use."""
        try:
            (self.folder / name).unlink(missing_ok=True)
        except PermissionError:
            return False
        except OSError:  # it was never brought: a file has the name of its folder
            pass
        if PurePath(name).name == MANIFEST_NAME:
            self._forget_pictures(PurePath(name).parent)
        return True

    def _forget_pictures(self, folder: PurePath) -> None:
        """Removes the pictures of a run that has changed: one of the same name may be another one."""
        with self._changing:
            for picture in [picture for picture in self._pictures if picture.parent == folder]:
                self._forget(picture)

    def _forget(self, picture: PurePath) -> None:
        del self._pictures[picture]
        with suppress(OSError):
            (self.folder / picture).unlink()


def _is_record(name: str) -> bool:
    """Whether a path in a store is that of a record where the library searches."""
    path = PurePosixPath(name)
    return (
        path.name in RECORDS
        and path.as_posix() == name
        and len(path.parts) <= MAX_FOLDER_DEPTH + 1
        and (len(path.parts) == 1 or is_run_path(path.parent.as_posix()))
        and _is_possible(name)
    )


def _is_possible(name: str) -> bool:
    """Whether a file of this machine can have a name: stores allow more characters."""
    try:
        return b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
