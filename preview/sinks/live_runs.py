"""The runs of this process that a viewer can show, under a byte budget."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import final

from ..picture import DecodedPicture
from ..run import Run
from .base import Delivery, Sink
from .run_folder import RunFolder

DEFAULT_BUDGET_BYTES = 512 << 20
MAX_LIVE_RUNS = 500  # their manifests are in memory, however small their files are


@final
class LiveRuns:
    """Runs in a temporary folder. When their files exceed a byte budget, the oldest runs are removed.

    Args:
        max_runs: maximum number of runs, whatever their size.
    """

    def __init__(self, max_runs: int = MAX_LIVE_RUNS) -> None:
        self._max_runs = max_runs
        self._folders: dict[str, RunFolder] = {}  # by id, newest last
        self._changing = threading.Lock()

    def new(self, run: Run, root: Path) -> RunFolder:
        """Adds a run with a folder in `root`. It writes and removes nothing, because the sampler's thread calls it."""
        folder = RunFolder(root / run.id, run)
        with self._changing:
            self._folders[run.id] = folder
        return folder

    def make_room(self, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        """Removes the oldest runs until the rest is within the budget. Running runs stay.

        If the host failed before a run began, the run never ends. Such runs are removed when there are twice as many
        runs as allowed.

        Args:
            budget_bytes: largest size of all files together.
        """
        with self._changing:
            removed = self._over_budget(budget_bytes)
            for folder in removed:
                del self._folders[folder.run.id]
        for folder in removed:
            shutil.rmtree(folder.path, ignore_errors=True)

    def of(self, **host: str | None) -> list[RunFolder]:
        """The folders of all runs with these host facts, newest first."""
        with self._changing:
            folders = list(reversed(self._folders.values()))
        return [folder for folder in folders if all(folder.run.host.get(key) == host[key] for key in host)]

    def folder(self, run_id: str) -> RunFolder | None:
        """The folder of a run; None if there is no such run, or if it was removed."""
        with self._changing:
            return self._folders.get(run_id)

    def file(self, run_id: str, name: str) -> Path | None:
        """The path of a file that the run's manifest lists. `name` is only compared with the names in the manifest."""
        folder = self.folder(run_id)
        return folder.path / name if folder is not None and name in folder.files() else None

    def _over_budget(self, budget_bytes: int) -> list[RunFolder]:
        total = sum(folder.size_bytes for folder in self._folders.values())
        removed: list[RunFolder] = []
        for folder in self._folders.values():
            count = len(self._folders) - len(removed)
            if total <= budget_bytes and count <= self._max_runs:
                break
            if folder.state != "running" or count > 2 * self._max_runs:
                total -= folder.size_bytes
                removed.append(folder)
        return removed


@final
class EvictOldRuns(Sink):
    """Removes old runs on the worker's thread when a run begins and while it grows. Put it after the sinks that write.

    Args:
        runs: all live runs.
        budget_bytes: function that returns the budget; it is called when the run begins, as the user may change it.
    """

    name = "room for the run"
    delivery = Delivery.NEWEST

    def __init__(self, runs: LiveRuns, budget_bytes: Callable[[], int]) -> None:
        self._runs, self._get_budget = runs, budget_bytes
        self._budget_bytes = DEFAULT_BUDGET_BYTES

    def open(self) -> None:
        self._budget_bytes = self._get_budget()
        self._runs.make_room(self._budget_bytes)

    def show(self, picture: DecodedPicture) -> None:
        self._runs.make_room(self._budget_bytes)
