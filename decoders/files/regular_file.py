"""Reads regular files only (no pipes or devices, on request no symlinks), up to a size limit."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

# Flags that exist only on some systems. Without O_NONBLOCK, opening a pipe without a writer would wait forever.
NON_BLOCKING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


EXPECTED_FILE = "expected a file, got a link, a folder or a device"


class NotRegularFileError(OSError):
    """The path is a folder, a pipe or a device."""


class TooLargeError(OSError):
    """The file is larger than the caller's limit."""


def open_regular_file(path: Path, *, links: bool = True) -> BinaryIO:
    """Opens a regular file for reading.

    Args:
        path: path of the file.
        links: whether `path` may be a symlink to a file.

    Raises:
        NotRegularFileError: it is not a regular file, or a link.
        OSError: it cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY | NON_BLOCKING | (0 if links else NO_FOLLOW))
    except ValueError as error:  # the path contains NUL or half of a surrogate pair
        raise OSError(0, str(error)) from None
    except OSError as error:
        if error.errno == errno.ELOOP and not links:
            raise NotRegularFileError(0, EXPECTED_FILE) from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode) or (not links and path.is_symlink()):
        os.close(handle)
        raise NotRegularFileError(0, EXPECTED_FILE)
    return os.fdopen(handle, "rb")


def read_regular_file(path: Path, max_bytes: int, *, links: bool = True) -> bytes:
    """Reads a regular file; `path` and `links` as for `open_regular_file`.

    Raises:
        TooLargeError: the file has more than `max_bytes`, or grew beyond them during the read.
        OSError: as for `open_regular_file`.
    """
    with open_regular_file(path, links=links) as file:
        if (size := os.fstat(file.fileno()).st_size) > max_bytes:
            raise TooLargeError(0, f"{size:,} bytes")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise TooLargeError(0, f"more than {max_bytes:,} bytes")
    return content
