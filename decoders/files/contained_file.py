"""Reads and writes files inside a folder without following links, even if another program moves folders meanwhile."""

import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import BinaryIO

from .regular_file import EXPECTED_FILE, NO_FOLLOW, NON_BLOCKING, NotRegularFileError, TooLargeError

# Windows opens files by path only. There the parts are checked before, which leaves a moment between check and use.
HAS_FOLDER_HANDLES = os.open in os.supports_dir_fd and bool(NO_FOLLOW)
# There, a file that another program reads cannot be replaced: a viewer, a virus scanner. Most let go in this time.
REPLACE_PAUSES_S = (0.01, 0.02, 0.04, 0.08)
JUNCTION = 0xA0000003  # reparse tag of a folder of Windows that leads to another one, as a link does


def open_below(folder: Path, relative: PurePath) -> BinaryIO:
    """Opens the regular file `relative` in `folder` for reading.

    Args:
        folder: folder that may be reached over links.
        relative: path in it; no part may be a link or `..`.

    Raises:
        OSError: it does not exist, is no regular file, or a part of `relative` is a link.
    """
    try:
        with _parent(folder, relative) as (parent, name):
            handle = os.open(name, os.O_RDONLY | NON_BLOCKING | NO_FOLLOW, dir_fd=parent)
    except ValueError as error:  # the path contains half of a surrogate pair
        raise OSError(0, str(error)) from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotRegularFileError(errno.ELOOP, EXPECTED_FILE) from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotRegularFileError(0, EXPECTED_FILE)
    return os.fdopen(handle, "rb")


def read_below(folder: Path, relative: PurePath, max_bytes: int) -> bytes:
    """Reads the regular file `relative` in `folder`.

    Raises:
        TooLargeError: it has more than `max_bytes`.
        OSError: as for `open_below`.
    """
    with open_below(folder, relative) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise TooLargeError(0, f"more than {max_bytes:,} bytes")
    return content


def write_below(folder: Path, relative: PurePath, content: bytes) -> None:
    """Writes the file `relative` in `folder`, so that it is complete or absent. Missing folders are created.

    The content goes to a new file with a random name, which is then renamed: a file or link that exists under any
    predictable name is never written to.

    Raises:
        OSError: it cannot be written, or a part of `relative` is a link.
    """
    with _parent(folder, relative, create=True) as (parent, name):
        partial = _beside(name, f".{PurePath(name).name}.{uuid.uuid4().hex}.part")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW | getattr(os, "O_BINARY", 0)
        try:
            with os.fdopen(os.open(partial, flags, 0o666, dir_fd=parent), "wb") as file:
                fill(file, content)
            _replace(partial, name, parent)
        except BaseException:
            with suppress(OSError):
                os.unlink(partial, dir_fd=parent)
            raise


def move_below(folder: Path, source: PurePath, target: PurePath) -> None:
    """Moves the folder `source` in `folder` to `target` in `folder`. Missing folders around `target` are created.

    Raises:
        OSError: `source` is no folder, `target` exists, they are on two disks, or a part of a path is a link.
    """
    with _parent(folder, source) as (old, name), _parent(folder, target, create=True) as (new, new_name):
        if not stat.S_ISDIR(os.stat(name, dir_fd=old, follow_symlinks=False).st_mode):
            raise NotRegularFileError(errno.ENOTDIR, "expected a folder, got a link or a file")
        try:
            os.stat(new_name, dir_fd=new, follow_symlinks=False)
        except FileNotFoundError:
            os.rename(name, new_name, src_dir_fd=old, dst_dir_fd=new)
        else:
            raise FileExistsError(errno.EEXIST, "the folder exists", new_name)


def remove_below(folder: Path, relative: PurePath) -> None:
    """Removes the folder `relative` in `folder` with everything in it. Links in it are removed, not followed.

    Raises:
        OSError: it is no folder, something in it cannot be removed, or a part of `relative` is a link.
    """
    with _parent(folder, relative) as (parent, name):
        try:
            _remove_tree(parent, name)
        except RecursionError:  # of `os.fwalk` before Python 3.12, and of `shutil.rmtree`
            raise OSError(errno.ENAMETOOLONG, "too many folders inside each other") from None


def _remove_tree(parent: int | None, name: str) -> None:
    if parent is None:
        shutil.rmtree(name)
        return
    for _, folders, files, inner in os.fwalk(name, topdown=False, dir_fd=parent):
        for file in files:
            os.unlink(file, dir_fd=inner)
        for each in folders:
            try:
                os.rmdir(each, dir_fd=inner)
            except NotADirectoryError:  # a link to a folder
                os.unlink(each, dir_fd=inner)
    os.rmdir(name, dir_fd=parent)


def fill(file: BinaryIO, content: bytes) -> None:
    """Writes the content of a new file. A function of its own, so that a test can stop in the middle of it."""
    file.write(content)


def _replace(partial: str, name: str, parent: int | None) -> None:
    """Renames a file over another. Without folder handles, it tries again if the other one is in use."""
    pauses = REPLACE_PAUSES_S if parent is None else ()
    for pause_s in (*pauses, None):
        try:
            os.replace(partial, name, src_dir_fd=parent, dst_dir_fd=parent)
        except PermissionError:
            if pause_s is None:
                raise
            time.sleep(pause_s)
        else:
            return


def _beside(name: str, other: str) -> str:
    """`other` next to `name`, which has a folder before it where there are no folder handles."""
    return str(PurePath(name).with_name(other))


@contextmanager
def _parent(folder: Path, relative: PurePath, *, create: bool = False) -> Iterator[tuple[int | None, str]]:
    """Yields a handle of the folder of `relative`, and the file's name in it. Without handles: None and the path."""
    parts = relative.parts
    # On Windows, `C:name` and `\name` are not absolute, and lead out as well.
    if not parts or relative.anchor or ".." in parts or "\0" in str(relative):
        raise OSError(0, "expected a path inside the folder")
    if not HAS_FOLDER_HANDLES:
        yield None, str(_checked(folder, parts, create=create))
        return
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=parent)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW, dir_fd=parent)
            os.close(parent)
            parent = inner
        yield parent, parts[-1]
    finally:
        os.close(parent)


def _checked(folder: Path, parts: tuple[str, ...], *, create: bool) -> Path:
    path = folder
    for i, part in enumerate(parts):
        path = path / part
        if create and i < len(parts) - 1:
            path.mkdir(exist_ok=True)
        if _is_link(path):
            raise NotRegularFileError(0, f"{part} is a link")
    return path


def _is_link(path: Path) -> bool:
    try:
        facts = os.lstat(path)
    except (OSError, ValueError):  # it does not exist, or the name cannot
        return False
    return stat.S_ISLNK(facts.st_mode) or getattr(facts, "st_reparse_tag", 0) == JUNCTION
