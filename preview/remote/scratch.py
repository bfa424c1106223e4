"""Folders of this machine for runs whose place is a store."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from ..output_folder import is_inner_folder
from ..run import Run
from ..sinks.run_folder import RunFolder
from .remote_copy import RemoteCopy

PREFIX = "safelight-"


def scratch_folder() -> Path:
    """Creates an empty folder that only this user can read."""
    return Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()


def scratch_run(path: Path, run: Run) -> RunFolder:
    """The folder of a run in a scratch folder. Notes name it by its path, because it is not where the user looks."""
    return RunFolder(path, run, str(path))


def remove_when_unused(folder: RunFolder, copy: RemoteCopy) -> Callable[[], object]:
    """Removes a scratch folder when its object is not used any more, or when the program ends.

    If a file of it is not copied, it stays.

    Returns:
        A function that does it now.
    """
    return weakref.finalize(folder, partial(_remove, folder.path, copy.uploads.waiting))


def _remove(path: Path, waiting: Mapping[str, int]) -> None:
    if waiting:
        return
    with suppress(OSError):
        for entry in path.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                if not is_inner_folder(entry.name):  # a further run of the prompt removes its own
                    shutil.rmtree(entry)
            else:
                entry.unlink()
        for folder in (path, *path.parents):
            folder.rmdir()  # unless another run is in it
            if folder.name.startswith(PREFIX):
                break
