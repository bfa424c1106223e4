"""The copy of a run in a store, as a sink."""

import logging
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePath
from typing import final

from ...errors import OptionError
from ..missing_steps import name_steps
from ..run import State
from ..sinks.base import Delivery, Sink
from ..sinks.run_folder import RunFolder
from .address import setting_address
from .store import Store
from .uploads import WAIT_S, Uploads

STEP_FILE = re.compile(r"step_(\d{4,})\D")
ID_CHARS = 8  # of a run's id, in the name of its copy: two machines never write into the same one

log = logging.getLogger("safelight.remote")


@final
class RemoteCopy(Sink):
    """Copies every file of a run's folder into a store, while the run goes on and after it.

    Open it before the folder and close it after it. No method waits for the store but `wait`.

    Args:
        folder: folder of the run.
        address: address of the copy, from `checked_address`; empty for no copy. Or a function that returns it or raises
            an `OptionError`; the worker calls it.
        pause: function that waits for so many seconds.

    Attributes:
        address: address of the copy; empty if there is none, or if it is not known yet.
    """

    name = "copy"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(
        self,
        folder: RunFolder,
        address: str | Callable[[], str],
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._folder = folder
        self._find_address = address if callable(address) else lambda: address
        self.uploads = Uploads(folder.path, self._open_store, self._report, pause)
        self.address = address if isinstance(address, str) else ""

    def open(self) -> None:
        try:
            self.address = self._find_address()
        except OptionError as error:
            self._folder.run.note(f"the run is not copied: {error}")
            return
        if self.address:
            self._folder.on_write = self.uploads.changed

    def close(self, state: State) -> None:
        if self._folder.path.is_dir():  # a run without steps has removed it
            self.uploads.end()

    def wait(self, timeout_s: float = WAIT_S) -> None:
        """Waits until all files are copied, or until a note names those that are not."""
        self.uploads.wait(timeout_s)

    def _open_store(self) -> Store:
        return Store.open(self.address)

    def _report(self, names: Sequence[str], reason: str) -> None:
        if not names:
            return
        self._folder.run.note(f"not copied: {name_files(names)}; {self._folder.title} has them", reason)
        with suppress(OSError, MemoryError):
            self._folder.save()


def name_files(names: Sequence[str]) -> str:
    """All files of a run in few words: `files of steps 3-20, run.json, sheet.png`."""
    steps = [int(match[1]) for name in names if (match := STEP_FILE.match(name))]
    others = [name for name in names if not STEP_FILE.match(name)]
    return ", ".join([*([f"files of {name_steps(steps)}"] if steps else []), *others])


def copy_of_saved_run(
    folder: RunFolder, first: RunFolder, output: Path, setting: Callable[[], str], what: str
) -> RemoteCopy:
    """The copy of a run that a host saves in its output folder. There is none if the user's setting is empty.

    Args:
        folder: folder of the run.
        first: folder of the first run of the same prompt, which `folder` is in; `folder` itself if it is the first.
        output: the host's output folder.
        setting: function that returns the setting with the address of all copies; the worker calls it.
        what: name of the setting.
    """

    def address() -> str:
        of_first = _saved_address(first.path, first.run.id, output, setting_address(setting(), what))
        return of_first if folder is first or not of_first else f"{of_first}/{folder.path.name}"

    return RemoteCopy(folder, address)


def copy_saved_folder(path: Path, run_id: str, output: Path, setting: Callable[[], str], what: str) -> None:
    """Copies the folder of a run that has ended, on a thread of its own. The log names files that are not copied.

    Args:
        path: folder of the run.
        run_id: id of the run.
        output: the host's output folder.
        setting: function that returns the setting with the address of all copies.
        what: name of the setting.
    """
    try:
        address = _saved_address(path, run_id, output, setting_address(setting(), what))
    except OptionError as error:
        log.warning("%s is not copied: %s", path.name, error)
        return
    if address:
        uploads = Uploads(path, partial(Store.open, address), partial(_log_missing, path.name))
        for file in (found for found in path.rglob("*") if found.is_file()):
            uploads.changed(file.relative_to(path).as_posix())
        uploads.end()


def _log_missing(title: str, names: Sequence[str], reason: str) -> None:
    log.warning("not copied: %s; %s has them: %s", name_files(names), title, reason)


def _saved_address(path: Path, run_id: str, output: Path, base: str) -> str:
    """The address of the copy of a saved run; empty without a base."""
    inside = path.relative_to(output) if path.is_relative_to(output) else PurePath(path.name)
    return copy_address(base, inside.as_posix(), run_id)


def copy_address(base: str, name: str, run_id: str) -> str:
    """The address of a run's copy, which no other run has.

    Args:
        base: address that the user typed, for all runs; empty for no copies.
        name: path of the run's folder in the folder of runs, with slashes.
        run_id: id of the run.
    """
    return f"{base.rstrip('/')}/{name}_{run_id[:ID_CHARS]}" if base else ""
