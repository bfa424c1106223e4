"""A page in the run's folder, `index.html`: the viewer with the run inside, readable without a server."""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, final

from ..html.bundle import bundle
from ..html.document import document
from ..picture import DecodedPicture
from ..run import State
from .base import Delivery, Sink
from .run_folder import RunFolder

PAGE_NAME = "index.html"
MIN_WRITE_INTERVAL_S = 2.0


@final
class Page(Sink):
    """Writes `index.html` when the run begins, every few seconds while it runs, and when it ends.

    A run that is killed leaves the last version. Put this sink directly after the run's folder: it is then closed after
    all other sinks, and the page lists what they wrote.

    Args:
        folder: folder of the run.
        clock: function that returns monotonic seconds.
    """

    name = "page"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self, folder: RunFolder, clock: Callable[[], float] = monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._script = ""
        self._written_s = float("-inf")

    def open(self) -> None:
        self._script = bundle("page")
        self._write(self._folder.manifest())
        self._folder.announce(page=PAGE_NAME)
        self._folder.save()

    def show(self, picture: DecodedPicture) -> None:
        if self._clock() - self._written_s >= MIN_WRITE_INTERVAL_S:
            self._write(self._folder.manifest())

    def close(self, state: State) -> None:
        self._write(self._folder.manifest() | {"state": state})

    def _write(self, manifest: Mapping[str, Any]) -> None:
        self._written_s = self._clock()
        self._folder.write(PAGE_NAME, document({**manifest, "page": PAGE_NAME}, self._script).html.encode())
