"""Writes `index.html` into a run's folder: the viewer with the run inside, readable without a server."""

from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, final

from ..html.bundle import bundle
from ..html.document import document
from ..picture import Picture
from ..run import State
from .base import Sink
from .run_folder import RunFolder

PAGE_NAME = "index.html"
MIN_WRITE_INTERVAL_S = 2.0


@final
class Page(Sink):
    """Writes `index.html`: when the run begins, now and then while it goes on, and when it ends.

    A run that is killed leaves the last one. Put it right after the run's folder: closed after all others, it knows
    what they made.

    Args:
        folder: of the run.
        clock: seconds, monotonic.
    """

    name = "page"
    keeps = False

    def __init__(self, folder: RunFolder, clock: Callable[[], float] = monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._script = ""
        self._written_s = float("-inf")

    def open(self) -> None:
        self._script = bundle("page")
        self._write(self._folder.manifest())
        self._folder.announce(page=PAGE_NAME)
        self._folder.save()

    def show(self, picture: Picture) -> None:
        if self._clock() - self._written_s >= MIN_WRITE_INTERVAL_S:
            self._write(self._folder.manifest())

    def close(self, state: State) -> None:
        self._write(self._folder.manifest() | {"state": state})

    def _write(self, manifest: Mapping[str, Any]) -> None:
        self._written_s = self._clock()
        self._folder.write(PAGE_NAME, document({**manifest, "page": PAGE_NAME}, self._script).html.encode())
