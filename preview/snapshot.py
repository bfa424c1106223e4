"""The only code that copies from a device: a step's latents before the sampler goes on with them, finished pixels."""

import ctypes
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

Frames = Literal["first", "middle", "animated"]

MIN_BATCH_NDIM, VIDEO_NDIM = 3, 5  # [B, C, L] and [B, C, T, H, W]

# `memmove` that keeps the interpreter's lock: given away for the microseconds of a small copy, as torch does it, it
# comes back when the worker lets go of it, which may take milliseconds. Nor does it wait for a second core, as torch
# does from 32,768 numbers on: where the worker or the model has that one, for milliseconds again.
MEMMOVE = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(
    ctypes.cast(ctypes.memmove, ctypes.c_void_p).value or 0
)
SMALL_BYTES, MAX_PIECES = 2 << 20, 64  # of FLUX.2's latents for 1024 px
PLAIN = frozenset((torch.float32, torch.float16, torch.bfloat16, torch.float64))


class Pieces(NamedTuple):
    """Where the part of a tensor that is looked at lies in the CPU's memory: pieces of `size` bytes, `at` so many bytes
    from the tensor's first number; and what the copy is to be.

    A video's first frame is one piece for each channel.
    """

    size: int
    at: tuple[int, ...]
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, whole: Tensor, part: Tensor) -> "Pieces | None":
        """None for what is better copied by torch: much, in many pieces, no view, or of no plain numbers."""
        item = part.element_size()
        if not whole.is_cpu or type(part) is not Tensor or part.dtype not in PLAIN or part.nbytes > SMALL_BYTES:
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
        """From the address of the tensor to another, without gaps."""
        for start in self.at:
            MEMMOVE(target, source + start, self.size)
            target += self.size


class Snapshot(NamedTuple):
    """A copy of a step's latents on their own device; on CUDA with the event that says when it is whole."""

    copy: Tensor
    whole: "torch.cuda.Event | None"


@final
class Snapshots:
    """Copies of a run's latents, in memory that is used again.

    Taking one waits for nothing. On CUDA the copy is queued on the sampler's stream, in the order of its own work, and
    an event recorded. The reader has a stream of its own, waits there for that event, and gives the memory back only
    when its stream is done: so the sampler's next copy into it needs no event, the allocator is not asked for memory in
    the sampler's time after the first steps, and nothing grows, as it would with `record_stream`, when the reader lags.
    Elsewhere the copy is complete, or ordered before whatever reads it, when `copy_` returns.

    Args:
        select: the part of a tensor that will be looked at, a view; which part depends on the tensor's shape alone.
    """

    def __init__(self, select: Callable[[Tensor], Tensor] = lambda whole: whole) -> None:
        self._select = select
        self._spare: list[Tensor] = []
        self._layouts: dict[object, Pieces | None] = {}
        self._stream: torch.cuda.Stream | None = None

    def take(self, latents: Tensor) -> Snapshot:
        """A copy of what will be looked at of the sampler's tensor; by the sampler's thread."""
        # A view of its part costs the sampler as much as half the copy: where that lies is thought out once.
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
        copy = self._memory(latents.shape, latents.dtype, latents.device)
        copy.copy_(latents.detach(), non_blocking=True)
        if not latents.is_cuda:
            return Snapshot(copy, None)
        whole = torch.cuda.Event()
        whole.record(torch.cuda.current_stream(latents.device))
        return Snapshot(copy, whole)

    @contextmanager
    def reading(self, snapshot: Snapshot) -> Iterator[Tensor]:
        """The latents, for work on the calling thread until the end of the block; then their memory is used again."""
        stream = self._reader(snapshot)
        with torch.cuda.stream(stream):
            try:
                yield snapshot.copy
            finally:
                if stream is not None:
                    stream.synchronize()
                self._spare.append(snapshot.copy)

    def _memory(self, shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
        while self._spare:
            spare = self._spare.pop()
            if (spare.shape, spare.dtype, spare.device) == (shape, dtype, device):
                return spare
        # In inference mode the memory could not be written to outside of it.
        with torch.inference_mode(False):
            return torch.empty(shape, dtype=dtype, device=device)

    def _reader(self, snapshot: Snapshot) -> "torch.cuda.Stream | None":
        if snapshot.whole is None:
            return None
        if self._stream is None or self._stream.device != snapshot.copy.device:
            self._stream = torch.cuda.Stream(snapshot.copy.device)
        self._stream.wait_event(snapshot.whole)
        return self._stream


def to_host(pixels: Tensor) -> np.ndarray:
    """Finished pixels in the CPU's memory; the calling thread sleeps until they are there, the device goes on."""
    if not pixels.is_cuda:
        return pixels.cpu().numpy()
    # From pageable memory the driver would stage the copy and hold up everybody else's.
    host = torch.empty(pixels.shape, dtype=pixels.dtype, pin_memory=True)
    host.copy_(pixels, non_blocking=True)
    there = torch.cuda.Event(blocking=True)
    there.record()
    there.synchronize()
    return host.numpy()


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The part of a sampler's tensor `[B, ...]` that is looked at: a view, of which alone a copy is taken.

    Args:
        items: of the batch at most, the first ones; None for all.
        frames: of a video's latents: the first, the one in the middle, or all of them.
    """

    items: int | None = 1
    frames: Frames = "first"

    def __call__(self, latents: Tensor) -> Tensor:
        shape = latents.shape
        if len(shape) < MIN_BATCH_NDIM:  # a set of points without a batch
            return latents
        # A view costs the sampler twenty microseconds: none where all is looked at, and by `narrow`, the quickest way.
        some = latents if self.items is None or shape[0] <= self.items else latents.narrow(0, 0, self.items)
        if len(shape) != VIDEO_NDIM or self.frames == "animated" or shape[2] < 1:
            return some
        return some.narrow(2, shape[2] // 2 if self.frames == "middle" else 0, 1)
