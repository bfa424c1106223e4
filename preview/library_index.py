"""The index of a folder of runs: a file with what a library shows of each run, so that it need not read all runs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, get_args

from ..decoders.files.contained_file import read_below, write_below
from .decode.memory_budget import MB
from .file_names import is_file_name, picture_type
from .folder_listing import FolderContent, ListedFolder
from .manifest import UNKNOWN_STATE
from .run import State
from .run_details import checked_details
from .run_marks import NO_MARKS, Marks
from .run_summary import short, short_facts
from .run_trash import OWN_FOLDER, is_run_path
from .untrusted_json import read_json

INDEX = PurePath(OWN_FOLDER, "index.json")
INDEX_FORMAT = "safelight.index/1"
MAX_INDEX_BYTES = 64 * MB  # 5,000 runs take 6 MB
MAX_INDEX_VALUES = 4_000_000
SAMPLER_FACTS = ("steps", "seed", "cfg", "name", "scheduler")


@dataclass(frozen=True)
class IndexedRun:
    """A run in the index.

    Args:
        version: text that changes whenever the manifest changes.
        facts: summary of the run; None if its manifest is not valid.
        details: its details.
        marks_version: text that changes whenever the file of its marks changes; empty if there is none.
        marks: the user's star and note.
    """

    version: str
    facts: dict[str, Any] | None
    details: dict[str, Any]
    marks_version: str = ""
    marks: Marks = NO_MARKS


@dataclass(frozen=True)
class LibraryIndex:
    """What is known of a folder of runs, by paths in it."""

    folders: Mapping[str, ListedFolder] = field(default_factory=dict)
    runs: Mapping[str, IndexedRun] = field(default_factory=dict)


EMPTY_INDEX = LibraryIndex()


def read_index(root: Path) -> LibraryIndex:
    """The index of the folder `root`; empty if there is none, or if any part of it is damaged.

    The file may come from anywhere. It is a regular file, no link, and what it says of a run is checked like the run's
    own manifest.
    """
    try:
        content = read_below(root, INDEX, MAX_INDEX_BYTES)
        found = read_json(content, MAX_INDEX_VALUES)
        if found["format"] != INDEX_FORMAT:
            return EMPTY_INDEX
        return LibraryIndex(
            {_path(path): _folder(*entry) for path, *entry in found["folders"]},
            {_path(path): _run(*entry) for path, *entry in found["runs"]},
        )
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return EMPTY_INDEX


def write_index(root: Path, index: LibraryIndex) -> None:
    """Writes the index of the folder `root`, so that the file is complete or as before. A too large one is not written.

    Raises:
        OSError: the file cannot be written.
    """
    value = {
        "format": INDEX_FORMAT,
        "folders": [
            [path, f"{folder.changed_ns:x}", f"{folder.listed_ns:x}", folder.content.has_run, folder.content.folders]
            for path, folder in index.folders.items()
        ],
        "runs": [
            [path, run.version, run.facts, run.details, run.marks_version, run.marks.star, run.marks.note]
            for path, run in index.runs.items()
        ],
    }
    content = json.dumps(value, separators=(",", ":")).encode()
    if len(content) <= MAX_INDEX_BYTES:
        write_below(root, INDEX, content)


def _path(path: Any) -> str:
    _expect(isinstance(path, str) and (path == "." or is_run_path(path)))
    return path


def _folder(changed_ns: Any, listed_ns: Any, has_run: Any, folders: Any) -> ListedFolder:
    _expect(type(has_run) is bool)
    _expect(all(isinstance(name, str) and _is_folder_name(name) for name in folders))
    return ListedFolder(int(changed_ns, 16), int(listed_ns, 16), FolderContent(has_run, tuple(folders)))


def _is_folder_name(name: str) -> bool:
    return len(PurePath(name).parts) == 1 and not name.startswith(".") and PurePath(name).name == name


def _run(version: Any, facts: Any, details: Any, marks_version: Any, star: Any, note: Any) -> IndexedRun:
    _expect(all(isinstance(text, str) for text in (version, marks_version, note)) and isinstance(details, dict))
    if facts is None:
        return IndexedRun(version, None, {})
    _expect(isinstance(facts, dict))
    marks = NO_MARKS.changed(star is True, note)
    return IndexedRun(version, _checked_facts(facts, version), checked_details(details), marks_version, marks)


def _checked_facts(facts: Mapping[str, Any], version: str) -> dict[str, Any]:
    """A summary with the types that `run_summary` gives to each key."""
    state, sampler, thumbnail = facts["state"], facts["sampler"], facts["thumbnail"]
    _expect(isinstance(facts["id"], str) and isinstance(sampler, dict))
    for key in ("steps", "index", "total", "written"):
        _expect(facts[key] is None or type(facts[key]) is int)
    for key in ("started", "space"):
        _expect(facts[key] is None or isinstance(facts[key], str))
    for key in ("decoder", "picture"):
        _expect(facts[key] is None or isinstance(facts[key], dict))
    _expect(thumbnail is None or (is_file_name(thumbnail) and picture_type(thumbnail) is not None))
    _expect(facts["at"] is None or type(facts["at"]) in (int, float))
    return {
        **{key: short(facts[key]) for key in ("id", "started", "space")},
        "state": state if state in get_args(State) else UNKNOWN_STATE,
        **{key: short_facts(facts[key]) for key in ("decoder", "picture")},
        "version": version,
        "written": facts["written"],
        "sampler": {key: short(sampler[key]) for key in SAMPLER_FACTS},
        **{key: facts[key] for key in ("steps", "index", "total", "thumbnail", "at")},
    }


def _expect(is_valid: bool) -> None:
    if not is_valid:
        raise ValueError("damaged")
