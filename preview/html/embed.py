"""A run's viewer with its pictures in one piece of HTML, for a cell of a notebook or a page of somebody else's."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from .bundle import bundle
from .document import document

MAX_WIDTH_PX = 640
STRIP_PX = 28 + 26  # below the picture: the strip and the caption
MIN_FRAME_HEIGHT_PX = 320

# Where a frame is taken out of somebody's notebook, a site that shows it perhaps, the last picture is what remains.
FRAME = (
    '<div style="position: relative; max-width: {width}px; height: {height}px">'
    '<img alt="{alt}" src="{still}" width="{still_width}" style="max-width: 100%; max-height: 100%">'
    '<iframe title="{alt}" srcdoc="{page}" '
    'style="position: absolute; inset: 0; width: 100%; height: 100%; border: 0"></iframe></div>'
)


def embedded_page(manifest: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """The page of a run that needs no file beside it.

    Args:
        manifest: of the run.
        pictures: those of its files that are to be looked at, by name.

    Raises:
        PageError: the viewer cannot be read.
    """
    missing = {**manifest, "steps": [_without(step, pictures) for step in manifest["steps"]]}
    data = {name: base64.b64encode(content).decode() for name, content in pictures.items()}
    return document({"manifest": missing, "pictures": data}, bundle("embedded"), connect_src="blob:").html


def pictures_that_fit(folder: Path, manifest: Mapping[str, Any], max_bytes: int) -> tuple[dict[str, bytes], int]:
    """The pictures of a run in its folder, of every n-th step counted from the last, so that there is room; and n.

    Args:
        folder: of the run.
        manifest: of the run.
        max_bytes: of all pictures together, unless the last step alone has more.
    """
    steps: list[list[str]] = [step["files"] for step in manifest["steps"] if step["files"]][::-1]
    sizes = [sum((folder / name).stat().st_size for name in files) for files in steps]
    every = 1
    while sum(sizes[::every]) > max_bytes and every < len(sizes):
        every += 1
    return {name: (folder / name).read_bytes() for files in steps[::every] for name in files}, every


def page_in_frame(page: str, shown: tuple[int, int], still: str, alt: str = "Steps of a run") -> str:
    """A page as an element of another one, that no style or script of either can reach.

    Args:
        page: HTML.
        shown: width and height of the picture in it.
        still: the address of a picture that is seen where the page is not.
        alt: what it is, in words.
    """
    width = MAX_WIDTH_PX
    height = max(MIN_FRAME_HEIGHT_PX, min(round(width * shown[1] / shown[0]), width) + STRIP_PX)
    still_width = min(shown[0], width)
    return FRAME.format(
        width=width, height=height, still_width=still_width, alt=escape(alt), still=escape(still), page=escape(page)
    )


def _without(step: Mapping[str, Any], pictures: Mapping[str, bytes]) -> Mapping[str, Any]:
    return step if all(name in pictures for name in step["files"]) else {**step, "files": []}
