"""A picture file for each step."""

import json
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import perf_counter
from typing import Any, ClassVar, Literal, NamedTuple, final

import numpy as np
from PIL import Image

from ...errors import describe
from ..decode.memory_budget import MB
from ..images.encode import ImageEncoding
from ..images.grid import grid_size, lay_grid
from ..picture import DecodedPicture
from ..run import State
from .base import Sink
from .run_folder import RunFolder

Batch = Literal["grid", "first", "all files"]

# Threads that a machine can spare beside a sampler. At least two: one writes 25 PNGs of 1024 px a second, two write 46,
# and if the sampler uses all cores itself, one is slower (`python -m safelight.benchmarks --only writing`).
ENCODERS = max(2, min(4, (os.cpu_count() or 1) // 2))
MAX_PENDING_BYTES = 256 * MB  # of pixels that wait for an encoder: large batches and videos
# Pixels of 128x128, which take 1 to 2 ms to encode: less than another thread takes to wake up.
SMALL_PICTURE_BYTES = 128 * 128 * 3
NOISY = "_noisy"  # in the names of the files of noisy latents, beside those of denoised ones
MIN_FRAMES = 8  # fewer frames would show no movement
RGB = 3


class FilePart(NamedTuple):
    """The content of one file: a suffix for its name, `pixels` `[T, N, H, W, 3]` of N pictures side by side, and the
    number of the batch item, from 1, if there is a file for each item.
    """

    suffix: str
    pixels: np.ndarray
    item: int | None


class EncodedFiles(NamedTuple):
    """Encoded files by name, those of noisy latents, files of single frames, facts for `run.json`, and the seconds."""

    files: Mapping[str, bytes]
    noisy: Mapping[str, bytes]
    frames: Mapping[str, bytes]
    picture: Mapping[str, Any]
    seconds: float


@final
class StepFiles(Sink):
    """Writes `step_0001.png` and so on into a run's folder, numbered by sampler step from 1.

    Several frames become an animated WebP. Of a batch, `first` writes the first picture, `grid` one file with all
    pictures, `all files` a file for each: `step_0001_item_01.png` and so on.

    Args:
        folder: folder of the run.
        encoding: format and size of the files.
        texts: function that returns texts to store in every picture, by name, as JSON; the worker calls it once.
        facts: whether a picture also stores its run and step, as `safelight`.
        encoders: number of encoder threads, each at most one picture ahead. Files are written as soon as they are
            encoded, and listed in order. With 0, the file exists when `show` returns.
        small_bytes: a step with at most so many bytes of pixels is encoded by `show` itself.
        batch: files for a batch.
        max_items: largest number of batch items, from the first; None for all.
        max_pixels: limit for all frames of a step together; frames of a longer video are skipped. None for no limit.
        frames_apart: whether each frame of a video also gets its own file, `step_0001/frame_0001.png`.
    """

    name: ClassVar[str] = "files"

    def __init__(
        self,
        folder: RunFolder,
        encoding: ImageEncoding,
        *,
        texts: Callable[[], Mapping[str, str]] = dict,
        facts: bool = True,
        encoders: int = 0,
        small_bytes: int = SMALL_PICTURE_BYTES,
        batch: Batch = "first",
        max_items: int | None = None,
        max_pixels: int | None = None,
        frames_apart: bool = False,
    ) -> None:
        self.folder, self.encoding = folder, encoding
        self._read_texts, self._facts = texts, facts
        self._texts: Mapping[str, str] = {}
        self._encoders, self._small_bytes = encoders, small_bytes
        self._batch: Batch = batch
        self._max_items, self._max_pixels, self._frames_apart = max_items, max_pixels, frames_apart
        self._pool: ThreadPoolExecutor | None = None
        self._pending: deque[tuple[DecodedPicture, Future[EncodedFiles]]] = deque()
        self._writing = threading.Lock()

    def open(self) -> None:
        self._texts = self._read_texts()
        if not self.encoding.holds(self._texts):
            self.folder.run.note("the workflow is too large for the metadata of a JPEG: choose png or webp to save it")
        if self._encoders:
            self._pool = ThreadPoolExecutor(self._encoders, f"safelight-{self.folder.run.id[:8]}-encoder")

    def show(self, picture: DecodedPicture) -> None:
        if self._pool is None or (self._is_small(picture) and not self._pending):
            self._write(picture, self._encode(picture))
            return
        encoded = self._pool.submit(self._encode, picture)
        self.folder.run.missing.begin(picture.index)
        self._pending.append((picture, encoded))
        encoded.add_done_callback(self._write_encoded)
        self._wait_until_pending(min(2 * self._encoders, max(1, MAX_PENDING_BYTES // picture.pixels.nbytes)))

    def close(self, state: State) -> None:
        self._wait_until_pending(0)
        if self._pool is not None:
            self._pool.shutdown()

    def _is_small(self, picture: DecodedPicture) -> bool:
        items, frames, *size, _ = picture.pixels.shape
        if self.encoding.enlarge != "off":
            size = [max(sides) for sides in zip(size, picture.shown[::-1], strict=True)]
        return items * frames * math.prod(size) * RGB <= self._small_bytes

    def _encode(self, picture: DecodedPicture) -> EncodedFiles:
        began = perf_counter()
        pixels, fps = self._limited(picture)
        items, frames = pixels.shape[:2]
        files, single_frames = self._encode_parts(picture, pixels, fps, f"step_{picture.index:04d}")
        noisy: dict[str, bytes] = {}
        if picture.noisy is not None:
            noisy_pixels, _ = self._limited(picture.noisy)
            noisy, more = self._encode_parts(picture.noisy, noisy_pixels, fps, f"step_{picture.index:04d}{NOISY}")
            single_frames |= more
        items_in_file = items // len(files)
        width, height = grid_size(items_in_file, (pixels.shape[3], pixels.shape[2]))
        shown_width, shown_height = grid_size(items_in_file, picture.shown)
        shape = {"width": width, "height": height, "shown_width": shown_width, "shown_height": shown_height}
        facts = {**shape, "items": len(files), "frames": frames, "fps": fps}
        return EncodedFiles(files, noisy, single_frames, facts, perf_counter() - began)

    def _encode_parts(
        self, picture: DecodedPicture, pixels: np.ndarray, fps: float | None, name: str
    ) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """The files of `pixels` `[B, T, H, W, 3]`, and those of single frames; their names begin with `name`."""
        files: dict[str, bytes] = {}
        single_frames: dict[str, bytes] = {}
        frames = pixels.shape[1]
        for part in self._split(pixels):
            images = [lay_grid([self.encoding.fit(item, picture.shown) for item in frame]) for frame in part.pixels]
            facts = {"safelight": json.dumps(self._describe(picture, part.item))} if self._facts else {}
            stem = f"{name}{part.suffix}"
            files[f"{stem}.{self.encoding.ending(frames)}"] = self.encoding.save(images, {**self._texts, **facts}, fps)
            if self._frames_apart and frames > 1:
                single_frames |= self._encode_frames(stem, images)
        return files, single_frames

    def _encode_frames(self, folder: str, images: Sequence[Image.Image]) -> dict[str, bytes]:
        """Encodes a file for each frame, without the workflow: the moving picture has it."""
        ending = self.encoding.ending(1)
        return {f"{folder}/frame_{i:04d}.{ending}": self.encoding.save([image]) for i, image in enumerate(images, 1)}

    def _limited(self, picture: DecodedPicture) -> tuple[np.ndarray, float | None]:
        """The pixels to write, and their frames per second."""
        pixels = picture.pixels[: 1 if self._batch == "first" else self._max_items]
        frames = pixels.shape[1]
        most = frames if self._max_pixels is None else self._max_pixels * frames * RGB // pixels.size
        every = math.ceil(frames / max(most, MIN_FRAMES))
        if every > 1:
            self.folder.run.note(f"one of {every} frames is shown while the run goes on: this video is long")
        return pixels[:, ::every], picture.fps and picture.fps / every

    def _split(self, pixels: np.ndarray) -> list[FilePart]:
        """The content of each file for a step's `pixels` `[B, T, H, W, 3]`."""
        frames = pixels.swapaxes(0, 1)
        if self._batch != "all files" or len(pixels) == 1:
            return [FilePart("", frames, None)]
        return [FilePart(f"_item_{i + 1:02d}", frames[:, i : i + 1], i + 1) for i in range(len(pixels))]

    def _wait_until_pending(self, most: int) -> None:
        """Waits until at most `most` pictures are pending."""
        pending = list(self._pending)
        for _, encoded in pending[: max(0, len(pending) - most)]:
            wait([encoded])
            self._write_encoded()

    def _write_encoded(self, _: object = None) -> None:
        """Writes what is encoded, up to the first picture that is not. The thread that encoded that one calls it."""
        with self._writing:
            while self._pending and self._pending[0][1].done():
                picture, encoded = self._pending[0]
                missing = self.folder.run.missing
                try:
                    self._write(picture, encoded.result())
                except BaseException as error:  # a library may ask a thread to exit
                    missing.fail(self, picture.index, describe(error))
                missing.finish(picture.index)
                self._pending.popleft()

    def _write(self, picture: DecodedPicture, encoded: EncodedFiles) -> None:
        began = perf_counter()
        for name, content in {**encoded.frames, **encoded.noisy, **encoded.files}.items():
            self.folder.write(name, content)
        seconds = encoded.seconds + perf_counter() - began
        self.folder.picture = encoded.picture
        folders = list(dict.fromkeys(name.partition("/")[0] for name in encoded.frames))
        write_ms = round(seconds * 1000, 3)
        self.folder.record(picture, *encoded.files, noisy=list(encoded.noisy), folders=folders, write_ms=write_ms)

    def _describe(self, picture: DecodedPicture, item: int | None) -> dict[str, object]:
        run = self.folder.run
        return {
            "run": run.id,
            "step": picture.index,
            "steps": picture.total,
            "sigma": picture.sigma,
            "show": picture.show,
            "space": run.space,
            "decoder": picture.decoder,
            **({"item": item} if item else {}),
        }
