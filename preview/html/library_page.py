"""Writes the index page of a folder of runs: a file that opens them in any browser, without a server."""

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...errors import ManifestError, PageError, StoreError, describe
from ..decode.memory_budget import MB
from ..library_entry import LibraryEntry
from ..manifest import picture_files
from ..run_library import RunLibrary
from .bundle import bundle
from .document import document

LIBRARY_PAGE = "library.html"
MAX_MANIFESTS_BYTES = 48 * MB  # 5,000 runs of 20 steps have 15 MB; a browser reads it in less than a second
STEP_FACTS = ("index", "sigma", "at", "files", "noisy_files", "decode_ms", "not_finite", "change")
RUN_FACTS = ("id", "state", "started", "seconds", "space", "decoder", "picture")
SAMPLER_FACTS = ("steps", "seed", "cfg", "name", "scheduler", "strength", "guidance", "prompt", "model", "loras")
MAX_PAGE_NOTES = 3


def write_library_page(library: RunLibrary) -> Path:
    """Writes `library.html` into the folder of a library, with all its runs. Returns the path.

    The page shows the pictures from the folders of the runs, so it is of use only where it is.

    Raises:
        PageError: the file cannot be written.
    """
    left, runs = MAX_MANIFESTS_BYTES, list[dict[str, Any]]()
    for entry in library.runs().values():
        manifest = _short_manifest(entry)
        size = len(json.dumps(manifest))
        if size > left:  # newer runs have theirs; this one is shown with its newest picture
            manifest, size = _newest_picture(entry), 0
        left -= size
        runs.append({**entry.item, "manifest": manifest})
    written = datetime.now(timezone.utc).isoformat(timespec="seconds")
    data = {"folder": library.name, "written": written, "runs": runs}
    try:
        library.write(LIBRARY_PAGE, document(data, bundle("library-page")).html.encode())
    except (OSError, StoreError) as error:
        raise PageError(f"{library.place}: {LIBRARY_PAGE} cannot be written: {describe(error)}") from None
    return library.root / LIBRARY_PAGE


def _short_manifest(entry: LibraryEntry) -> Mapping[str, Any]:
    """What the viewer needs of a manifest to show the steps of a run."""
    try:
        manifest = entry.described
    except ManifestError:  # deleted since it was listed
        return _newest_picture(entry)
    sampler = manifest["sampler"]
    steps = [{key: step[key] for key in STEP_FACTS if key in step} for step in manifest["steps"] if picture_files(step)]
    return {
        **{key: manifest[key] for key in RUN_FACTS},
        "sampler": {key: sampler[key] for key in SAMPLER_FACTS if key in sampler},
        "steps": steps,
        "notes": manifest["notes"][-MAX_PAGE_NOTES:],
    }


def _newest_picture(entry: LibraryEntry) -> Mapping[str, Any]:
    facts = entry.facts
    steps = [{"index": facts["index"], "at": facts["at"], "files": [facts["thumbnail"]]}] if facts["thumbnail"] else []
    known = ("id", "state", "started", "space", "decoder", "picture", "sampler")
    return {**{key: facts[key] for key in known}, "steps": steps, "notes": []}
