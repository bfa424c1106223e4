"""The runs of this process that a viewer can show, under a byte budget."""

import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, final

from ...decoders.files.contained_file import read_below
from ...errors import GoneError, LibraryError
from ..decode.memory_budget import MB
from ..picture import DecodedPicture
from ..run import Run
from ..run_marks import NO_MARKS, Marks
from .base import Delivery, Sink
from .run_folder import RunFolder
from .run_group import RunGroup

DEFAULT_BUDGET_BYTES = 512 * MB
LIVE_TITLE = "the live run"
MAX_LIVE_RUNS = 500  # their manifests are in memory, however small their files are
STARRED_SHARE = 0.5  # of the budget and of the runs: new runs must have room, too
UNDO_S = 600.0  # for which a deleted run can be brought back


@dataclass(frozen=True, kw_only=True)
class ExportFacts:
    """What is needed to give a user a picture of a live run as a file, and to find the run by what was sampled.

    Args:
        written: folder with the files that the run writes; None if it writes none.
        group: runs of the same prompt that share a page with it; None if it writes none.
        place: that folder as the user knows it, such as `output/safelight/steps_00012`.
        texts: function that returns metadata for the file, by name, as JSON.
        prefix: begin of the file's name.
        sent: the graph that the host ran, as it was sent; empty if unknown.
    """

    written: RunFolder | None = None
    group: RunGroup | None = None
    place: str = ""
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


@dataclass(frozen=True)
class _DeletedRun:
    """A run that the user deleted, until its files are removed at `until_s`."""

    live: LiveRun
    until_s: float


@final
class LiveRuns:
    """Runs in a temporary folder. When their files exceed a byte budget, the oldest runs are removed.

    Runs with a star stay, as long as they fit into `STARRED_SHARE` of the budget.

    Args:
        max_runs: maximum number of runs, whatever their size.
        clock: function that returns monotonic seconds.
    """

    def __init__(self, max_runs: int = MAX_LIVE_RUNS, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_runs, self._clock = max_runs, clock
        self._runs: dict[str, LiveRun] = {}  # by address, newest last
        self._marks: dict[str, Marks] = {}  # by address, the one that changed last is the last
        self._deleted: dict[str, _DeletedRun] = {}  # by address, the one that was deleted last is the last
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
        """Removes the oldest runs until the rest is within the budget, deleted ones first. Running runs stay.

        If the host failed before a run began, the run never ends. Such runs are removed when there are twice as many
        runs as allowed.

        Args:
            budget_bytes: largest size of all files together.
        """
        with self._changing:
            removed = self._over_budget(budget_bytes)
            for live in removed:
                self._deleted.pop(live.address, None)
                self._runs.pop(live.address, None)
                self._marks.pop(live.address, None)
        for live in removed:
            shutil.rmtree(live.folder.path, ignore_errors=True)

    def marks(self, address: str) -> Marks:
        """The star and the note of a run."""
        return self._marks.get(address, NO_MARKS)

    def mark(
        self,
        address: str,
        star: bool | None = None,
        note: str | None = None,
        budget_bytes: int = DEFAULT_BUDGET_BYTES,
    ) -> Marks:
        """Gives a run a star or a note; None leaves it as it is. Returns its new marks.

        Args:
            address: address of the run.
            star: whether it has a star.
            note: text of the user.
            budget_bytes: largest size of all files together.

        Raises:
            GoneError: there is no such run.
            LibraryError: the runs with a star have no room for another one.
        """
        with self._changing:
            live, before = self._existing(address), self._marks.get(address, NO_MARKS)
            marks = before.changed(star, note)
            if marks.star and not before.star:
                self._expect_room_for_star(live, budget_bytes)
            self._marks.pop(address, None)
            self._marks[address] = marks
        return marks

    def delete(self, address: str) -> None:
        """Hides a run. `restore` brings it back for `UNDO_S` seconds; then the next run removes its files.

        Raises:
            GoneError: there is no such run.
            LibraryError: it is running.
        """
        with self._changing:
            live = self._existing(address)
            if live.folder.state == "running":
                raise LibraryError("this run is still running; stop it first")
            del self._runs[address]
            self._deleted[address] = _DeletedRun(live, self._clock() + UNDO_S)

    def restore(self, address: str, owner: str | None) -> LiveRun:
        """Brings back a run that `owner` deleted, at its place among the others.

        Raises:
            GoneError: there is no such run, or its files were removed meanwhile.
        """
        with self._changing:
            deleted = self._deleted.get(address)
            if deleted is None or owner is None or deleted.live.owner != owner or deleted.until_s <= self._clock():
                raise GoneError("this run cannot be restored any more; its pictures were removed")
            del self._deleted[address]
            runs = [*self._runs.values(), deleted.live]
            self._runs = {live.address: live for live in sorted(runs, key=lambda live: live.folder.run.started)}
            return deleted.live

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
        if live is None or not live.folder.lists(name):
            return None
        path = live.folder.path
        try:
            return read_below(path.parent, PurePath(path.name, name), max_bytes)
        except OSError:  # no regular file, or the run was removed in this moment
            return None

    def _existing(self, address: str) -> LiveRun:
        live = self._runs.get(address)
        if live is None:
            raise GoneError("there is no such run; it may have been removed to make room for newer runs")
        return live

    def _expect_room_for_star(self, live: LiveRun, budget_bytes: int) -> None:
        starred = [
            self._runs[address] for address, marks in self._marks.items() if marks.star and address in self._runs
        ]
        used, limit = sum(each.folder.size_bytes for each in starred), int(budget_bytes * STARRED_SHARE)
        if used + live.folder.size_bytes > limit:
            raise LibraryError(
                f"runs with a star may use {limit // MB} MB, half of the space for runs, and they use {used // MB} MB; "
                "save this run, or take the star from another one"
            )
        if len(starred) >= self._max_runs * STARRED_SHARE:
            raise LibraryError(f"{len(starred)} runs have a star, which is the limit; save this run")

    def _starred(self, budget_bytes: int) -> set[str]:
        """The addresses of the runs that stay for their star: the ones that got it last, as many as have room."""
        left, starred = budget_bytes * STARRED_SHARE, set[str]()
        for address, marks in reversed(self._marks.items()):
            live = self._runs.get(address)
            if live is None or not marks.star:
                continue
            left -= live.folder.size_bytes
            if left < 0:
                break
            starred.add(address)
        return starred

    def _over_budget(self, budget_bytes: int) -> list[LiveRun]:
        deleted = [each.live for each in self._deleted.values()]
        expired = {each.live.address for each in self._deleted.values() if each.until_s <= self._clock()}
        starred = self._starred(budget_bytes)
        left = [*deleted, *(live for live in self._runs.values() if live.address not in starred)]
        total = sum(live.folder.size_bytes for live in (*deleted, *self._runs.values()))
        removed: list[LiveRun] = []
        for live in left:
            count = len(self._runs) + len(deleted) - len(removed)
            is_full = total > budget_bytes or count > self._max_runs
            may_go = live.folder.state != "running" or count > 2 * self._max_runs
            if live.address in expired or (is_full and may_go):
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
