"""Pixels become the bytes of a picture file."""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

FileFormat = Literal["png", "webp", "jpg"]
Enlarge = Literal["off", "nearest", "bicubic", "lanczos"]

ENLARGING = {
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
RUNS = 3  # zlib's Z_RLE
# Measured on photographs of 1024 px: PNG of level 1 takes half the time of level 4 for 8 % more bytes, and a sixth less
# where zlib looks for runs alone, for as many; WebP of method 2 half that of 4 for 2 %, JPEG a tenth of either. On
# drawn ones: `python -m safelight.benchmarks --only encoding`.
SAVING: Mapping[str, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 1, "compress_type": RUNS},
    "webp": {"format": "WEBP", "quality": 90, "method": 2},
    "jpg": {"format": "JPEG", "quality": 92, "subsampling": 0},
}
# 21 frames of 480x832 take 0.27 s and 270 kB, half the time of method 4 for a tenth more bytes; of 60x104, 11 ms and
# 25 kB. MP4 (x264, veryfast): 0.15 s and 55 kB for the large ones, but as long for the small ones, of whose colours
# it keeps a quarter; and no <img> plays it.
MOVING: Mapping[str, Any] = {"format": "WEBP", "quality": 85, "method": 0, "save_all": True, "loop": 0}
UNKNOWN_FPS = 16.0  # a video whose rate nobody tells is played at this one
# Where ComfyUI looks for a graph in a picture that has no text chunks, each value with its name before it.
EXIF_TAGS = {"prompt": 0x0110, "workflow": 0x010F, "safelight": 0x010E}
JPEG_EXIF = b"Exif\0\0"
MAX_JPEG_EXIF_BYTES = 65_000  # one JPEG segment holds 65,533
BREATH_S = 1e-6  # the shortest sleep in which another thread comes to its turn; none at all would be too short


class Breathing(io.BytesIO):
    """A file in memory that lets other threads on between the blocks that are written to it.

    Pillow's JPEG encoder, alone among those used here, keeps the interpreter's lock: of a picture of 1024 px for six
    milliseconds, in which a sampler could give its device nothing to do.
    """

    def write(self, block: Any, /) -> int:
        time.sleep(BREATH_S)
        return super().write(block)


@dataclass(frozen=True, kw_only=True)
class ImageEncoding:
    """How pictures are written.

    Args:
        file_format: `png`, `webp` or `jpg`; of still pictures, what moves is WebP.
        enlarge: `off` for the decoder's own size, else how to bring a picture to the size of the final image.
        max_side_px: a decoded picture whose longer side is more is made smaller first; 0 for no limit.
    """

    file_format: FileFormat = "png"
    enlarge: Enlarge = "off"
    max_side_px: int = 0

    def encode(self, pixels: np.ndarray, shown: tuple[int, int], texts: Mapping[str, str] | None = None) -> bytes:
        """A picture file.

        Args:
            pixels: `[H, W, 3]` uint8.
            shown: width and height of the final image.
            texts: `prompt`, `workflow` and `safelight`, each JSON: text chunks in a PNG, EXIF in the others.
        """
        return self.save([self.fit(pixels, shown)], texts)

    def save(
        self, frames: Sequence[Image.Image], texts: Mapping[str, str] | None = None, fps: float | None = None
    ) -> bytes:
        """A picture file of pictures that have their size: of one, or moving, of several at `fps` frames a second."""
        file, texts = Breathing() if self.file_format == "jpg" else io.BytesIO(), texts or {}
        if len(frames) == 1:
            frames[0].save(file, **SAVING[self.file_format], **self._texts(texts))
        else:
            # Only of stills does Pillow itself leave out what is for JPEG, and other programs then find no TIFF.
            told: dict[str, Any] = {"exif": _exif(texts).removeprefix(JPEG_EXIF)} if texts else {}
            frames[0].save(file, append_images=frames[1:], duration=durations_ms(len(frames), fps), **MOVING, **told)
        return file.getvalue()

    def ending(self, frames: int) -> str:
        """Of the name of a file with so many frames."""
        return self.file_format if frames == 1 else "webp"

    def fit(self, pixels: np.ndarray, shown: tuple[int, int]) -> Image.Image:
        """The picture `[H, W, 3]` at the size it is to have."""
        image = shrink(Image.fromarray(pixels), self.max_side_px)
        if self.enlarge != "off" and image.size != shown:
            image = image.resize(shown, ENLARGING[self.enlarge])
        return image

    def holds(self, texts: Mapping[str, str]) -> bool:
        """Whether a file of this format has room for `texts`; in one that has not, they are left out."""
        return self.file_format != "jpg" or len(_exif(texts)) <= MAX_JPEG_EXIF_BYTES

    def _texts(self, texts: Mapping[str, str]) -> dict[str, Any]:
        if self.file_format == "png":
            info = PngInfo()
            for key, text in texts.items():
                info.add_text(key, text)
            return {"pnginfo": info}
        exif = _exif(texts) if texts else b""
        has_room = self.file_format != "jpg" or len(exif) <= MAX_JPEG_EXIF_BYTES
        return {"exif": exif} if exif and has_room else {}


def durations_ms(frames: int, fps: float | None) -> list[int]:
    """How long each frame is seen, in whole milliseconds that add up."""
    ends = [round(1000 * i / (fps or UNKNOWN_FPS)) for i in range(frames + 1)]
    return [max(1, end - start) for start, end in pairwise(ends)]


def _exif(texts: Mapping[str, str]) -> bytes:
    exif = Image.Exif()
    for key, text in texts.items():
        exif[EXIF_TAGS[key]] = f"{key}:{text}"
    return exif.tobytes()


def shrink(image: Image.Image, max_side_px: int) -> Image.Image:
    """The image with its longer side at most `max_side_px`; as it is if that is 0."""
    longer = max(image.size)
    if not max_side_px or longer <= max_side_px:
        return image
    width, height = (max(1, round(side * max_side_px / longer)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)
