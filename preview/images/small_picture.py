"""Shrinks a picture file of a run to the size of a tile in a library."""

import io
import threading

from PIL import Image

from .encode import shrink

SIDE_PX = 320  # a tile is at most 160 px wide, on a screen with two pixels per pixel
MAX_PIXELS = 100_000_000
FORMATS = ("PNG", "WEBP", "JPEG", "GIF")  # for some others Pillow starts a program
_DECODING = threading.BoundedSemaphore(2)  # a large picture needs 300 MB, and a page asks for many at a time


def small_picture(content: bytes) -> bytes | None:
    """A picture as a JPEG with sides of at most `SIDE_PX`, of a video the first frame; None if it cannot be decoded.

    Its size is checked in the file's header before its pixels are decoded.
    """
    try:
        with _DECODING, Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.draft("RGB", (SIDE_PX, SIDE_PX))  # a JPEG is decoded at a smaller size
            file = io.BytesIO()
            shrink(image.convert("RGB"), SIDE_PX).save(file, "JPEG", quality=85)
            return file.getvalue()
    except Exception:  # an image library may raise anything for a damaged file
        return None
