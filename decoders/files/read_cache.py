"""What was read of a file, kept until the file changes."""

from collections.abc import Callable, Hashable
from functools import lru_cache
from pathlib import Path
from time import time_ns
from typing import Any, NamedTuple, TypeVar

from ...errors import DecoderFileError

SETTLED_NS = 3_000_000_000  # within it a file may change again without its time showing it: FAT counts in 2 s
MAX_CACHED = 1024

T = TypeVar("T")


class FileStamp(NamedTuple):
    """What tells a file from what it was."""

    path: Path
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """The stamp of a file that is there.

        Raises:
            OSError: it is not.
        """
        facts = path.stat()
        return cls(path, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)

    @property
    def is_settled(self) -> bool:
        """Whether the file cannot change any more without its stamp showing it."""
        return abs(time_ns() - max(self.mtime_ns, self.ctime_ns)) >= SETTLED_NS


class CachedRefusal(NamedTuple):
    """An error without what it holds on to: its frames, and in them the file's content."""

    kind: type[DecoderFileError]
    text: str


def read_cached(read: Callable[..., T], path: Path, *rest: Hashable) -> T:
    """`read(path, *rest)`, which depends on nothing but the file; not asked again while the file is as it was.

    Raises:
        DecoderFileError: `read` does.
    """
    try:
        stamp = FileStamp.of(path)
    except (OSError, ValueError):  # not there, or no path at all: `read` says it better
        return read(path, *rest)
    outcome = (_kept_outcome if stamp.is_settled else _outcome)(read, stamp, *rest)
    if isinstance(outcome, CachedRefusal):
        raise outcome.kind(outcome.text)
    return outcome


def _outcome(read: Callable[..., Any], stamp: FileStamp, *rest: Hashable) -> Any:
    try:
        return read(stamp.path, *rest)
    except DecoderFileError as error:
        return CachedRefusal(type(error), str(error))


_kept_outcome = lru_cache(MAX_CACHED)(_outcome)
