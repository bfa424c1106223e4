"""Reads the texts that hosts store in picture files: the prompt and the workflow."""

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from PIL import Image

from ...decoders.files.contained_file import open_below
from .encode import EXIF_TAGS

MAX_TEXT_CHARS = 2_000_000  # a large workflow has 500 kB
MAX_READ_BYTES = 64_000_000  # of a file whose texts are wanted
PNG_TEXTS = ("invokeai_workflow",)  # that InvokeAI stores in text chunks of a PNG only
FORMATS = ("PNG", "WEBP", "JPEG")


def picture_texts(root: Path, picture: PurePath) -> Mapping[str, str]:
    """The texts of `EXIF_TAGS` and `PNG_TEXTS` in a picture; empty if there are none or the file is damaged.

    Args:
        root: folder that may be reached over links.
        picture: path of the file in it; no part may be a link.
    """
    try:
        with open_below(root, picture) as file:
            return texts_in(file)
    except OSError:
        return {}


def texts_in(file: BinaryIO) -> Mapping[str, str]:
    """The same of an open file. Only the file's header is read, not its pixels."""
    try:
        if file.seek(0, 2) > MAX_READ_BYTES:
            return {}
        file.seek(0)
        with Image.open(file, formats=FORMATS) as image:
            found: Mapping[str, Any] = image.info if image.format == "PNG" else _exif_texts(image)
    except Exception:  # an image library may raise anything for a damaged file
        return {}
    texts = ((name, found.get(name)) for name in (*EXIF_TAGS, *PNG_TEXTS))
    return {name: text for name, text in texts if isinstance(text, str) and len(text) <= MAX_TEXT_CHARS}


def _exif_texts(image: Image.Image) -> Mapping[str, Any]:
    exif = image.getexif()
    texts = {name: exif.get(tag) for name, tag in EXIF_TAGS.items()}
    return {name: text.removeprefix(f"{name}:") for name, text in texts.items() if isinstance(text, str)}
