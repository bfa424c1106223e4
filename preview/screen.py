"""The newest picture, for whoever is looking."""

from collections.abc import Callable, Mapping
from typing import Any, final

from .files import Files
from .picture import Picture
from .run import State
from .sink import Sink

Tell = Callable[[str, Mapping[str, Any]], None]


@final
class Screen(Sink):
    """Puts pictures where a viewer can fetch them, and tells it in a few words that they are there.

    It opens and closes the folder itself: whoever is told that a run has ended reads a manifest that says so.

    Args:
        files: that the viewer fetches.
        tell: called by the worker with `safelight.step` or `safelight.run` and the facts of `run.md`, under 1 kB.
        place: `workflow` and `node`: where the viewer is.
    """

    name = "screen"
    keeps = False

    def __init__(self, files: Files, tell: Tell, place: Mapping[str, Any]) -> None:
        self._folder, self._files, self._tell = files.folder, files, tell
        self._facts = {"v": 1, "run": files.folder.run.id, **place}

    def open(self) -> None:
        self._folder.open()
        self._files.open()
        self._tell("safelight.run", {**self._facts, "state": "running"})

    def show(self, picture: Picture) -> None:
        self._files.show(picture)
        step = {"index": picture.index, "total": picture.total, "sigma": picture.sigma}
        self._tell("safelight.step", {**self._facts, **step, "state": "running"})

    def close(self, state: State) -> None:
        self._files.close(state)
        self._folder.close(state)
        self._tell("safelight.run", {**self._facts, "state": state})
