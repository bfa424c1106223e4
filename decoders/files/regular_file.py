"""The bytes of a plain file, however many there come to be and whatever else has its name."""

import os
import stat
from pathlib import Path
from typing import BinaryIO

# Where a system knows them: a pipe that nobody writes to would be waited for.
AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class NotRegularFileError(OSError):
    """It is a folder, a pipe, a device: nothing that has an end."""


class TooLargeError(OSError):
    """It has more bytes than whoever reads it wants."""


def open_regular_file(path: Path, *, links: bool = True) -> BinaryIO:
    """A plain file, open for reading.

    Args:
        path: of the file.
        links: whether it may be a link to one.

    Raises:
        NotPlainError: it is none.
        OSError: it cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY | AT_ONCE | (0 if links else NO_LINK))
    except ValueError as error:  # no system has a NUL or half a character in a path
        raise OSError(0, str(error)) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode) or (not links and path.is_symlink()):
        os.close(handle)
        raise NotRegularFileError(0, "expected a file, got a link, a folder or a device")
    return os.fdopen(handle, "rb")


def read_regular_file(path: Path, max_bytes: int, *, links: bool = True) -> bytes:
    """All of a plain file; arguments as of `open_plain`.

    Raises:
        TooLargeError: it has more than `max_bytes`, or came to have them while it was read.
        OSError: as `open_plain`.
    """
    with open_regular_file(path, links=links) as file:
        if (size := os.fstat(file.fileno()).st_size) > max_bytes:
            raise TooLargeError(0, f"{size:,} bytes")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise TooLargeError(0, f"more than {max_bytes:,} bytes")
    return content
