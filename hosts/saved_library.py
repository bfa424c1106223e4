"""Answers the requests of a library page about saved runs. Each server maps its URLs to these functions."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from ..errors import LibraryError
from ..preview.change_feed import ChangeFeed
from ..preview.images.small_picture import SmallPictures
from ..preview.library_source import LibrarySource
from ..preview.remote.address import checked_address
from ..preview.remote.remote_files import RemoteFiles
from ..preview.remote.store import Store
from ..preview.run_details import WORKFLOW_TEXTS
from ..preview.run_library import RunLibrary
from ..preview.run_trash import trashed_runs
from .comfyui.prompt_text import saved_prompt

MAX_PICTURE_BYTES = 1 << 28
QUICK_S = 0.1  # a folder that is looked at so quickly is looked at for each request
MAX_LOOKING_SHARE = 0.05  # of the time, else
MAX_BODY_BYTES = 16_384  # of a request: a note has 2,000 characters


@final
class SavedLibrary:
    """The saved runs of a folder, as a page gets them and changes them. Any thread may use it.

    Args:
        folder: folder of the runs.
        source: where the files in it come from; None: they are there.
    """

    def __init__(self, folder: Path, source: LibrarySource | None = None) -> None:
        self.runs = RunLibrary(folder, saved_prompt, source=source)
        self._feed, self._listing = ChangeFeed(), threading.Lock()
        self._next_s = float("-inf")  # when the folder may be looked at again
        self._small = SmallPictures()

    def changes(self, since: str | None, limit: int | None) -> dict[str, Any]:
        """The runs that changed since the version that the page has, see `ChangeFeed.answer`."""
        with self._listing:
            begin_s = time.monotonic()
            if begin_s >= self._next_s:
                runs = self.runs.runs()
                took_s = time.monotonic() - begin_s
                self._next_s = begin_s + took_s / MAX_LOOKING_SHARE if took_s > QUICK_S else begin_s
            else:
                runs = self.runs.known()
            self._feed.update({run_id: entry.item for run_id, entry in runs.items()})
            return self._feed.answer(since, limit)

    def small(self, run_id: str, name: str) -> bytes | None:
        """A picture of a run at the size of a tile; None if there is none of this name."""
        entry = self.runs.run(run_id)
        return entry and self._small.get((run_id, name, entry.version), lambda: self.picture(run_id, name))

    def picture(self, run_id: str, name: str) -> bytes | None:
        """A picture of a run; None if there is none of this name."""
        opened = self.runs.open(run_id, name)
        if opened is None:
            return None
        file, size = opened
        with file:
            return file.read(size) if size <= MAX_PICTURE_BYTES else None

    def workflow(self, run_id: str) -> str | None:
        """The host's workflow in the newest picture of a run, as JSON; None if there is none."""
        texts = self.runs.texts(run_id)
        return next((texts[name] for name in WORKFLOW_TEXTS if name in texts), None)

    def act(self, run_id: str, action: str, body: Any) -> dict[str, Any]:
        """Changes a run. Returns its item, or after `delete` the token of `undo` and what was done, in words.

        Args:
            run_id: id of the run.
            action: `star`, `note` or `delete`.
            body: JSON of the request: `{"star": true}` or `{"note": "text"}`.

        Raises:
            GoneError: there is no such run.
            LibraryError: it cannot be changed, or the request is not valid.
        """
        match action, body:
            case "star", {"star": bool(star)}:
                return {"run": self.runs.mark(run_id, star=star).item}
            case "note", {"note": str(note)}:
                return {"run": self.runs.mark(run_id, note=note).item}
            case "delete", _:
                further = self.runs.inner_runs(run_id)
                return {"undo": self.runs.delete(run_id), "text": deleted_text(further)}
        raise bad_request(action)

    def undo(self, token: str) -> dict[str, Any]:
        """Brings a deleted run back. Returns the ids of the runs that are there again.

        Raises:
            GoneError: the trash has no such run.
            LibraryError: it cannot be moved back.
        """
        return {"runs": self.runs.restore(token)}

    def trash(self) -> list[dict[str, str]]:
        """The deleted runs, the last one first: the token of `undo`, the folder, and when it was deleted."""
        return [
            {"undo": run.token, "folder": run.folder.as_posix(), "deleted": run.deleted}
            for run in trashed_runs(self.runs.root)
        ]


def saved_library(place: Path | str) -> SavedLibrary:
    """The saved runs in a folder, or at the address of a store.

    Raises:
        OptionError: the address is not valid.
        StoreError: the store cannot be opened, or does not answer.
    """
    if isinstance(place, Path):
        return SavedLibrary(place)
    files = RemoteFiles(Store.open(checked_address(place, "folder")))
    files.connect()
    return SavedLibrary(files.folder, files)


def deleted_text(further: int) -> str:
    """What delete has done, for the user.

    Args:
        further: number of further runs of the same prompt in the folder.
    """
    also = "" if not further else f", with {further} further run{'s' * (further != 1)} of the same prompt"
    return f"Run moved to the trash{also}"


def bad_request(action: str) -> LibraryError:
    """The error for a request that no page of ours sends."""
    return LibraryError(f"expected a request with a star, a note or delete, got {action!r} with another content")


def limit_of(query: Mapping[str, str]) -> int | None:
    """The number of runs that a page asks for first; None for all."""
    text = query.get("limit", "")
    return int(text) if text.isdecimal() and len(text) <= 6 else None
