"""The runs that a viewer can look at while its host is up, under a byte budget."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import final

from ..picture import Picture
from ..run import Run, State
from .base import Sink
from .run_folder import RunFolder

DEFAULT_BUDGET_BYTES = 512 << 20
MAX_RUNS = 500  # tiny runs may be many: their manifests are in memory


@final
class LiveRuns:
    """Runs in a temporary folder, newest last; when they grow too large the oldest ones go.

    Args:
        max_runs: however small they are.
    """

    def __init__(self, max_runs: int = MAX_RUNS) -> None:
        self._max_runs = max_runs
        self._folders: dict[str, RunFolder] = {}
        self._changing = threading.Lock()

    def new(self, run: Run, root: Path) -> RunFolder:
        """A folder for a run, in `root`. Nothing is written or removed: this is for the sampler's thread."""
        folder = RunFolder(root / run.id, run)
        with self._changing:
            self._folders[run.id] = folder
        return folder

    def make_room(self, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        """Takes away the oldest runs until the rest is within the budget; none that is still going, as far as can be.

        Of a run whose host failed before it began, nobody ever says that it has ended: it goes when there are too many.

        Args:
            budget_bytes: for all pictures together.
        """
        with self._changing:
            gone = self._over_budget(budget_bytes)
            for old in gone:
                del self._folders[old.run.id]
        for old in gone:
            shutil.rmtree(old.path, ignore_errors=True)

    def of(self, **host: str | None) -> list[RunFolder]:
        """The folders of all runs with these host facts, newest first."""
        with self._changing:
            folders = list(reversed(self._folders.values()))
        return [folder for folder in folders if all(folder.run.host.get(k) == v for k, v in host.items())]

    def folder(self, run_id: str) -> RunFolder | None:
        """The folder of a run, or None if there is no such run (any more)."""
        with self._changing:
            return self._folders.get(run_id)

    def file(self, run_id: str, name: str) -> Path | None:
        """A file that the run's own manifest lists; `name` is compared, never made a path of."""
        folder = self.folder(run_id)
        return folder.path / name if folder is not None and name in folder.files() else None

    def _over_budget(self, budget_bytes: int) -> list[RunFolder]:
        total = sum(folder.size_bytes for folder in self._folders.values())
        gone: list[RunFolder] = []
        for folder in self._folders.values():
            if total <= budget_bytes and len(self._folders) - len(gone) <= self._max_runs:
                break
            if folder.state != "running" or len(self._folders) - len(gone) > 2 * self._max_runs:
                total -= folder.size_bytes
                gone.append(folder)
        return gone


@final
class EvictOldRuns(Sink):
    """Takes older runs away when a run begins, and as it grows, on the worker's time. Comes after what writes.

    Args:
        runs: all of them.
        budget_bytes: asked for when the run begins: a person may have changed it.
    """

    name = "room for the run"
    keeps = False
    awaited = False

    def __init__(self, runs: LiveRuns, budget_bytes: Callable[[], int]) -> None:
        self._runs, self._ask = runs, budget_bytes
        self._budget_bytes = DEFAULT_BUDGET_BYTES

    def open(self) -> None:
        self._budget_bytes = self._ask()
        self._runs.make_room(self._budget_bytes)

    def show(self, picture: Picture) -> None:
        self._runs.make_room(self._budget_bytes)

    def close(self, state: State) -> None:
        pass
