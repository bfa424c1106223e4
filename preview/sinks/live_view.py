"""The newest picture, for whoever is looking."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, final

from ..picture import Picture
from ..run import State
from .base import Sink
from .step_files import StepFiles

MAX_FILES_CHARS = 400  # of a step's file names; a large batch or a video has more, and the manifest has all

Tell = Callable[[str, Mapping[str, Any]], None]


@final
class LiveView(Sink):
    """Puts pictures where a viewer can fetch them, and tells it in a few words that they are there.

    It opens and closes the folder itself: whoever is told that a run has ended reads a manifest that says so.

    Args:
        files: that the viewer fetches.
        tell: called by the worker with `safelight.step` or `safelight.run` and the facts of `run.md`, under 1 kB.
        place: `workflow` and `node`: where the viewer is.
    """

    name = "screen"
    keeps = False
    awaited = False

    def __init__(self, files: StepFiles, tell: Tell, place: Mapping[str, Any]) -> None:
        self._folder, self._files, self._tell = files.folder, files, tell
        self._facts = {"v": 1, "run": files.folder.run.id, **place}

    def open(self) -> None:
        try:
            self._folder.open()
            self._files.open()
            self._tell("safelight.run", {**self._facts, "state": "running"})
        except BaseException:
            self._folder.state = "failed"  # nothing comes any more: it may make room for other runs
            with suppress(Exception):  # whoever looks may at least read why
                self._tell("safelight.run", {**self._facts, "state": "failed"})
            raise

    def show(self, picture: Picture) -> None:
        self._files.show(picture)
        step = {"index": picture.index, "total": picture.total, "sigma": picture.sigma, **self._entry(picture)}
        facts = {**self._facts, **step, "notes": len(self._folder.run.notes), "state": "running"}
        self._tell("safelight.step", facts)

    def close(self, state: State) -> None:
        try:
            self._files.close(state)
            self._folder.close(state)
        finally:  # where its record cannot be written the run is over all the same
            self._tell("safelight.run", {**self._facts, "state": state})

    def leave(self, state: State) -> None:
        self._folder.leave(state)
        self._tell("safelight.run", {**self._facts, "state": state})

    def _entry(self, picture: Picture) -> Mapping[str, Any]:
        """What spares the viewer a look into the manifest: where the picture is."""
        entry = self._folder.step(picture.index)
        if entry is None or sum(map(len, entry["files"])) > MAX_FILES_CHARS:
            return {}
        return {key: entry[key] for key in ("files", "at", "decode_ms")}
