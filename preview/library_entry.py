"""A saved run as a library lists it."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePath
from typing import Any

from .manifest import picture_files, read_manifest
from .run_marks import Marks


@dataclass(frozen=True)
class LibraryEntry:
    """A run of a library. Only its summary stays in memory: a manifest of 8 MB needs about 190 MB.

    Args:
        id: id in the manifest, or a new one if that is no UUID or if another folder has the same.
        root: folder of the library.
        folder: folder of the run.
        version: a text that changes whenever the manifest changes.
        facts: the run in a list of runs, with this id.
        details: what people search for, see `run_details`.
        marks: the user's star and note.
    """

    id: str
    root: Path
    folder: Path
    version: str
    facts: Mapping[str, Any]
    details: Mapping[str, Any]
    marks: Marks

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The validated manifest with this id, read again from the folder.

        Raises:
            ManifestError: it was deleted or damaged since it was listed.
        """
        return {**_manifest(self.folder, self.root, self.version), "id": self.id}

    @property
    def described(self) -> Mapping[str, Any]:
        """The same with the prompt that its pictures contain, as a server of live runs has it.

        Raises:
            ManifestError: as for `manifest`.
        """
        manifest = self.manifest
        sampler = manifest["sampler"]
        return {**manifest, "sampler": {**sampler, "prompt": sampler.get("prompt") or self.details["prompt"]}}

    @property
    def files(self) -> frozenset[str]:
        """The names of the pictures that the manifest lists."""
        manifest = _manifest(self.folder, self.root, self.version)
        products = (name for key in ("sheet", "animation") if (name := manifest[key]) is not None)
        return frozenset([*(name for step in manifest["steps"] for name in picture_files(step)), *products])

    @property
    def place(self) -> PurePath:
        """The path of its folder in the library."""
        return self.folder.relative_to(self.root)

    def summary(self) -> dict[str, Any]:
        """The run in a list of runs."""
        return dict(self.facts)

    @cached_property
    def item(self) -> Mapping[str, Any]:
        """The run in a library: its summary, details and marks, and the path of its folder."""
        return {
            **self.facts,
            **self.details,
            "folder": self.place.as_posix().encode(errors="replace").decode(),
            "star": self.marks.star,
            "note": self.marks.note,
        }


_reading_one = threading.Lock()  # many requests at a time need the memory of one manifest


def _manifest(folder: Path, root: Path, version: str) -> Mapping[str, Any]:
    """The manifest in a folder; `version` is another one after each change."""
    with _reading_one:
        return _read_once(folder, root, version)


@lru_cache(maxsize=2)  # the runs that a viewer compares
def _read_once(folder: Path, root: Path, version: str) -> Mapping[str, Any]:  # noqa: ARG001 - part of the cache's key
    return read_manifest(folder, root)
