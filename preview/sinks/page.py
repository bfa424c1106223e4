"""A page in the run's folder, `index.html`: the viewer with the run inside, readable without a server."""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, final

from ..html.bundle import bundle
from ..picture import DecodedPicture
from ..run import State
from .base import Delivery, Sink
from .run_folder import RunFolder
from .run_group import PAGE_NAME, RunGroup

MIN_WRITE_INTERVAL_S = 2.0


@final
class Page(Sink):
    """Writes `index.html` when the run begins, every few seconds while it runs, and when it ends.

    A run that is killed leaves the last version. Put this sink directly after the run's folder: it is then closed after
    all other sinks, and the page lists what they wrote. Runs of one prompt share the page of the first; the others are
    added to it with their first step.

    Args:
        folder: folder of the run.
        clock: function that returns monotonic seconds.
        group: runs of the same prompt; None if the run is the only one.
    """

    name = "page"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(
        self, folder: RunFolder, clock: Callable[[], float] = monotonic, *, group: RunGroup | None = None
    ) -> None:
        self._folder, self._clock = folder, clock
        self._group = group or RunGroup(folder)
        self._script = ""

    def open(self) -> None:
        self._script = bundle("page")
        if self._group.first is self._folder:
            self._write(self._folder.manifest())
            self._folder.announce(page=PAGE_NAME)
            self._folder.save()

    def show(self, picture: DecodedPicture) -> None:
        if self._clock() - self._group.page_written_s >= MIN_WRITE_INTERVAL_S:
            self._write(self._folder.manifest())

    def close(self, state: State) -> None:
        self._write(self._folder.manifest() | {"state": state})

    def _write(self, manifest: Mapping[str, Any]) -> None:
        if self._folder is not self._group.first and not manifest["steps"] and not manifest["notes"]:
            return  # its folder is removed if it stays like this
        self._group.page_written_s = self._clock()
        self._group.write_page(self._folder, manifest, self._script)
