"""A run's folder: its files, and `run.json`, which lists them."""

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any, final

from ...decoders.files.contained_file import write_below
from ...errors import describe
from ..manifest import MANIFEST_NAME, PRODUCT_DEFAULTS, compose, picture_files
from ..picture import DecodedPicture
from ..run import FULL, Run, State
from ..step import StepInfo
from ..strict_json import strict_json
from .base import Delivery, Sink

MIN_SAVE_INTERVAL_S = 1.0
SAVING_SHARE = 50  # writing the record of a run with many steps takes at most one part in fifty of the time
RUN_FILES = (*PRODUCT_DEFAULTS, "csv")  # keys of files about the whole run
NO_STEP: Mapping[str, Any] = {"files": []}
LAST_PAUSES_S = (0.01, 0.02, 0.04)  # on Windows another program may keep the old file open for this long


@final
class RunFolder(Sink):
    """The folder of a run. As a sink it writes `run.json`; it is opened first and closed last.

    Every file is written under a temporary name and renamed, so that it is complete or absent.

    Args:
        path: path of the folder; created when the run is opened.
        run: run whose files it holds.
        title: name of the run in messages; None for the folder's name. That of a live run is secret.

    Attributes:
        size_bytes: size of all its files.
        state: state of the run.
        picture: sizes, items and frames of its files for `run.json`; None: as decoded.
        on_write: function that receives the name of each file after it is written. It returns immediately.
    """

    name = "run.json"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self, path: Path, run: Run, title: str | None = None) -> None:
        self.path = path
        self.run = run
        self.title = title or path.name
        self.size_bytes = 0
        self.state: State = "running"
        self.picture: Mapping[str, Any] | None = None
        self.on_write: Callable[[str], object] = lambda _name: None
        self._seconds: float | None = None
        self._steps: dict[int, dict[str, Any]] = {}
        self._step_of_file: dict[str, int] = {}
        self._looking = threading.Lock()  # into these two tables: a web server's thread must not wait for the disk
        self._latents: dict[int, str] = {}
        self._outputs: dict[str, str] = {}
        self._saved_s, self._save_interval_s = float("-inf"), MIN_SAVE_INTERVAL_S
        self._sizes: dict[str, int] = {}
        self._changing = threading.RLock()  # several threads write pictures and latents

    def resume(self, manifest: Mapping[str, Any]) -> None:
        """Takes over the steps and files of an earlier part of the run, from its validated manifest."""
        for step in manifest["steps"]:
            self._list(dict(step))
        self._latents = {step["index"]: step["latent"] for step in manifest["steps"] if step["latent"]}
        self._outputs = {name: manifest[name] for name in RUN_FILES if manifest.get(name)}

    def open(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._try_to_save()

    def close(self, state: State) -> None:
        self.abandon(state)
        for pause_s in LAST_PAUSES_S:  # this is the last chance to record how the run ended
            try:
                self.save()
            except (OSError, MemoryError):
                time.sleep(pause_s)
            else:
                return
        self.save()

    def abandon(self, state: State) -> None:
        """Records how the run ended, without writing it. Any thread may call it."""
        self._seconds = self._elapsed_s()
        self.state = state

    def record(
        self,
        picture: DecodedPicture,
        *files: str,
        noisy: Sequence[str] = (),
        folders: Sequence[str] = (),
        write_ms: float | None = None,
    ) -> None:
        """Adds a step with its files to `run.json`, which is saved at most once a second.

        If the sampler reports a step twice, the later picture replaces the earlier one.

        Args:
            picture: picture of the step.
            files: names of its files.
            noisy: names of the files of its noisy latents, if they are shown beside the denoised ones.
            folders: folders that hold a file for each frame.
            write_ms: duration of encoding and writing, in milliseconds.
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
        if noisy:
            entry["noisy_files"] = list(noisy)
        if folders:
            entry["folders"] = list(folders)
        if picture.change is not None:
            entry["change"] = round(picture.change, 5)
        if picture.not_finite:
            entry["not_finite"] = round(picture.not_finite, 4)
        with self._changing:
            self._enter({**entry, "latent": self._latents.get(picture.index)})

    def record_latent(self, step: StepInfo, file: str) -> None:
        """Adds the file with a step's latents to `run.json`, before or after the step's picture."""
        without_picture = {"show": None, "files": [], "decode_ms": None, "write_ms": None}
        entry = {"index": step.index, "sigma": step.sigma, "at": round(step.at_s, 4), **without_picture}
        with self._changing:
            self._latents[step.index] = file
            self._enter({**entry, **self._steps.get(step.index, {}), "latent": file})

    def _enter(self, entry: dict[str, Any]) -> None:
        self._list(entry)
        if self._elapsed_s() - self._saved_s >= self._save_interval_s:
            self._try_to_save()

    def _list(self, entry: dict[str, Any]) -> None:
        """Puts a step into the tables, without a look at the others: a run may have many."""
        index = entry["index"]
        with self._looking:
            for file in picture_files(self._steps.get(index, NO_STEP)):
                if self._step_of_file.get(file) == index:  # else another step has written a file of this name
                    del self._step_of_file[file]
            self._steps[index] = entry
            self._step_of_file.update((file, index) for file in picture_files(entry))

    def step(self, index: int) -> Mapping[str, Any] | None:
        """A step as in `run.json`, or None. Any thread may call it."""
        return self._steps.get(index)

    def step_of(self, file: str) -> Mapping[str, Any] | None:
        """The step that a picture file belongs to, as in `run.json`, or None. Any thread may call it."""
        index = self._step_of_file.get(file)
        return None if index is None else self._steps.get(index)

    def write(self, name: str, content: bytes) -> None:
        """Writes a file into the folder, or into a folder in it. It appears under its name only when complete."""
        write_below(self.path, PurePath(name), content)
        with self._changing:
            self.size_bytes += len(content) - self._sizes.get(name, 0)
            self._sizes[name] = len(content)
        self.on_write(name)

    def announce(self, **outputs: str) -> None:
        """Adds files of the whole run to `run.json`, such as `sheet`, `animation` and `page`."""
        self._outputs = self._outputs | outputs  # replaced, never changed, as the table of steps is

    @property
    def products(self) -> Mapping[str, str]:
        """Names of the files of the whole run that exist, such as `sheet`. Any thread may read it."""
        return self._outputs

    @property
    def file_count(self) -> int:
        """The number of files in the folder. Any thread may read it."""
        return len(self._sizes)

    def lists(self, file: str) -> bool:
        """Whether `run.json` lists a file. Any thread may call it."""
        return file in self._step_of_file or file in self._outputs.values()

    def files(self) -> set[str]:
        """Names of all files that `run.json` lists. Any thread may call it."""
        with self._looking:
            return {*self._step_of_file, *self._outputs.values()}

    def manifest(self) -> dict[str, Any]:
        """The current content of `run.json`. Any thread may call it."""
        with self._looking:
            steps = list(self._steps.values())
        steps.sort(key=lambda entry: entry["index"])
        manifest = compose(self.run, self.state, self._elapsed_s(), steps, self._outputs)
        return manifest | {"picture": strict_json(self.picture or self.run.picture, self.run.note, "picture")}

    def save(self) -> None:
        """Writes `run.json`."""
        with self._changing:
            self._saved_s = began_s = self._elapsed_s()
            # Half a character, of a host's path or a client's id, is written as JSON writes it.
            self.write(MANIFEST_NAME, json.dumps(self.manifest(), ensure_ascii=False).encode(errors="backslashreplace"))
            self._save_interval_s = max(MIN_SAVE_INTERVAL_S, SAVING_SHARE * (self._elapsed_s() - began_s))

    def remove_if_empty(self) -> None:
        """Removes the folder after a run that recorded no step and has no note: the sampler reported none.

        With a file in it that this object did not write, the folder stays as it is.
        """
        with self._changing:
            if self._steps or self.run.notes or self.state == "running":
                return
            with suppress(OSError):
                if any(file.name not in self._sizes for file in self.path.iterdir()):
                    return
                for name in self._sizes:
                    (self.path / name).unlink(missing_ok=True)
                self.path.rmdir()

    def _try_to_save(self) -> None:
        """A disk that is full now may have room in a second, and the step's picture is already written."""
        try:
            self.save()
        except (OSError, MemoryError) as error:
            self.run.note(f"{self.name} failed", describe(error))

    def _elapsed_s(self) -> float:
        return self.run.elapsed_s() if self._seconds is None else self._seconds


@final
class EmptyFolderRemoval(Sink):
    """Removes the folder of a run that turns out to be empty. Put it before the folder: it is then closed after it."""

    name = "the removal of an empty folder"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def close(self, state: State) -> None:
        self._folder.remove_if_empty()
