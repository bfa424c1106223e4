"""The library of ComfyUI: the live runs that a browser queued, and the saved runs below the output folder."""

import hmac
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, final

from ...errors import GoneError, LibraryError
from ...preview.change_feed import ChangeFeed
from ...preview.images.small_picture import SmallPictures
from ...preview.library_entry import LibraryEntry
from ...preview.run_details import run_details
from ...preview.run_library import no_prompt
from ...preview.run_summary import run_summary
from ...preview.sinks.live_runs import LiveRun, LiveRuns
from ...preview.sinks.live_saving import save_live_run
from ..background_listing import BackgroundListing
from ..saved_library import MAX_PICTURE_BYTES, SavedLibrary, bad_request
from .saved_owners import SavedOwners

MAX_FEEDS = 32  # browsers that have a library open
MAX_UNDO = 1000
MAX_WAIT_S = 0.3
SAVED_PREFIX = PurePath("safelight", "saved")  # of live runs that the user saves
NOTHING_LISTED = "there is no such run in your library; it may have been removed to make room for newer runs"


@dataclass(frozen=True)
class _Deletion:
    """What undo brings back: a live run by its address, a saved one by its token in the trash."""

    owner: str
    address: str | None
    trashed: str | None


@final
class ComfyLibrary:
    """Lists runs for an owner, see `owners.py`, and changes them. Any thread may use it.

    A run is opened by a handle: that of a live run is its address, that of a saved one a text that only this process
    can derive. A run that is live and saved is listed once: live while it is running, then saved.

    Args:
        live: all live runs.
        output: function that returns the output folder.
        budget_bytes: function that returns the budget of live runs.
        owners: owners of saved runs, on a server with users: each user lists only the own ones. None: everyone lists
            all saved runs, as ComfyUI shows everyone its output folder.
        on_save: function that receives the folder and the id of a live run that a user has saved.
    """

    def __init__(
        self,
        live: LiveRuns,
        output: Callable[[], Path],
        budget_bytes: Callable[[], int],
        owners: SavedOwners | None,
        on_save: Callable[[Path, str], object] = lambda _path, _run_id: None,
    ) -> None:
        self._on_save = on_save
        self._live, self._output, self._budget_bytes, self._owners = live, output, budget_bytes, owners
        self._secret = secrets.token_bytes(32)
        self._opened: tuple[SavedLibrary, BackgroundListing[bool]] | None = None
        self._feeds: OrderedDict[str, ChangeFeed] = OrderedDict()
        self._ended: dict[str, tuple[Any, dict[str, Any]]] = {}  # items of live runs that have ended, by address
        self._ids: dict[str, str] = {}  # of saved runs, by handle
        self._shown: dict[str, tuple[LibraryEntry, dict[str, Any]]] = {}  # items of saved runs, by id
        self._undo: OrderedDict[str, _Deletion] = OrderedDict()
        self._small = SmallPictures()
        self._changing = threading.RLock()

    def own(self, run_id: str, owner: str | None) -> None:
        """Remembers for whom a run is saved."""
        if self._owners is not None and owner is not None:
            self._owners.add(run_id, owner)

    # Lists

    def changes(self, owner: str, since: str | None, limit: int | None) -> dict[str, Any]:
        """The runs of an owner's library that changed since a version, see `ChangeFeed.answer`."""
        saved = self._saved
        self._listing.get()
        with self._changing:
            items = self._items(owner, saved.runs.known())
            feed = self._feeds.pop(owner, None) or ChangeFeed()
            self._feeds[owner] = feed
            if len(self._feeds) > MAX_FEEDS:
                self._feeds.popitem(last=False)
            feed.update(items)
            return feed.answer(since, limit) | {"path": saved.runs.name}

    def trash(self) -> list[dict[str, str]]:
        """The deleted saved runs; none if the server has users, who would see those of others."""
        return [] if self._owners is not None else self._saved.trash()

    def _items(self, owner: str, known: Mapping[str, LibraryEntry]) -> dict[str, Mapping[str, Any]]:
        saved = {run_id: entry for run_id, entry in known.items() if self._may_list(owner, entry)}
        self._shown = {run_id: shown for run_id, shown in self._shown.items() if run_id in known}
        self._ids = {self._saved_item(entry)["id"]: run_id for run_id, entry in known.items()}
        live = {each.folder.run.id: each for each in self._live.of(owner)}
        running = {run_id for run_id, each in live.items() if each.folder.state == "running"}
        items = [self._saved_item(entry) for run_id, entry in saved.items() if run_id not in running]
        items += [self._live_item(each) for run_id, each in live.items() if run_id not in saved or run_id in running]
        self._ended = {address: item for address, item in self._ended.items() if self._live.get(address)}
        return {item["id"]: item for item in sorted(items, key=lambda item: item["started"] or "", reverse=True)}

    def _saved_item(self, entry: LibraryEntry) -> dict[str, Any]:
        known = self._shown.get(entry.id)
        if known is None or known[0] is not entry:
            known = self._shown[entry.id] = entry, {**entry.item, "id": self._handle(entry), "live": False}
        return known[1]

    def _live_item(self, live: LiveRun) -> dict[str, Any]:
        folder, marks = live.folder, self._live.marks(live.address)
        signature = (folder.state, len(folder.run.notes), marks)
        known = self._ended.get(live.address)
        if known is not None and known[0] == signature:
            return known[1]
        manifest = live_manifest(live)
        item = {
            **run_summary(manifest),
            **run_details(manifest, live.export.texts() if folder.state != "running" else {}, no_prompt),
            "folder": self._place(live),
            "star": marks.star,
            "note": marks.note,
            "live": True,
        }
        if folder.state != "running":
            self._ended[live.address] = signature, item
        return item

    def _place(self, live: LiveRun) -> str | None:
        """The path in the output folder of the files that a live run writes; None if it writes none."""
        written, output = live.export.written, self._output().resolve()
        path = None if written is None else written.path.resolve()
        return path.relative_to(output).as_posix() if path is not None and path.is_relative_to(output) else None

    # One run

    def manifest(self, handle: str) -> Mapping[str, Any]:
        """The manifest of a run with its handle as id, and its prompt.

        Raises:
            GoneError: there is no such run.
            ManifestError: it was damaged since it was listed.
        """
        if live := self._live.get(handle):
            return live_manifest(live)
        return {**self._entry(handle).described, "id": handle}

    def picture(self, handle: str, name: str) -> bytes | None:
        """A picture that a run lists; None if there is none of this name."""
        if self._live.get(handle) is not None:
            return self._live.read(handle, name, MAX_PICTURE_BYTES)
        return self._saved.picture(self._ids.get(handle, ""), name)

    def small(self, handle: str, name: str) -> bytes | None:
        """The same at the size of a tile."""
        live = self._live.get(handle)
        if live is None:
            return self._saved.small(self._ids.get(handle, ""), name)
        step = live.folder.step_of(name)
        return self._small.get((handle, name, step and step["at"]), lambda: self.picture(handle, name))

    # Changes

    def act(self, owner: str, handle: str, action: str, body: Any) -> dict[str, Any]:
        """Changes a run of the owner's library, also its live or saved copy.

        Args:
            owner: owner who asks.
            handle: handle of the run.
            action: `star`, `note` or `delete`, or `save` for a live run.
            body: JSON of the request, as for `SavedLibrary.act`.

        Returns:
            As `SavedLibrary.act`; after `delete` also the address of the live copy, which viewers show, as `live`.

        Raises:
            GoneError: the library of this owner has no such run.
            LibraryError: it cannot be changed, or the request is not valid.
        """
        self._saved.runs.runs()
        live, entry = self._copies(owner, handle)
        match action, body:
            case "star", {"star": bool(star)}:
                return self._mark(live, entry, star, None)
            case "note", {"note": str(note)}:
                return self._mark(live, entry, None, note)
            case "delete", _:
                return self._delete(owner, live, entry)
            case "save", _ if live is not None and entry is None:
                return self._save(owner, live)
        raise bad_request(action)

    def undo(self, owner: str, token: str) -> dict[str, Any]:
        """Brings back what this owner deleted, or without users, any run in the trash.

        Raises:
            GoneError: nothing is there to bring back.
            LibraryError: it cannot be moved back.
        """
        with self._changing:
            deletion = self._undo.get(token)
            if deletion is None and self._owners is None:
                return self._saved.undo(token)
            if deletion is None or deletion.owner != owner:
                raise GoneError("nothing can be brought back; it was removed, or brought back already")
        if deletion.trashed is not None:
            self._saved.undo(deletion.trashed)
        if deletion.address is not None:
            try:
                self._live.restore(deletion.address, owner)
            except GoneError:
                if deletion.trashed is None:  # else its saved copy is back
                    raise
        self._undo.pop(token, None)
        return {"runs": []}

    def _mark(
        self, live: LiveRun | None, entry: LibraryEntry | None, star: bool | None, note: str | None
    ) -> dict[str, Any]:
        if live is not None:
            try:
                self._live.mark(live.address, star, note, self._budget_bytes())
            except LibraryError:
                if entry is None:  # else its saved copy stays
                    raise
        if entry is not None:
            return {"run": self._saved_item(self._saved.runs.mark(entry.id, star, note))}
        return {"run": self._live_item(live)} if live is not None else {}

    def _delete(self, owner: str, live: LiveRun | None, entry: LibraryEntry | None) -> dict[str, Any]:
        if live is not None and live.folder.state == "running":
            raise LibraryError("this run is still running; stop it first")
        answer: dict[str, Any] = {"undo": "", "text": "Run deleted"}
        if entry is not None:
            answer = self._saved.act(entry.id, "delete", {})
        if live is not None:
            self._live.delete(live.address)
            answer |= {"live": live.address}
        token = secrets.token_hex(16)
        with self._changing:
            self._undo[token] = _Deletion(owner, live and live.address, answer["undo"] or None)
            if len(self._undo) > MAX_UNDO:
                self._undo.popitem(last=False)
        return answer | {"undo": token}

    def _save(self, owner: str, live: LiveRun) -> dict[str, Any]:
        output = self._output()
        folder = save_live_run(live, output, SAVED_PREFIX, self._live.marks(live.address), MAX_PICTURE_BYTES)
        self.own(live.folder.run.id, owner)
        self._on_save(folder, live.folder.run.id)
        self._saved.runs.runs()
        return {"text": f"Saved as {output.name}/{folder.relative_to(output).as_posix()}"}

    def _copies(self, owner: str, handle: str) -> tuple[LiveRun | None, LibraryEntry | None]:
        """The live and the saved copy of a run, if it is in the library of an owner.

        Raises:
            GoneError: it is not.
        """
        known = self._saved.runs.known()
        live = self._live.get(handle)
        if live is not None and live.owner == owner:
            entry = known.get(live.folder.run.id)
            return live, entry if entry is not None and self._may_list(owner, entry) else None
        entry = known.get(self._ids.get(handle, ""))
        if entry is None or not self._may_list(owner, entry):
            raise GoneError(NOTHING_LISTED)
        return next((each for each in self._live.of(owner) if each.folder.run.id == entry.id), None), entry

    def _entry(self, handle: str) -> LibraryEntry:
        entry = self._saved.runs.run(self._ids.get(handle, ""))
        if entry is None:
            raise GoneError(NOTHING_LISTED)
        return entry

    def _may_list(self, owner: str, entry: LibraryEntry) -> bool:
        return self._owners is None or self._owners.of(entry.id) == owner

    def _handle(self, entry: LibraryEntry) -> str:
        """An unguessable text that opens a saved run: the id in `run.json` is in published files."""
        place = f"{entry.id} {entry.place.as_posix()}".encode(errors="backslashreplace")
        return hmac.new(self._secret, place, "sha256").hexdigest()[:32]

    @property
    def _saved(self) -> SavedLibrary:
        return self._open()[0]

    @property
    def _listing(self) -> BackgroundListing[bool]:
        return self._open()[1]

    def _open(self) -> tuple[SavedLibrary, BackgroundListing[bool]]:
        """The saved runs, and what reads them again in the background."""
        with self._changing:
            output = self._output().resolve()
            if self._opened is None or self._opened[0].runs.root != output:
                saved = SavedLibrary(output)
                saved.runs.known()
                self._opened = saved, BackgroundListing(lambda: bool(saved.runs.runs()), empty=False, wait_s=MAX_WAIT_S)
            return self._opened


def live_manifest(live: LiveRun) -> dict[str, Any]:
    """A live run's manifest with its address as id, and with its prompt, which no file contains."""
    manifest = live.folder.manifest()
    return {**manifest, "id": live.address, "sampler": {**manifest["sampler"], "prompt": live.folder.run.prompt}}
