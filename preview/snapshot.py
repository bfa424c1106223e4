"""The only code that copies from a device: a step's latents, before the sampler goes on with them."""

from typing import final

import torch
from torch import Tensor


@final
class Snapshot:
    """A copy of a step's latents, made on their own device in the order of the sampler's own work.

    Taking it waits for nothing. On CUDA the copy is queued on the sampler's stream and an event recorded; `read` makes
    the reader's stream wait for that event, so that nobody sees a half-made copy and the sampler never stands still.
    Elsewhere the copy is complete, or ordered before whatever reads it, when `clone` returns.

    Args:
        latents: the sampler's tensor, or the part of it that will be looked at.
    """

    def __init__(self, latents: Tensor) -> None:
        self._copy = latents.detach().clone()
        self._made = torch.cuda.Event() if latents.is_cuda else None
        if self._made is not None:
            self._made.record(torch.cuda.current_stream(latents.device))

    def read(self) -> Tensor:
        """The latents, for use on the calling thread's current stream."""
        if self._made is not None:
            stream = torch.cuda.current_stream(self._copy.device)
            stream.wait_event(self._made)
            # The copy's memory belongs to the sampler's stream: it must not be given away while this stream reads it.
            self._copy.record_stream(stream)
        return self._copy


def first_picture(latents: Tensor) -> Tensor:
    """The part of a sampler's tensor `[B, ...]` that holds the first picture: item 0, of a video its first frame."""
    first = latents[:1]
    return first[:, :, :1] if first.ndim == 5 else first
