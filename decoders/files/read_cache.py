"""Caches the results of file reads until the file changes."""

import os
from collections.abc import Callable, Hashable
from functools import lru_cache
from pathlib import Path
from time import time_ns
from typing import Any, NamedTuple, TypeVar

from ...errors import DecoderFileError

SETTLED_NS = (
    3_000_000_000  # a change within this time may leave the file's time as it is: FAT stores it in steps of 2 s
)
MAX_CACHED_READS = 1024

T = TypeVar("T")


class FileStamp(NamedTuple):
    """The facts that change when a file changes."""

    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """Returns the stamp of an existing file.

        Raises:
            OSError: the file does not exist or is not accessible.
        """
        facts = path.stat()
        return cls(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)

    @property
    def is_settled(self) -> bool:
        """Whether each further change of the file will change its stamp."""
        return abs(time_ns() - max(self.mtime_ns, self.ctime_ns)) >= SETTLED_NS


class FolderStamp(NamedTuple):
    """The facts that change when a file in a folder changes: name, size, times and inode of each."""

    path: Path
    files: tuple[tuple[str, int, int, int, int], ...]

    @classmethod
    def of(cls, path: Path) -> "FolderStamp":
        """Returns the stamp of an existing folder.

        Raises:
            OSError: the folder or a file in it does not exist or is not accessible.
        """
        with os.scandir(path) as entries:
            found = [(entry.name, entry.stat()) for entry in entries]
        rows = [(name, it.st_size, it.st_mtime_ns, it.st_ctime_ns, it.st_ino) for name, it in found]
        return cls(path, tuple(sorted(rows)))

    @property
    def is_settled(self) -> bool:
        """Whether each further change of a file will change the stamp."""
        newest_ns = max((max(row[2], row[3]) for row in self.files), default=0)
        return abs(time_ns() - newest_ns) >= SETTLED_NS


class CachedError(NamedTuple):
    """An error without its traceback, whose frames would hold the file's content in memory."""

    kind: type[DecoderFileError]
    text: str


def read_cached(
    read: Callable[..., T],
    path: Path,
    *rest: Hashable,
    stamp_of: Callable[[Path], FileStamp | FolderStamp] = FileStamp.of,
) -> T:
    """Returns `read(path, *rest)`, from the cache while the file is unchanged; its result must depend only on the file.

    Args:
        read: function that reads the file.
        path: path of the file, or of a folder with all files that are read.
        rest: further arguments of `read`.
        stamp_of: function that returns the stamp of `path`: that of a file or that of a folder.

    Raises:
        DecoderFileError: from `read`; it is cached, too.
    """
    try:
        stamp = stamp_of(path)
    except (OSError, ValueError):  # the path does not exist or is invalid: `read` explains it better
        return read(path, *rest)
    outcome = (_cached_outcome if stamp.is_settled else _outcome)(read, stamp, *rest)
    if isinstance(outcome, CachedError):
        raise outcome.kind(outcome.text)
    return outcome


def _outcome(read: Callable[..., Any], stamp: FileStamp | FolderStamp, *rest: Hashable) -> Any:
    try:
        return read(stamp.path, *rest)
    except DecoderFileError as error:
        return CachedError(type(error), str(error))


_cached_outcome = lru_cache(MAX_CACHED_READS)(_outcome)
