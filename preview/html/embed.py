"""The viewer of a run with its pictures in one piece of HTML, for a notebook cell or another page."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from ..manifest import PICTURE_LISTS, picture_files
from .bundle import bundle
from .document import document

MAX_FRAME_WIDTH_PX = 640
CONTROLS_PX = 28 + 26  # height of the step strip and the caption below the picture
MIN_FRAME_HEIGHT_PX = 320

# Some sites that show notebooks remove frames. The picture behind the frame stays.
FRAME_TEMPLATE = (
    '<div style="position: relative; max-width: {width}px; height: {height}px">'
    '<img alt="{alt}" src="{still}" width="{still_width}" style="max-width: 100%; max-height: 100%">'
    '<iframe title="{alt}" srcdoc="{page}" '
    'style="position: absolute; inset: 0; width: 100%; height: 100%; border: 0"></iframe></div>'
)


def embedded_page(manifest: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """A page with a run that needs no other file. A step without its pictures becomes a step without files.

    Args:
        manifest: manifest of the run.
        pictures: contents of picture files to include, by name.

    Raises:
        PageError: the viewer cannot be read.
    """
    included = {**manifest, "steps": [_only_included(step, pictures) for step in manifest["steps"]]}
    data = {name: base64.b64encode(content).decode() for name, content in pictures.items()}
    return document({"manifest": included, "pictures": data}, bundle("embedded"), connect_src="blob:").html


def pictures_that_fit(folder: Path, manifest: Mapping[str, Any], max_bytes: int) -> tuple[dict[str, bytes], int]:
    """Reads the pictures of every n-th step, counted from the last one, so that they fit into `max_bytes`.

    Args:
        folder: folder of the run.
        manifest: manifest of the run.
        max_bytes: largest size of all pictures together. The last step is read even if it alone is larger.

    Returns:
        Contents of picture files by name, and n.
    """
    steps = [picture_files(step) for step in manifest["steps"] if step["files"]][::-1]
    sizes = [sum((folder / name).stat().st_size for name in files) for files in steps]
    every = 1
    while sum(sizes[::every]) > max_bytes and every < len(sizes):
        every += 1
    return {name: (folder / name).read_bytes() for files in steps[::every] for name in files}, every


def page_in_frame(page: str, shown: tuple[int, int], still: str, alt: str = "Steps of a run") -> str:
    """A page as an element of another page. Styles and scripts of the two cannot reach each other.

    Args:
        page: HTML.
        shown: width and height of the picture in it.
        still: URL of a picture that is shown where frames are removed.
        alt: description for screen readers.
    """
    width = MAX_FRAME_WIDTH_PX
    height = max(MIN_FRAME_HEIGHT_PX, min(round(width * shown[1] / shown[0]), width) + CONTROLS_PX)
    still_width = min(shown[0], width)
    return FRAME_TEMPLATE.format(
        width=width, height=height, still_width=still_width, alt=escape(alt), still=escape(still), page=escape(page)
    )


def _only_included(step: Mapping[str, Any], pictures: Mapping[str, bytes]) -> Mapping[str, Any]:
    if all(name in pictures for name in picture_files(step)):
        return step
    return {**step, **{key: [] for key in PICTURE_LISTS if key in step}}
