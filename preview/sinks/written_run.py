"""The files that a live run writes into the user's folder, as its viewer shows and opens them."""

from pathlib import PurePath
from typing import Any, NamedTuple

from ...decoders.files.contained_file import read_below
from ..file_names import picture_type
from ..manifest import MANIFEST_NAME
from .live_runs import ExportFacts
from .run_folder import RunFolder

# A page may have been replaced by another program. Without an origin of its own, it has no rights on the host's server.
PAGE_POLICY = "sandbox allow-scripts allow-popups allow-downloads"
OTHER_TYPES = {".json": "application/json", ".csv": "text/plain; charset=utf-8", ".html": "text/html; charset=utf-8"}


class WrittenFile(NamedTuple):
    """A file: its MIME type, its content, and a Content-Security-Policy for pages."""

    mime_type: str
    content: bytes
    policy: str | None


def written_facts(export: ExportFacts) -> dict[str, Any] | None:
    """What a viewer shows of the files that a run has written so far; None if there are none.

    Returns:
        `place`, the folder as the user knows it; `path`, the same in full; `files`, their number; and `sheet`,
        `animation` and `page`, the paths of these files for `read_written`, or None.
    """
    folder = export.written
    if folder is None or not folder.file_count or not folder.path.is_dir():
        return None
    first = folder if export.group is None else export.group.first
    inside = "" if folder is first else f"{folder.path.name}/"
    products = folder.products
    return {
        "place": export.place,
        "path": str(folder.path),
        "files": folder.file_count,
        **{key: products.get(key) and f"{inside}{products[key]}" for key in ("sheet", "animation")},
        "page": first.products.get("page"),
    }


def read_written(export: ExportFacts, path: str, max_bytes: int) -> WrittenFile | None:
    """A file of a run, or of another run of the same prompt, which are on the same page; None if there is none.

    Args:
        export: facts of the run.
        path: name of the file, for a further run of the prompt after that of its folder. It is only compared with the
            names that the runs have written.
        max_bytes: largest file that is read.
    """
    if export.written is None:
        return None
    first, others = export.written, list[RunFolder]()
    if export.group is not None:
        first, others = export.group.first, export.group.folders
    *inner, name = path.split("/")
    folder = next((each for each in others if [each.path.name] == inner), None) if inner else first
    if folder is None or not (name == MANIFEST_NAME or folder.lists(name)):
        return None
    suffix = PurePath(name).suffix.lower()
    mime_type = picture_type(name) or OTHER_TYPES.get(suffix)
    if mime_type is None:
        return None
    try:
        content = read_below(first.path.parent, PurePath(first.path.name, *inner, name), max_bytes)
    except OSError:  # the user deleted or moved it
        return None
    return WrittenFile(mime_type, content, PAGE_POLICY if suffix == ".html" else None)
