"""A run's folder: its files and the manifest that lists them, each written beside its place and renamed into it."""

import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from ..manifest import MANIFEST_NAME, compose
from ..picture import Picture
from ..run import FULL, Run, State
from .base import Sink

MIN_SAVE_INTERVAL_S = 1.0
LAST_PAUSES_S = (0.01, 0.02, 0.04)  # as long as another program, on Windows, may keep the file open that is replaced


@final
class RunFolder(Sink):
    """Where a run's files are. As a sink it sees the manifest through; put it first, so that it is closed last.

    Args:
        path: of the folder; made when the run is opened.
        run: whose folder it is.

    Attributes:
        size_bytes: of all files in it.
        state: of the run.
        picture: sizes, items and frames of its files, as the manifest has them; None: as decoded.
    """

    name = "run.json"
    keeps = False

    def __init__(self, path: Path, run: Run) -> None:
        self.path = path
        self.run = run
        self.size_bytes = 0
        self.state: State = "running"
        self.picture: Mapping[str, Any] | None = None
        self._seconds: float | None = None
        self._steps: dict[int, dict[str, Any]] = {}
        self._latents: dict[int, str] = {}
        self._products: dict[str, str] = {}
        self._saved_s = float("-inf")
        self._sizes: dict[str, int] = {}
        self._changing = threading.RLock()  # pictures and latents are kept by several threads

    def open(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._save_if_it_can_be()

    def show(self, picture: Picture) -> None:
        pass

    def close(self, state: State) -> None:
        self.leave(state)
        for pause_s in LAST_PAUSES_S:  # nobody tries again later: how the run ended would never be told
            try:
                self.save()
            except (OSError, MemoryError):
                time.sleep(pause_s)
            else:
                return
        self.save()

    def leave(self, state: State) -> None:
        self._seconds = self._elapsed_s()
        self.state = state

    def record(self, picture: Picture, *files: str, folders: Sequence[str] = (), write_ms: float | None = None) -> None:
        """Enters a step in the manifest, with the files that now exist of it; saved once a second.

        A step that the sampler reports twice is one step, the later picture the one that counts. One whose picture
        a VAE made, where a decoder made the others, says so; one that has each frame in a file besides names their
        `folders`.
        """
        entry = {
            "index": picture.index,
            "sigma": picture.sigma,
            "at": round(picture.at_s, 4),
            "show": picture.show,
            "files": list(files),
            "latent": None,
            "decode_ms": round(picture.decode_ms, 3),
            "write_ms": write_ms,
        }
        if picture.decoder == FULL and (self.run.decoder or {}).get("name") != FULL:
            entry["decoder"] = FULL
        if folders:
            entry["folders"] = list(folders)
        with self._changing:
            self._enter({**entry, "latent": self._latents.get(picture.index)})

    def record_latent(self, index: int, sigma: float | None, at_s: float, file: str) -> None:
        """Enters in the manifest that a step's latents are in `file`; there may be a picture of it, before or after."""
        unseen = {"show": None, "files": [], "decode_ms": None, "write_ms": None}
        entry = {"index": index, "sigma": sigma, "at": round(at_s, 4), **unseen}
        with self._changing:
            self._latents[index] = file
            self._enter({**entry, **self._steps.get(index, {}), "latent": file})

    def _enter(self, entry: dict[str, Any]) -> None:
        # Replaced, never changed in place: the thread of a web server may be reading it.
        self._steps = self._steps | {entry["index"]: entry}
        if self._elapsed_s() - self._saved_s >= MIN_SAVE_INTERVAL_S:
            self._save_if_it_can_be()

    def step(self, index: int) -> Mapping[str, Any] | None:
        """A step as the manifest has it, or None. Any thread may ask."""
        return self._steps.get(index)

    def write(self, name: str, content: bytes) -> None:
        """Puts a file in the folder, or in one below it. It has its name once it is whole, or never."""
        place = self.path / name
        if place.parent != self.path:
            place.parent.mkdir(exist_ok=True)
        beside = place.with_name(f".{place.name}.part")
        try:
            beside.write_bytes(content)
            beside.replace(place)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        # Counted here: the thread that asks must not find the table changing under it.
        with self._changing:
            self.size_bytes += len(content) - self._sizes.get(name, 0)
            self._sizes[name] = len(content)

    def announce(self, **products: str) -> None:
        """Names what was made of the whole run: `sheet`, `animation`, `page`."""
        self._products |= products

    def files(self) -> set[str]:
        """The names of all files that the manifest lists. Any thread may ask."""
        steps = self._steps.values()
        return {name for entry in steps for name in entry["files"]} | set(self._products.values())

    def manifest(self) -> dict[str, Any]:
        """The manifest as of now. Any thread may ask."""
        steps = sorted(self._steps.values(), key=lambda entry: entry["index"])
        made = compose(self.run, self.state, self._elapsed_s(), steps, self._products)
        return made | {"picture": self.picture or self.run.picture}

    def save(self) -> None:
        """Writes the manifest."""
        with self._changing:
            self._saved_s = self._elapsed_s()
            # Half a character, of a host's path or a client's id, is written as JSON writes it.
            self.write(MANIFEST_NAME, json.dumps(self.manifest(), ensure_ascii=False).encode(errors="backslashreplace"))

    def _save_if_it_can_be(self) -> None:
        """A disk that is full now may have room in a second; the picture that is there already is none the worse."""
        try:
            self.save()
        except (OSError, MemoryError) as error:
            self.run.note(f"{self.name} failed: {type(error).__name__}: {error}")

    def _elapsed_s(self) -> float:
        return self.run.elapsed_s() if self._seconds is None else self._seconds
