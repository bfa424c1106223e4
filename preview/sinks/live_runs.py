"""The runs of this process that a viewer can show, under a byte budget."""

import shutil
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, final

from ...decoders.files.contained_file import read_below
from ..decode.memory_budget import MB
from ..picture import DecodedPicture
from ..run import Run
from .base import Delivery, Sink
from .run_folder import RunFolder

DEFAULT_BUDGET_BYTES = 512 * MB
LIVE_TITLE = "the live run"
MAX_LIVE_RUNS = 500  # their manifests are in memory, however small their files are


@dataclass(frozen=True, kw_only=True)
class ExportFacts:
    """What is needed to give a user a picture of a live run as a file, and to find the run by what was sampled.

    Args:
        written: folder with the files that the run writes; None if it writes none.
        texts: function that returns metadata for the file, by name, as JSON.
        prefix: begin of the file's name.
        sent: the graph that the host ran, as it was sent; empty if unknown.
    """

    written: RunFolder | None = None
    texts: Callable[[], Mapping[str, str]] = dict
    prefix: str = "safelight"
    sent: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveRun:
    """A run that a viewer can fetch.

    Args:
        folder: folder of the run.
        owner: text that stands for the person who may list the run; None: it is never listed.
        address: unguessable name of the folder and of the run's URLs, the only key to the run's pictures. No file
            contains it: the id of a run is in files that people publish.
        export: what is needed to give the user a picture as a file.
    """

    folder: RunFolder
    owner: str | None
    address: str
    export: ExportFacts = field(default_factory=ExportFacts)


@final
class LiveRuns:
    """Runs in a temporary folder. When their files exceed a byte budget, the oldest runs are removed.

    Args:
        max_runs: maximum number of runs, whatever their size.
    """

    def __init__(self, max_runs: int = MAX_LIVE_RUNS) -> None:
        self._max_runs = max_runs
        self._runs: dict[str, LiveRun] = {}  # by address, newest last
        self._changing = threading.Lock()

    def new(self, run: Run, root: Path, owner: str | None = None, export: ExportFacts | None = None) -> LiveRun:
        """Adds a run with a folder in `root`. It writes and removes nothing, because the sampler's thread calls it."""
        address = str(uuid.uuid4())
        folder = RunFolder(root / address, run, LIVE_TITLE)
        live = LiveRun(folder=folder, owner=owner, address=address, export=export or ExportFacts())
        with self._changing:
            self._runs[address] = live
        return live

    def make_room(self, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> None:
        """Removes the oldest runs until the rest is within the budget. Running runs stay.

        If the host failed before a run began, the run never ends. Such runs are removed when there are twice as many
        runs as allowed.

        Args:
            budget_bytes: largest size of all files together.
        """
        with self._changing:
            removed = self._over_budget(budget_bytes)
            for live in removed:
                del self._runs[live.address]
        for live in removed:
            shutil.rmtree(live.folder.path, ignore_errors=True)

    def of(self, owner: str | None, **host: str | None) -> list[LiveRun]:
        """All runs of `owner` with these host facts, newest first; none for None."""
        with self._changing:
            runs = list(reversed(self._runs.values()))
        return [live for live in runs if live.owner == owner is not None and _has(live, host)]

    def get(self, address: str) -> LiveRun | None:
        """The run at an address; None if there is no such run, or if it was removed."""
        with self._changing:
            return self._runs.get(address)

    def read(self, address: str, name: str, max_bytes: int) -> bytes | None:
        """The content of a file that the run's manifest lists; None if there is none.

        `name` is only compared with the names in the manifest. Links are not followed, also in the place of the folder.
        """
        live = self.get(address)
        if live is None or name not in live.folder.files():
            return None
        path = live.folder.path
        try:
            return read_below(path.parent, PurePath(path.name, name), max_bytes)
        except OSError:  # no regular file, or the run was removed in this moment
            return None

    def _over_budget(self, budget_bytes: int) -> list[LiveRun]:
        total = sum(live.folder.size_bytes for live in self._runs.values())
        removed: list[LiveRun] = []
        for live in self._runs.values():
            count = len(self._runs) - len(removed)
            if total <= budget_bytes and count <= self._max_runs:
                break
            if live.folder.state != "running" or count > 2 * self._max_runs:
                total -= live.folder.size_bytes
                removed.append(live)
        return removed


def _has(live: LiveRun, host: Mapping[str, str | None]) -> bool:
    return all(live.folder.run.host.get(key) == value for key, value in host.items())


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
