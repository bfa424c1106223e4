"""Encodes pixels as the bytes of a picture file."""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from .png import encode_png

FileFormat = Literal["png", "webp", "jpg"]
Enlarge = Literal["off", "nearest", "bicubic", "lanczos"]

RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Measured on photographs of 1024 px: WebP method 2 takes half the time of method 4 for 2 % more bytes. JPEG takes a
# tenth of it. On drawn pictures: `python -m safelight.benchmarks --only encoding`.
SAVE_OPTIONS: Mapping[str, dict[str, Any]] = {
    "webp": {"format": "WEBP", "quality": 90, "method": 2},
    "jpg": {"format": "JPEG", "quality": 92, "subsampling": 0},
}
# 21 frames of 480x832 take 0.27 s and 270 kB, half the time of method 4 for a tenth more bytes; frames of 60x104 take
# 11 ms and 25 kB. MP4 (x264, veryfast) takes 0.15 s and 55 kB for the large frames, but as long as WebP for the small
# ones. It keeps a quarter of their colors, and no <img> plays it.
ANIMATED_OPTIONS: Mapping[str, Any] = {"format": "WEBP", "quality": 85, "method": 0, "save_all": True, "loop": 0}
UNKNOWN_FPS = 16.0  # rate of a video without a known rate
# EXIF tags in which ComfyUI looks for a graph if a picture has no text chunks; each value begins with its name.
EXIF_TAGS = {"prompt": 0x0110, "workflow": 0x010F, "safelight": 0x010E}
JPEG_EXIF = b"Exif\0\0"
MAX_JPEG_EXIF_BYTES = 65_000  # a JPEG segment holds 65,533
PAUSE_S = 1e-6  # the shortest sleep in which another thread gets the interpreter lock; a sleep of 0 is too short


class LockReleasingFile(io.BytesIO):
    """A file in memory that releases the interpreter lock between the blocks that are written to it.

    Pillow's JPEG encoder is the only one here that holds the lock: 6 ms for a picture of 1024 px, in which a sampler
    could give its device no work.
    """

    def write(self, block: Any, /) -> int:
        time.sleep(PAUSE_S)
        return super().write(block)


@dataclass(frozen=True, kw_only=True)
class ImageEncoding:
    """Format and size of picture files.

    Args:
        file_format: format of still pictures: `png`, `webp` or `jpg`. Moving pictures are WebP.
        enlarge: filter that enlarges a picture to the size of the final image; `off` for the decoder's size.
        max_side_px: longest side of a decoded picture, which is shrunk before it is enlarged; 0 for no limit.
    """

    file_format: FileFormat = "png"
    enlarge: Enlarge = "off"
    max_side_px: int = 0

    def encode(self, pixels: np.ndarray, shown: tuple[int, int], texts: Mapping[str, str] | None = None) -> bytes:
        """Encodes one picture.

        Args:
            pixels: `[H, W, 3]` uint8.
            shown: width and height of the final image.
            texts: metadata `prompt`, `workflow` and `safelight`, each as JSON: text chunks in a PNG, EXIF elsewhere.
        """
        return self.save([self.fit(pixels, shown)], texts)

    def save(
        self, frames: Sequence[Image.Image], texts: Mapping[str, str] | None = None, fps: float | None = None
    ) -> bytes:
        """Encodes frames that have their final size: one as a still picture, several at `fps` frames per second."""
        file, texts = LockReleasingFile() if self.file_format == "jpg" else io.BytesIO(), texts or {}
        if len(frames) == 1 and self.file_format == "png":
            return encode_png(np.asarray(frames[0]), texts)
        if len(frames) == 1:
            frames[0].save(file, **SAVE_OPTIONS[self.file_format], **self._exif(texts))
        else:
            # For stills Pillow removes the JPEG prefix itself; with it, other programs find no TIFF header.
            metadata: dict[str, Any] = {"exif": _exif(texts).removeprefix(JPEG_EXIF)} if texts else {}
            frames[0].save(
                file, append_images=frames[1:], duration=durations_ms(len(frames), fps), **ANIMATED_OPTIONS, **metadata
            )
        return file.getvalue()

    def ending(self, frames: int) -> str:
        """File extension for so many frames."""
        return self.file_format if frames == 1 else "webp"

    def fit(self, pixels: np.ndarray, shown: tuple[int, int]) -> Image.Image:
        """Resizes the picture `[H, W, 3]` as `max_side_px` and `enlarge` say."""
        image = shrink(Image.fromarray(pixels), self.max_side_px)
        if self.enlarge != "off" and image.size != shown:
            image = image.resize(shown, RESAMPLING[self.enlarge])
        return image

    def holds(self, texts: Mapping[str, str]) -> bool:
        """Whether a file of this format has room for `texts`; otherwise they are left out."""
        return self.file_format != "jpg" or len(_exif(texts)) <= MAX_JPEG_EXIF_BYTES

    def _exif(self, texts: Mapping[str, str]) -> dict[str, Any]:
        exif = _exif(texts) if texts else b""
        return {"exif": exif} if exif and self.holds(texts) else {}


def durations_ms(frames: int, fps: float | None) -> list[int]:
    """Duration of each frame of a video, in whole milliseconds without drift."""
    return whole_durations([1000 * i / (fps or UNKNOWN_FPS) for i in range(1, frames + 1)])


def whole_durations(ends_ms: Sequence[float], tick_ms: int = 1) -> list[int]:
    """Duration of each frame, in milliseconds.

    Args:
        ends_ms: ends of the frames, from the start.
        tick_ms: unit of the file's format. Every duration is a multiple of it, and they do not drift.
    """
    durations, now = [], 0
    for end in ends_ms:
        ticks = max(1, round((end - now) / tick_ms))
        durations.append(ticks * tick_ms)
        now += ticks * tick_ms
    return durations


def _exif(texts: Mapping[str, str]) -> bytes:
    exif = Image.Exif()
    for key, text in texts.items():
        exif[EXIF_TAGS[key]] = f"{key}:{text}"
    return exif.tobytes()


def shrink(image: Image.Image, max_side_px: int) -> Image.Image:
    """Shrinks the image to a longer side of at most `max_side_px`; 0 for no limit."""
    longer = max(image.size)
    if not max_side_px or longer <= max_side_px:
        return image
    width, height = (max(1, round(side * max_side_px / longer)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)
