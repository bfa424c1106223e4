"""Folders of runs inside the output folder of a host."""

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path, PurePath

from ..errors import GoneError, SinkError, brief
from .file_names import name_problem
from .manifest import MANIFEST_NAME
from .sinks.latent_files import MB, Room

DISK_RESERVE_BYTES = 500 * MB  # that latents leave free on the disk
# With these errors a folder can never exist at a path. Other errors, such as a full disk, may be gone in an hour.
PERMANENT_ERRORS = (errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ)
# The first run of a prompt has a numbered folder; the others have folders in it.
FIRST_INNER_RUN = 2
INNER_FOLDER = re.compile(r"run_\d{3,}")


def absolute_path(path: str | os.PathLike[str]) -> Path:
    """The path from the root, with the home folder in place of `~`, so that a later `chdir` does not move it."""
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:  # no home folder is known
        return Path(path).absolute()


def expect_no_file(folder: Path, what: str) -> None:
    """Checks that no file has the place of `folder`, which need not exist, or of a folder above it.

    Args:
        folder: path of the folder.
        what: name of the option that it comes from.

    Raises:
        SinkError: a file is in its place.
    """
    blocking = next((part for part in (folder, *folder.parents) if part.exists() and not part.is_dir()), None)
    if blocking is not None:
        raise SinkError(f"{what}: expected a folder, but {blocking} is a file; choose another path")


def existing_folder(output: Path, typed: str) -> Path:
    """The folder that a user typed as a path in the output folder `output`.

    Raises:
        GoneError: it does not exist, or is outside the output folder.
    """
    output = output.resolve()
    try:
        path = (output / typed).resolve()
        inside, exists = path.is_relative_to(output), path.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL character, a link to itself
        raise GoneError(f"{brief(typed)}: not a path: {brief(error)}") from None
    if not inside:
        raise GoneError(f"{brief(typed)}: leads out of the output folder; runs are loaded from this folder only")
    if not exists:
        raise GoneError(f"{brief(typed)}: there is no such folder in the output folder; choose another run")
    return path


def prefix_folder(output: Path, prefix: str) -> Path:
    """The path that a filename prefix leads to in the output folder `output`. The run's folder has a number behind it.

    Raises:
        SinkError: no folder can exist there, or the path is outside the output folder.
    """
    check_prefix_name(prefix)
    path = (output / prefix).resolve()
    if output.resolve() not in path.parents:
        raise SinkError(
            f"filename_prefix {prefix!r}: expected a path inside the output folder, such as safelight/steps"
        )
    blocking = next((part for part in path.parents if part.exists() and not part.is_dir()), None)
    if blocking is not None:
        raise SinkError(f"filename_prefix {prefix!r}: {blocking.name} is a file; choose another path")
    return path


def check_prefix_name(prefix: str, path: str | None = None, create: Callable[[str], object] | None = None) -> None:
    """Checks before a run begins that a folder can exist at the path of a filename prefix.

    A full or read-only disk passes: it costs the files, not the run.

    Args:
        prefix: as the user typed it.
        path: the prefix with its variables replaced; None if it has none.
        create: the host's own function that creates the parent folder of `path`.

    Raises:
        SinkError: no folder can ever exist there, or its runs would not be found.
        Exception: any that `create` raises, except OSError.
    """
    path = prefix if path is None else path
    if problem := _prefix_problem(path):
        raise SinkError(f"filename_prefix {brief(prefix)}: {problem}; choose another path in the output folder")
    try:
        if create is not None:
            create(path)
    except OSError as error:
        if error.errno in PERMANENT_ERRORS:
            raise SinkError(
                f"filename_prefix {brief(prefix)}: no folder can be created there ({error.strerror}); "
                "choose another path in the output folder"
            ) from None


def _prefix_problem(path: str) -> str | None:
    """The reason why no run can be saved at the path of a filename prefix, or found there; None if one can."""
    path = path.removeprefix(PurePath(path).anchor if PurePath(path).is_absolute() else "")  # of a drive, on Windows
    parts = PurePath(os.path.normpath(path or ".")).parts
    if not parts or parts[-1] == "..":
        return "it names no folder inside the output folder"
    if any(part.startswith(".") and part != ".." for part in parts):
        return "a folder whose name begins with a dot is hidden, and its runs would not be listed"
    return name_problem(path)


def numbered_folder(parent: Path, name: str, first: int = 1) -> Path:
    """The first path that does not exist of `<name>_00001`, `<name>_00002` and so on in `parent`.

    Args:
        parent: folder; it need not exist.
        name: of the folder, without its number.
        first: number to begin with.
    """
    return _free(_numbered(parent, name, first))


def create_numbered_folder(parent: Path, name: str, first: int = 1) -> Path:
    """Creates `numbered_folder` immediately, so that two runs never share one. Arguments as there.

    If the folder cannot be created, its path is returned: the sink that opens it reports the reason.
    """
    return _create_free(_numbered(parent, name, first))


def create_inner_folder(folder: Path) -> Path:
    """Creates the next free `run_002`, `run_003` and so on in the folder of a prompt's first run.

    If it cannot be created, its path is returned, as by `create_numbered_folder`.
    """
    return _create_free(folder / f"run_{i:03d}" for i in count(FIRST_INNER_RUN))


def is_inner_folder(name: str) -> bool:
    """Whether a folder with this name, in the folder of a run, is that of a further run of the same prompt."""
    return INNER_FOLDER.fullmatch(name) is not None


def run_title(folder: Path) -> str:
    """The name of a saved run in messages: `steps_00001`, or `steps_00001/run_002` of a further run of a prompt."""
    is_inner = is_inner_folder(folder.name) and (folder.parent / MANIFEST_NAME).is_file()
    return f"{folder.parent.name}/{folder.name}" if is_inner else folder.name


def _numbered(parent: Path, name: str, first: int) -> Iterator[Path]:
    return (parent / f"{name}_{i:05d}" for i in count(first))


def _free(paths: Iterator[Path]) -> Path:
    return next(path for path in paths if not os.path.lexists(path))


def _create_free(paths: Iterator[Path]) -> Path:
    while True:
        folder = _free(paths)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # another run was quicker
            continue
        except OSError:
            pass
        return folder


def disk_room(folder: Path) -> Room:
    """The room for latents on the disk of `folder`, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return Room(shutil.disk_usage(folder).free - DISK_RESERVE_BYTES, "the disk")
