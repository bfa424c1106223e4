"""A picture file for each step."""

import json
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from time import perf_counter
from typing import Any, Literal, NamedTuple, final

import numpy as np
from PIL import Image

from ...errors import StepError
from ..images.encode import ImageEncoding
from ..images.grid import laid_size, lay
from ..picture import Picture
from ..run import State
from .base import Sink
from .run_folder import RunFolder

Batch = Literal["grid", "first", "all files"]

# What a machine has to spare beside a sampler. Two at least: one falls behind twenty PNGs of 1024 px a second, and if
# the sampler has the cores itself that is no faster (`python -m safelight.benchmarks --only writing`).
ENCODERS = max(2, min(4, (os.cpu_count() or 1) // 2))
WAITING_BYTES = 256 << 20  # of pictures, where one is a large batch or a video
# Of 128x128: what takes a millisecond or two, less than another thread waits for Python's lock and a core.
SMALL_BYTES = 128 * 128 * 3
MIN_FRAMES = 8  # fewer would show no movement
RGB = 3


class FilePart(NamedTuple):
    """What goes into one file: how its name ends, `pixels` `[T, N, H, W, 3]` of N pictures side by side, and which item
    of the batch it is, counted from 1, if it is one of several.
    """

    name: str
    pixels: np.ndarray
    item: int | None


class EncodedFiles(NamedTuple):
    """Picture files by name, those of single frames besides, the facts of the manifest, and the seconds they took."""

    files: Mapping[str, bytes]
    frames: Mapping[str, bytes]
    picture: Mapping[str, Any]
    seconds: float


@final
class StepFiles(Sink):
    """Writes `step_0001.png` and so on into a run's folder, numbered by sampler step from 1.

    What has several frames becomes an animated WebP. A batch becomes what `batch` says: `first` its first picture,
    `grid` one picture with all of them, `all files` `step_0001_item_01.png` and so on.

    Args:
        folder: of the run.
        encoding: how.
        texts: what is stored in every picture besides its own facts, by name, as JSON; asked for once, by the worker.
        facts: whether a picture also says which step of which run it is, as `safelight`.
        encoders: threads that encode, each of them a picture ahead; files are written, as soon as they are encoded, and
            listed in order all the same. With none, a picture is there when `show` returns.
        small_bytes: pixels of a step that are no more than this are encoded at once, by none of those threads.
        batch: what becomes of a batch.
        max_items: of a batch, the first ones; None for all.
        max_pixels: of all frames of a step together; of a video that has more, frames are left out. None for no limit.
        frames_apart: whether of what has several frames each is written on its own too, as `step_0001/frame_0001.png`.
    """

    name = "files"

    def __init__(
        self,
        folder: RunFolder,
        encoding: ImageEncoding,
        *,
        texts: Callable[[], Mapping[str, str]] = dict,
        facts: bool = True,
        encoders: int = 0,
        small_bytes: int = SMALL_BYTES,
        batch: Batch = "first",
        max_items: int | None = None,
        max_pixels: int | None = None,
        frames_apart: bool = False,
    ) -> None:
        self.folder, self.encoding = folder, encoding
        self._ask_texts, self._facts = texts, facts
        self._texts: Mapping[str, str] = {}
        self._encoders, self._small_bytes = encoders, small_bytes
        self._batch: Batch = batch
        self._max_items, self._max_pixels, self._frames_apart = max_items, max_pixels, frames_apart
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: deque[tuple[Picture, Future[EncodedFiles]]] = deque()
        self._writing = threading.Lock()
        self._lost: deque[StepError] = deque()

    def open(self) -> None:
        self._texts = self._ask_texts()
        if not self.encoding.holds(self._texts):
            self.folder.run.note("the workflow is too large for the metadata of a JPEG: choose png or webp to keep it")
        if self._encoders:
            self._pool = ThreadPoolExecutor(self._encoders, f"safelight-{self.folder.run.id[:8]}-encoder")

    def show(self, picture: Picture) -> None:
        if self._pool is None or (self._is_small(picture) and not self._under_way):
            self._write(picture, self._encode(picture))
            return
        encoded = self._pool.submit(self._encode, picture)
        self._under_way.append((picture, encoded))
        encoded.add_done_callback(self._write_encoded)
        self._wait_for_all_but(min(2 * self._encoders, max(1, WAITING_BYTES // picture.pixels.nbytes)))

    def _is_small(self, picture: Picture) -> bool:
        items, frames, *size, _ = picture.pixels.shape
        if self.encoding.enlarge != "off":
            size = [max(sides) for sides in zip(size, picture.shown[::-1], strict=True)]
        return items * frames * math.prod(size) * RGB <= self._small_bytes

    def flush(self) -> None:
        self._wait_for_all_but(0)

    def close(self, state: State) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def unfinished(self) -> list[int]:
        return [picture.index for picture, _ in list(self._under_way)]

    def _encode(self, picture: Picture) -> EncodedFiles:
        began = perf_counter()
        pixels, fps = self._thinned(picture)
        items, frames = pixels.shape[:2]
        files: dict[str, bytes] = {}
        apart: dict[str, bytes] = {}
        for part in self._split(pixels):
            whole = [lay([self.encoding.fit(one, picture.shown) for one in frame]) for frame in part.pixels]
            facts = {"safelight": json.dumps(self._describe(picture, part.item))} if self._facts else {}
            name = f"step_{picture.index:04d}{part.name}"
            files[f"{name}.{self.encoding.ending(frames)}"] = self.encoding.save(whole, {**self._texts, **facts}, fps)
            if self._frames_apart and frames > 1:
                apart |= self._single(name, whole)
        together = items // len(files)
        width, height = laid_size(together, (pixels.shape[3], pixels.shape[2]))
        shown_width, shown_height = laid_size(together, picture.shown)
        shape = {"width": width, "height": height, "shown_width": shown_width, "shown_height": shown_height}
        facts = {**shape, "items": len(files), "frames": frames, "fps": fps}
        return EncodedFiles(files, apart, facts, perf_counter() - began)

    def _single(self, folder: str, frames: Sequence[Image.Image]) -> dict[str, bytes]:
        """A file for each frame. The workflow is in the moving picture alone: here it would be there many times."""
        ending = self.encoding.ending(1)
        return {f"{folder}/frame_{i:04d}.{ending}": self.encoding.save([frame]) for i, frame in enumerate(frames, 1)}

    def _thinned(self, picture: Picture) -> tuple[np.ndarray, float | None]:
        """The pixels that are written, and their frames a second."""
        pixels = picture.pixels[: 1 if self._batch == "first" else self._max_items]
        frames = pixels.shape[1]
        most = frames if self._max_pixels is None else self._max_pixels * frames * RGB // pixels.size
        every = math.ceil(frames / max(most, MIN_FRAMES))
        if every > 1:
            self.folder.run.note(f"one frame of {every} is shown while it samples: this video is long")
        return pixels[:, ::every], picture.fps and picture.fps / every

    def _split(self, pixels: np.ndarray) -> list[FilePart]:
        """What goes into each file of a step's `pixels` `[B, T, H, W, 3]`."""
        frames = pixels.swapaxes(0, 1)
        if self._batch != "all files" or len(pixels) == 1:
            return [FilePart("", frames, None)]
        return [FilePart(f"_item_{i + 1:02d}", frames[:, i : i + 1], i + 1) for i in range(len(pixels))]

    def _wait_for_all_but(self, most: int) -> None:
        waiting = list(self._under_way)
        for _, encoded in waiting[: max(0, len(waiting) - most)]:
            wait([encoded])
            self._write_encoded()
        if self._lost:
            raise self._lost.popleft()

    def _write_encoded(self, _: object = None) -> None:
        """Writes what is encoded, up to the first picture that is not; by whichever thread encoded that one."""
        with self._writing:
            while self._under_way and self._under_way[0][1].done():
                picture, encoded = self._under_way[0]
                try:
                    self._write(picture, encoded.result())
                except BaseException as error:  # whatever is thrown at a thread: a library may ask it to exit
                    lost = StepError(picture.index, str(error))
                    lost.__cause__ = error
                    self._lost.append(lost)
                self._under_way.popleft()

    def _write(self, picture: Picture, encoded: EncodedFiles) -> None:
        began = perf_counter()
        for name, content in {**encoded.frames, **encoded.files}.items():
            self.folder.write(name, content)
        seconds = encoded.seconds + perf_counter() - began
        self.folder.picture = encoded.picture
        apart = list(dict.fromkeys(name.partition("/")[0] for name in encoded.frames))
        self.folder.record(picture, *encoded.files, folders=apart, write_ms=round(seconds * 1000, 3))

    def _describe(self, picture: Picture, item: int | None) -> dict[str, object]:
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
