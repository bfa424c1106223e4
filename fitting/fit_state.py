"""Saves what an interrupted fit has done, so that the next call goes on where it stopped.

    <output>.fit-state     finished presets, and the training in progress
    <output>.fit-pairs/    pairs, so that the images are not encoded again

Both are removed when the fit is finished.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from ..decoders.decoder import Decoder
from ..decoders.files.decoder_file import build
from ..decoders.files.regular_file import read_regular_file
from ..decoders.files.tensor_file import Tensors, open_tensors, write_tensors
from ..decoders.nets.base import Net
from ..errors import DecoderFileError, FitError
from .pairs import MAX_PAIRS_BYTES, Pairs
from .train import TrainingState

STATE_FORMAT = "safelight.fit/1"
STATE_SUFFIX, PAIRS_SUFFIX = ".fit-state", ".fit-pairs"
PAIRS_FILE = "pairs.safetensors"  # in a folder of its own: in a folder of decoders it would count as a bad decoder
MAX_STATE_BYTES = 1 << 28
FINISHED, TRAINING = "finished", "training"

log = logging.getLogger("safelight.fitting")


@final
class FitState:
    """The state of one fit. A state that cannot be written is no reason to stop the fit.

    Args:
        output: path of the output without a suffix; the files of the state are beside it.
        key: text that other inputs of the fit change.
    """

    def __init__(self, output: Path, key: str) -> None:
        self._state = output.with_name(output.name + STATE_SUFFIX)
        self._pairs = output.with_name(output.name + PAIRS_SUFFIX) / PAIRS_FILE
        self._key = hashlib.sha256(key.encode()).hexdigest()
        self._facts: dict[str, Any] = {"key": self._key, "finished": {}, "written": {}}
        self._tensors: dict[str, Tensor] = {}
        self.notes: list[str] = []
        self._open()

    def _open(self) -> None:
        if not self._state.exists():
            return
        try:
            content = read_regular_file(self._state, MAX_STATE_BYTES)
            metadata, tensors = open_tensors(self._state, content, max_bytes=MAX_STATE_BYTES)
            facts = json.loads(metadata["facts"])
            kinds = {"key": str, "finished": dict, "written": dict}
            if metadata["format"] != STATE_FORMAT or not all(isinstance(facts[k], kind) for k, kind in kinds.items()):
                raise ValueError("another format")
        except (DecoderFileError, OSError, KeyError, TypeError, ValueError, RecursionError) as error:
            self.notes.append(f"{self._state}: cannot be read ({error}); the fit starts again")
            return
        if facts["key"] != self._key:
            self.notes.append(f"{self._state}: of other options or other pictures; the fit starts again")
            return
        self._facts, self._tensors = facts, dict(tensors)
        self.notes.append(f"{self._state}: the fit goes on where it stopped")

    # Files.

    def pairs(self, encode: Callable[[], Pairs]) -> Pairs:
        """The pairs of an earlier call with the same key; else those of `encode`, which are saved."""
        try:
            metadata, _ = open_tensors(self._pairs, label="pairs", max_bytes=MAX_PAIRS_BYTES, values=False)
            if metadata.get("key") == self._key:
                return Pairs.load(self._pairs)
        except (DecoderFileError, FitError):
            pass
        pairs = encode()
        try:
            self._pairs.parent.mkdir(parents=True, exist_ok=True)
            pairs.save(self._pairs, key=self._key)
            self._save()
        except OSError as error:
            self._cannot_write(error)
        return pairs

    def written(self, paths: Iterable[Path]) -> None:
        """Remembers the decoder files of the fit."""
        self._facts["written"] = {str(path): _digest(path) for path in paths if path.exists()}
        self._save()

    def remove_written(self) -> None:
        """Removes the decoder files of an interrupted call, unless others changed them; they are written again."""
        for name, digest in self._facts["written"].items():
            path = Path(name)
            if path.is_file() and _digest(path) == digest:
                path.unlink()
        self._facts["written"] = {}

    def remove(self) -> None:
        """Removes the state: the fit is finished."""
        for path in (self._state, self._pairs):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or the user put something into it
            self._pairs.parent.rmdir()

    # Presets.

    def expect_dataset(self, description: str) -> None:
        """Starts again if the pairs of training and validation are others than before."""
        if self._facts.setdefault("dataset", description) != description:
            self._facts = {"key": self._key, "finished": {}, "written": {}, "dataset": description}
            self._tensors = {}
            self.notes.append("the training or validation pictures are others than before; the fit starts again")

    def finished(self, preset: str, kind: str, settings: Mapping[str, Any]) -> tuple[Net, float] | None:
        """The net of a preset and its validation PSNR, if it was finished."""
        if preset not in self._facts["finished"]:
            return None
        net = build(kind, settings, _part(self._tensors, f"{FINISHED}.{preset}."))
        return net.eval().requires_grad_(False), self._facts["finished"][preset]

    def finish(self, preset: str, net: Net, validation_db: float) -> None:
        """Saves a finished preset."""
        self._facts["finished"][preset] = validation_db
        self._facts.pop(TRAINING, None)
        self._tensors = {key: value for key, value in self._tensors.items() if not key.startswith(f"{TRAINING}.")}
        self._tensors |= {f"{FINISHED}.{preset}.{key}": value for key, value in net.state_dict().items()}
        self._save()

    def training(self, preset: str) -> TrainingState | None:
        """The training of a preset, if it was interrupted."""
        facts = self._facts.get(TRAINING)
        if facts is None or facts["preset"] != preset:
            return None
        numbers = {name: facts[name] for name in ("step", "now_db", "best_db")}
        return TrainingState(**numbers, tensors=_part(self._tensors, f"{TRAINING}."))

    def save_training(self, preset: str, training: TrainingState) -> None:
        """Saves a training in progress."""
        numbers = {"step": training.step, "now_db": training.now_db, "best_db": training.best_db}
        self._facts[TRAINING] = {"preset": preset, **numbers}
        self._tensors = {key: value for key, value in self._tensors.items() if not key.startswith(f"{TRAINING}.")}
        self._tensors |= {f"{TRAINING}.{key}": value for key, value in training.tensors.items()}
        self._save()

    def _save(self) -> None:
        metadata = {"format": STATE_FORMAT, "facts": json.dumps(self._facts)}
        tensors = self._tensors or {"nothing": torch.zeros(1)}  # older versions of safetensors read no empty file
        try:
            self._state.parent.mkdir(parents=True, exist_ok=True)
            write_tensors(self._state, tensors, metadata)
        except OSError as error:
            self._cannot_write(error)

    def _cannot_write(self, error: OSError) -> None:
        note = f"{self._state}: cannot be written ({error.strerror or error}); an interrupted fit would start again"
        if note not in self.notes:
            self.notes.append(note)
            log.warning("%s", note)


def was_interrupted(decoders: Iterable[Decoder]) -> bool:
    """Whether the training of one of the decoders was interrupted; its card has a note then."""
    return any(decoder.card.notes for decoder in decoders)


def fit_key(facts: Mapping[str, Any], files: Iterable[Path]) -> str:
    """A text that changes with the options of a fit and with its input files: their paths, sizes and times."""
    stamps: list[Any] = []
    for path in files:
        inside = sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]
        for file in inside:
            known = file.stat() if file.exists() else None
            stamps.append((str(file.absolute()), known and known.st_size, known and known.st_mtime_ns))
    return json.dumps([facts, stamps], sort_keys=True, default=str)


def _part(tensors: Tensors, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
