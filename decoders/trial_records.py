"""Remembers which decoder files agreed with a latent space, by the sha256 of their content.

    <folder>/trials.json

A damaged file counts as missing: the next trial writes it again.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from ..errors import DecoderFileError
from .agreement import Agreement, Sums
from .files.contained_file import write_below
from .files.read_cache import read_cached
from .files.regular_file import open_regular_file, read_regular_file

TRIALS_FILE = "trials.json"
TRIALS_FORMAT = "safelight.trials/1"
MAX_TRIALS_BYTES = 1 << 20
MAX_FILES, MAX_SPACES, MAX_NOTED = 256, 64, 256  # the oldest are forgotten
MAX_NAME = 200  # characters of a file name
HASHED_BYTES = 1 << 20  # read at a time


@dataclass(frozen=True)
class TriedFile:
    """A decoder file, and how far it agrees with each latent space that it was tried in.

    Args:
        name: name of the file, for people.
        size: its bytes.
        spaces: agreement by the name of the space.
    """

    name: str
    size: int
    spaces: Mapping[str, Agreement] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialRecords:
    """All trials of a folder.

    Args:
        files: tried files by the sha256 of their content, the newest last.
        noted: names of unusable files that the user has a note about, each with its size.
    """

    files: Mapping[str, TriedFile] = field(default_factory=dict)
    noted: tuple[str, ...] = ()

    def of(self, path: Path) -> Mapping[str, Agreement]:
        """Returns the agreement of a file with each space that it was tried in."""
        try:
            if path.stat().st_size not in {file.size for file in self.files.values()}:  # so it need not be read
                return {}
            tried = self.files.get(read_cached(sha256_of, path))
        except (OSError, DecoderFileError):
            return {}
        return tried.spaces if tried else {}

    def with_trial(self, sha256: str, name: str, size: int, space: str, agreement: Agreement) -> "TrialRecords":
        """Returns the records with a further trial of a file."""
        files = dict(self.files)
        spaces = dict((files.pop(sha256, None) or TriedFile(name, size)).spaces)
        spaces[space] = spaces.pop(space, Agreement()) + agreement
        files[sha256] = TriedFile(name[:MAX_NAME], size, dict(list(spaces.items())[-MAX_SPACES:]))
        return replace(self, files=dict(list(files.items())[-MAX_FILES:]))

    def with_noted(self, keys: Iterable[str]) -> "TrialRecords":
        """Returns the records with further files that the user has a note about."""
        return replace(self, noted=tuple(dict.fromkeys((*self.noted, *keys)))[-MAX_NOTED:])


def read_trials(folder: Path) -> TrialRecords:
    """Reads the records of a folder; there are none if the file is missing or damaged."""
    try:
        return read_cached(_read, folder / TRIALS_FILE)
    except DecoderFileError:
        return TrialRecords()


def write_trials(folder: Path, records: TrialRecords) -> None:
    """Writes the records of a folder, so that the file is never half written.

    Raises:
        OSError: the file cannot be written.
    """
    files = {
        sha256: {"name": file.name, "bytes": file.size, "spaces": {k: _facts(v) for k, v in file.spaces.items()}}
        for sha256, file in records.files.items()
    }
    text = json.dumps({"format": TRIALS_FORMAT, "files": files, "noted": list(records.noted)}, indent=1)
    folder.mkdir(parents=True, exist_ok=True)
    write_below(folder, PurePath(TRIALS_FILE), text.encode())


def sha256_of(path: Path) -> str:
    """Returns the sha256 of a file's content.

    Raises:
        DecoderFileError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open_regular_file(path) as file:
            while block := file.read(HASHED_BYTES):
                digest.update(block)
    except OSError as error:
        raise DecoderFileError(f"{path}: cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


def _facts(agreement: Agreement) -> dict[str, Any]:
    return {"pictures": agreement.pictures, "luma": agreement.luma, "chroma": agreement.chroma}


def _read(path: Path) -> TrialRecords:
    try:
        facts = json.loads(read_regular_file(path, MAX_TRIALS_BYTES))
        if facts["format"] != TRIALS_FORMAT:
            raise ValueError(f"expected format {TRIALS_FORMAT}, got {facts['format']!r}")
        files = {
            str(sha256): TriedFile(
                str(file["name"]), int(file["bytes"]), {str(k): _agreement(v) for k, v in file["spaces"].items()}
            )
            for sha256, file in facts["files"].items()
        }
        return TrialRecords(files, tuple(map(str, facts["noted"])))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise DecoderFileError(f"{path}: no trials of decoders: {error}") from None


def _agreement(facts: Mapping[str, Any]) -> Agreement:
    return Agreement(int(facts["pictures"]), _sums(facts["luma"]), _sums(facts["chroma"]))


def _sums(values: Any) -> Sums:
    product, own, others = (float(value) for value in values)
    if not all(map(math.isfinite, (product, own, others))):
        raise ValueError("expected finite sums")
    return product, own, others
