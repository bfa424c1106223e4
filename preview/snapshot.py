"""Copies of a step's latents, taken before the sampler changes them, and of finished pixels to the CPU."""

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from .device_streams import DeviceEvent, DeviceStream, DeviceStreams, pinned_like, sleeping_event, streams_of
from .graph_capture import expect_no_capture, ignore_captures_of_other_threads

Frames = Literal["first", "middle", "animated"]

MIN_BATCH_NDIM, VIDEO_NDIM = 3, 5  # [B, C, L] and [B, C, T, H, W]

# `memmove` that keeps the interpreter lock. torch releases the lock for the microseconds of a small copy, and gets it
# back only when the worker releases it, milliseconds later. torch also uses a second core from 32,768 numbers on, and
# waits for it if the worker or the model uses that core.
MEMMOVE = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
    ctypes.cast(ctypes.memmove, ctypes.c_void_p).value or 0
)
MAX_MEMMOVE_BYTES, MAX_PIECES = 2 << 20, 64  # FLUX.2's latents for 1024 px have 2 MB
FLOAT_DTYPES = frozenset((torch.float32, torch.float16, torch.bfloat16, torch.float64))


class Pieces(NamedTuple):
    """Where the selected part of a tensor lies in the CPU's memory, and the layout of its copy.

    `size` is the number of bytes of each piece, `at` their offsets in bytes from the tensor's first number. A video's
    first frame is one piece for each channel.
    """

    size: int
    at: tuple[int, ...]
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, whole: Tensor, part: Tensor) -> "Pieces | None":
        """None if torch copies it better: many bytes, many pieces, no view, or another dtype."""
        item = part.element_size()
        if (
            not whole.is_cpu
            or type(part) is not Tensor
            or part.dtype not in FLOAT_DTYPES
            or part.nbytes > MAX_MEMMOVE_BYTES
        ):
            return None
        size, outer = item, list(zip(part.shape, part.stride(), strict=True))
        while outer and (outer[-1][0] == 1 or outer[-1][1] * item == size):
            size *= outer.pop()[0]
        is_view = whole.untyped_storage().data_ptr() == part.untyped_storage().data_ptr()
        if not is_view or size == item or math.prod(length for length, _ in outer) > MAX_PIECES:
            return None
        at = [part.data_ptr() - whole.data_ptr()]
        for length, stride in outer:
            at = [start + i * stride * item for start in at for i in range(length)]
        return cls(size, tuple(at), part.shape, part.dtype, part.device)

    def copy(self, source: int, target: int) -> None:
        """Copies the pieces from the tensor at address `source` to `target`, without gaps."""
        for start in self.at:
            MEMMOVE(target, source + start, self.size)
            target += self.size


class QueuedCopy(NamedTuple):
    """A copy in the queue of a device: the stream that writes it, and the event that marks it as complete."""

    streams: DeviceStreams
    writer: DeviceStream
    copied: DeviceEvent


class Snapshot(NamedTuple):
    """A copy of a step's latents on their own device; `queued` on a device with streams."""

    copy: Tensor
    queued: QueuedCopy | None


@final
class Snapshots:
    """Copies of a run's latents, in memory that is reused.

    `take` waits for nothing. On a device with streams, such as CUDA, the copy is queued on the sampler's stream, in the
    order of its own work, and an event is recorded. The reader uses its own stream, waits there for that event, and
    returns the memory only when its stream is done. So the sampler's next copy into it needs no event, the allocator is
    not called on the sampler's thread after the first steps, and memory does not grow if the reader lags, as it would
    with `record_stream`. Memory belongs to the stream on which it was allocated: a sampler that changes its stream gets
    other memory. On other devices the copy is complete, or ordered before later reads, when `copy_` returns.

    Args:
        select: function that returns the part of a tensor to copy, a view that depends on the tensor's shape alone.

    Attributes:
        size_bytes: size of all memory that was allocated.
    """

    def __init__(self, select: Callable[[Tensor], Tensor] = lambda whole: whole) -> None:
        self._select = select
        self.size_bytes = 0
        self._spare: list[Snapshot] = []
        self._layouts: dict[object, Pieces | None] = {}
        self._reader: DeviceStream | None = None

    def take(self, latents: Tensor) -> Snapshot:
        """Copies the selected part of the sampler's tensor. Called on the sampler's thread."""
        # To make the view takes half as long as the copy, so its layout is computed once for each shape.
        layout = (latents.shape, latents.stride(), latents.dtype, type(latents))
        pieces = self._layouts.get(layout) if latents.is_cpu else None
        if pieces is not None:
            copy = self._memory(pieces.shape, pieces.dtype, pieces.device)
            pieces.copy(latents.data_ptr(), copy.data_ptr())
            return Snapshot(copy, None)
        part = self._select(latents)
        if layout not in self._layouts:
            self._layouts[layout] = Pieces.of(latents, part)
        return self._take_part(part)

    def _take_part(self, latents: Tensor) -> Snapshot:
        streams = streams_of(latents)
        queued = None if streams is None else self._begin(streams, latents.device)
        copy = self._memory(latents.shape, latents.dtype, latents.device, queued and queued.writer)
        copy.copy_(latents.detach(), non_blocking=True)
        if queued is not None:
            queued.copied.record(queued.writer)
        return Snapshot(copy, queued)

    def _begin(self, streams: DeviceStreams, device: torch.device) -> QueuedCopy:
        expect_no_capture(streams)
        return QueuedCopy(streams, streams.current_stream(device), streams.Event())

    @contextmanager
    def reading(self, snapshot: Snapshot) -> Iterator[Tensor]:
        """Yields the latents for work on the calling thread. After the block their memory is reused."""
        copy, queued = snapshot
        reader = None if queued is None else self._waiting_reader(queued, copy.device)
        with nullcontext() if queued is None or reader is None else queued.streams.stream(reader):
            try:
                yield copy
            finally:
                if reader is not None:
                    reader.synchronize()
                self._spare.append(snapshot)

    def _memory(
        self, shape: torch.Size, dtype: torch.dtype, device: torch.device, writer: DeviceStream | None = None
    ) -> Tensor:
        while self._spare:
            spare, queued = self._spare.pop()
            written_by = queued and queued.writer
            if (spare.shape, spare.dtype, spare.device, written_by) == (shape, dtype, device, writer):
                return spare
        # Memory allocated in inference mode cannot be written to outside of it.
        with torch.inference_mode(False):
            memory = torch.empty(shape, dtype=dtype, device=device)
        self.size_bytes += memory.nbytes
        return memory

    def _waiting_reader(self, queued: QueuedCopy, device: torch.device) -> DeviceStream:
        if self._reader is None or self._reader.device != device:
            ignore_captures_of_other_threads(device.type)
            self._reader = queued.streams.Stream(device)
        self._reader.wait_event(queued.copied)
        return self._reader


def to_host(pixels: Tensor) -> np.ndarray:
    """Copies finished pixels to the CPU's memory. The calling thread sleeps meanwhile, the device goes on."""
    streams = streams_of(pixels)
    # The driver would copy to pageable memory in stages and delay all other copies.
    host = None if streams is None else pinned_like(pixels)
    if streams is None or host is None:
        return pixels.cpu().numpy()
    host.copy_(pixels, non_blocking=True)
    there = sleeping_event(streams)
    there.record(streams.current_stream(pixels.device))
    there.synchronize()
    return host.numpy()


class GivenFrames(Enum):
    """The frames of a video that a run's latents hold."""

    ALL = "all frames, from the first on; all are shown"
    FIRST_AND_SHOWN = "the first frame, only to compare with, and the frame that is shown; a still is one frame"
    ONE_LATER = "one later frame without the first"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Selects the part of a sampler's tensor `[B, ...]` that is shown, as a view. Only this part is copied.

    Args:
        items: largest number of batch items, from the first; None for all.
        frames: frames of a video's latents: the first, the middle one, or all (`animated`).
        with_first: whether the first frame comes along before the middle one. The decoder compares the two.
    """

    items: int | None = 1
    frames: Frames = "first"
    with_first: bool = False

    def __call__(self, latents: Tensor) -> Tensor:
        shape = latents.shape
        if len(shape) < MIN_BATCH_NDIM:  # points without a batch axis
            return latents
        # A view costs 20 microseconds: it is avoided if all items are shown; `narrow` is the quickest way.
        items = latents if self.items is None or shape[0] <= self.items else latents.narrow(0, 0, self.items)
        if len(shape) != VIDEO_NDIM or self.frames == "animated" or shape[2] < 1:
            return items
        middle = shape[2] // 2 if self.frames == "middle" else 0
        if self.with_first and middle:
            return items[:, :, : middle + 1 : middle]
        return items.narrow(2, middle, 1)
