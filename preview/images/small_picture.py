"""Shrinks picture files of runs to the size of a tile in a library."""

import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import final

from PIL import Image

from ..decode.memory_budget import MB
from .encode import shrink

SIDE_PX = 320  # a tile is at most 160 px wide, on a screen with two pixels per pixel
MAX_PIXELS = 100_000_000
FORMATS = ("PNG", "WEBP", "JPEG", "GIF")  # for some others Pillow starts a program
_DECODING = threading.BoundedSemaphore(2)  # a large picture needs 300 MB, and a page asks for many at a time


def small_picture(content: bytes, side_px: int = SIDE_PX) -> bytes | None:
    """A picture as a JPEG with sides of at most `side_px`, of a video the first frame; None if it cannot be decoded.

    Its size is checked in the file's header before its pixels are decoded.
    """
    try:
        with _DECODING, Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.draft("RGB", (side_px, side_px))  # a JPEG is decoded at a smaller size
            file = io.BytesIO()
            shrink(image.convert("RGB"), side_px).save(file, "JPEG", quality=85)
            return file.getvalue()
    except Exception:  # an image library may raise anything for a damaged file
        return None


@final
class SmallPictures:
    """The small pictures that a library showed last. Any thread may use it.

    Args:
        max_bytes: largest size of all of them together.
    """

    def __init__(self, max_bytes: int = 64 * MB) -> None:
        self._left = max_bytes
        self._pictures: OrderedDict[Hashable, bytes] = OrderedDict()
        self._changing = threading.Lock()

    def get(self, key: Hashable, read: Callable[[], bytes | None]) -> bytes | None:
        """The small picture under a key; None if there is no picture.

        Args:
            key: of the picture; another one after each change of the file.
            read: function that returns the content of the file, or None.
        """
        with self._changing:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                return self._pictures[key]
        content = read()
        small = None if content is None else small_picture(content)
        if small is not None:
            with self._changing:
                self._store(key, small)
        return small

    def _store(self, key: Hashable, small: bytes) -> None:
        self._left += len(self._pictures.pop(key, b"")) - len(small)
        self._pictures[key] = small
        while self._left < 0:
            _, oldest = self._pictures.popitem(last=False)
            self._left += len(oldest)
