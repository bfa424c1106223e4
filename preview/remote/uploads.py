"""Copies the files of a run's folder into a store, on a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import final

from ...decoders.files.contained_file import read_below
from ...errors import StoreError, describe
from ..decode.memory_budget import MB
from ..manifest import MANIFEST_NAME
from ..sinks.run_group import PAGE_NAME
from .store import Store

# Pauses after failed tries, about a minute together. Then the copy waits for the next file of the run.
PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
WAIT_S = 75.0  # for the end of all tries; a store that hangs does not answer in this time
MAX_FILE_BYTES = 2048 * MB

log = logging.getLogger("safelight.remote")


@final
class Uploads:
    """The files of one folder that the store does not have yet.

    Only names wait. A file that was written again is copied once, with its newest content. `run.json` is copied after
    all files that it lists, so a reader of the store never misses one. The thread ends when nothing is left.

    Args:
        folder: folder of the run.
        open_store: function that opens the store's folder for the run; called by the thread.
        report: function that receives the names of files that are not copied, and the reason, after the end of the run.
        pause: function that waits for so many seconds.
    """

    def __init__(
        self,
        folder: Path,
        open_store: Callable[[], Store],
        report: Callable[[Sequence[str], str], object],
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._folder, self._open_store, self._report, self._pause = folder, open_store, report, pause
        self._store: Store | None = None
        self._waiting: dict[str, int] = {}  # names, each with the number of its newest change
        self._changes = 0
        self._copying = self._begun = self._ended = self._gave_up = False
        self._reason = ""
        self._idle = threading.Event()
        self._idle.set()
        self._changing = threading.Lock()

    @property
    def waiting(self) -> Mapping[str, int]:
        """Names of the files that are not copied."""
        return self._waiting

    def changed(self, name: str) -> None:
        """Adds a file that was written. Returns immediately; any thread may call it.

        The copy begins with the first file of a step: a run without steps removes its folder again.

        Args:
            name: path of the file in the folder.
        """
        with self._changing:
            self._changes += 1
            self._waiting[name] = self._changes
            self._begun |= name not in (MANIFEST_NAME, PAGE_NAME)
            is_report = self._ended and self._gave_up and name == MANIFEST_NAME  # `run.json` with our own note
            if self._begun and not is_report:
                self._start()

    def end(self) -> None:
        """Reports that the run has ended. From now on, files that cannot be copied are named."""
        with self._changing:
            self._begun = self._ended = True
            if self._waiting:
                self._start()

    def wait(self, timeout_s: float = WAIT_S) -> None:
        """Waits until all files are copied, or until they are named because they cannot be copied."""
        if not self._idle.wait(timeout_s):
            self._report(self._names(), f"the store did not answer within {timeout_s:g} s")

    def _start(self) -> None:
        if not self._copying:
            self._copying = True
            self._idle.clear()
            threading.Thread(target=self._copy, name="safelight-copy", daemon=True).start()

    def _copy(self) -> None:
        """Copies until nothing is left, or until all tries failed."""
        try:
            while self._copy_with_pauses() and not self._is_done():
                pass
        except Exception as error:  # a fault of ours must not leave the end of the run waiting
            log.debug("the copy of a run stopped", exc_info=True)
            self._stop(describe(error))

    def _is_done(self) -> bool:
        with self._changing:
            if not self._waiting:
                self._rest()
            return not self._waiting

    def _rest(self) -> None:
        self._copying = False
        self._idle.set()

    def _copy_with_pauses(self) -> bool:
        """Copies what is waiting. Returns False if no try succeeded."""
        for pause_s in (*PAUSES_S, None):
            try:
                self._copy_waiting()
            except StoreError as error:
                if pause_s is None or error.is_lasting:
                    self._stop(str(error))
                    return False
                self._log_failure(str(error))
                self._pause(pause_s)
            else:
                self._reason, self._gave_up = "", False
                return True
        return False

    def _copy_waiting(self) -> None:
        """Copies all files that are waiting now, `run.json` last.

        Raises:
            StoreError: a file cannot be copied, or not be read at the moment. It is still waiting.
        """
        if self._store is None:
            self._store = self._open_store()
        # Read before the list of files is taken: every file that it names was written before, so it is in the list.
        record_change = self._waiting.get(MANIFEST_NAME)
        record = None if record_change is None else self._content(MANIFEST_NAME)
        with self._changing:
            waiting = [(name, change) for name, change in self._waiting.items() if name != MANIFEST_NAME]
        for name, change in waiting:
            content = self._content(name)
            if content is not None:
                self._store.write(name, content)
            self._forget(name, change)
        if record_change is not None:
            if record is not None:
                self._store.write(MANIFEST_NAME, record)
            self._forget(MANIFEST_NAME, record_change)

    def _content(self, name: str) -> bytes | None:
        """The content of a file; None if it does not exist any more, or is a link.

        Raises:
            StoreError: it cannot be read at the moment. On Windows, another program may have it for itself.
        """
        try:
            return read_below(self._folder, PurePath(name), MAX_FILE_BYTES)
        except PermissionError as error:
            raise StoreError(f"{name} cannot be read: {describe(error)}") from None
        except OSError as error:
            log.info("%s is not copied: %s", name, describe(error))
            return None

    def _forget(self, name: str, change: int) -> None:
        """Removes a file that is copied, unless it was written again."""
        with self._changing:
            if self._waiting.get(name) == change:
                del self._waiting[name]

    def _log_failure(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            log.warning("files of a run wait to be copied, and are tried again: %s", reason)

    def _stop(self, reason: str) -> None:
        """Stops trying. When the run has ended, the files are named."""
        self._log_failure(reason)
        with self._changing:
            self._gave_up = True
            if not self._ended:
                self._rest()
                return
        self._report(self._names(), reason)
        with self._changing:
            self._rest()

    def _names(self) -> list[str]:
        with self._changing:
            return sorted(self._waiting)
