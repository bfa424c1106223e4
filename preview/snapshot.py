"""The only code that copies from a device: a step's latents before the sampler goes on with them, finished pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor


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
    """

    def __init__(self) -> None:
        self._spare: list[Tensor] = []
        self._stream: torch.cuda.Stream | None = None

    def take(self, latents: Tensor) -> Snapshot:
        """A copy of the sampler's tensor, or of the part of it that will be looked at; by the sampler's thread."""
        copy = self._memory(latents)
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

    def _memory(self, latents: Tensor) -> Tensor:
        while self._spare:
            spare = self._spare.pop()
            if (spare.shape, spare.dtype, spare.device) == (latents.shape, latents.dtype, latents.device):
                return spare
        # In inference mode the memory could not be written to outside of it.
        with torch.inference_mode(False):
            return torch.empty(latents.shape, dtype=latents.dtype, device=latents.device)

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


def first_picture(latents: Tensor) -> Tensor:
    """The part of a sampler's tensor `[B, ...]` that holds the first picture: item 0, of a video its first frame."""
    first = latents[:1]
    return first[:, :, :1] if first.ndim == 5 else first
