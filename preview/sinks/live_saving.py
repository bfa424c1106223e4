"""Saves a live run as a run in the user's folder, before newer runs need its space."""

import json
from pathlib import Path, PurePath
from typing import Any

from ...decoders.files.contained_file import read_below, write_below
from ...errors import LibraryError, describe
from ..html.bundle import bundle
from ..html.document import document
from ..manifest import MANIFEST_NAME, PICTURE_LISTS, picture_files
from ..output_folder import create_numbered_folder
from ..run_marks import MARKS_NAME, Marks, marks_json
from .live_export import exported_picture
from .live_runs import LiveRun
from .run_group import PAGE_NAME


def save_live_run(live: LiveRun, output: Path, prefix: PurePath, marks: Marks, max_bytes: int) -> Path:
    """Copies a run that has ended into a new numbered folder: pictures, `run.json`, marks and page. Returns the folder.

    The pictures of the last step become files as the user gets them from the viewer, with the workflow; latents are
    not copied.

    Args:
        live: the run.
        output: output folder of the host.
        prefix: path in it; the new folder has a number behind it.
        marks: star and note of the run.
        max_bytes: largest picture that is read.

    Raises:
        LibraryError: the run is running, or a file cannot be read or written.
    """
    if live.folder.state == "running":
        raise LibraryError("this run is still running; save it when it has ended")
    folder = create_numbered_folder(output / prefix.parent, prefix.name)
    try:
        manifest = _copy_pictures(live, folder, max_bytes)
        files = {
            MANIFEST_NAME: json.dumps(manifest, ensure_ascii=False).encode(errors="backslashreplace"),
            MARKS_NAME: marks_json(marks),
            PAGE_NAME: document(manifest, bundle("page")).html.encode(),
        }
        for name, content in files.items():
            write_below(folder, PurePath(name), content)
    except OSError as error:
        raise LibraryError(f"the run cannot be saved: {describe(error)}") from None
    return folder


def _copy_pictures(live: LiveRun, folder: Path, max_bytes: int) -> dict[str, Any]:
    """Writes the pictures of a run into `folder`. Returns the manifest with the files that exist there."""
    manifest: dict[str, Any] = {**live.folder.manifest(), "page": PAGE_NAME}
    last = next((step["index"] for step in reversed(manifest["steps"]) if step["files"]), None)
    steps = list[dict[str, Any]]()
    for step in manifest["steps"]:
        copies = dict[str, str]()
        for file in picture_files(step):
            exported = exported_picture(live, file, None, max_bytes) if step["index"] == last else None
            if exported is not None:
                name, content = PurePath(file).stem + PurePath(exported.name).suffix, exported.content
            else:
                path = live.folder.path
                name, content = file, read_below(path.parent, PurePath(path.name, file), max_bytes)
            write_below(folder, PurePath(name), content)
            copies[file] = name
        copied = {key: [copies[file] for file in step[key]] for key in PICTURE_LISTS if key in step}
        steps.append({**step, **copied, "latent": None})
    return {**manifest, "steps": steps}
