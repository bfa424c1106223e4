"""The runs that a viewer can look at while its host is up, under a byte budget."""

import shutil
import threading
from pathlib import Path
from typing import final

from .folder import RunFolder
from .run import Run

DEFAULT_BUDGET_BYTES = 512 << 20
MAX_RUNS = 500  # tiny runs may be many: their manifests are in memory


@final
class LiveRuns:
    """Runs in a temporary folder, newest last; when they grow too large the oldest finished ones go.

    Args:
        budget_bytes: for all pictures together. A run that is still going is never taken away.
        max_runs: however small they are.
    """

    def __init__(self, budget_bytes: int = DEFAULT_BUDGET_BYTES, max_runs: int = MAX_RUNS) -> None:
        self._budget_bytes, self._max_runs = budget_bytes, max_runs
        self._folders: dict[str, RunFolder] = {}
        self._changing = threading.Lock()

    def new(self, run: Run, root: Path) -> RunFolder:
        """A folder for a run, in `root`; older runs make room."""
        folder = RunFolder(root / run.id, run)
        with self._changing:
            self._folders[run.id] = folder
            gone = self._over_budget()
            for old in gone:
                del self._folders[old.run.id]
        for old in gone:
            shutil.rmtree(old.path, ignore_errors=True)
        return folder

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

    def _over_budget(self) -> list[RunFolder]:
        total = sum(folder.size_bytes for folder in self._folders.values())
        gone: list[RunFolder] = []
        for folder in self._folders.values():
            if total <= self._budget_bytes and len(self._folders) - len(gone) <= self._max_runs:
                break
            if folder.state != "running":
                total -= folder.size_bytes
                gone.append(folder)
        return gone
