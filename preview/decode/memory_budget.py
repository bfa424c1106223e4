"""What the preview of a run may take of a device's memory: to decode, and for the steps that wait for that."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# TAESD's decode of 1024 x 1024 pixels is 0.8 GB. A sampler never waits for it, nor fails for it: what PyTorch keeps of
# it between two decodes goes back as soon as somebody finds no other.
DEVICE_BYTES = 1 << 30
MAX_WAITING, WAITING_BYTES = 32, 512 << 20  # steps that wait; of a device, what is allowed counts besides
WAITING_SHARE = 8  # one part of so many is for these
MB, MOST_MB = 1 << 20, 1 << 20


def bytes_of(megabytes: Any, default: int) -> int:
    """What somebody typed or saved as megabytes; `default` bytes where it is no such number."""
    known = isinstance(megabytes, int | float) and not isinstance(megabytes, bool) and 0 <= megabytes < math.inf
    return int(min(megabytes, MOST_MB) * MB) if known else default


def decoding_bytes(device_bytes: int) -> int:
    """What of so much is for decoding."""
    return device_bytes * (WAITING_SHARE - 1) // WAITING_SHARE


def waiting_steps(step_bytes: int, device: torch.device, device_bytes: Callable[[], int]) -> int:
    """How many steps may wait to be developed; two at least, and on a CPU as many as its memory has room for.

    Args:
        step_bytes: that a step takes: of a large batch or a video many.
        device: where they wait.
        device_bytes: gives what a preview may take of its memory. Not asked for a CPU.
    """
    most = WAITING_BYTES if device.type == "cpu" else min(WAITING_BYTES, device_bytes() // WAITING_SHARE)
    return min(MAX_WAITING, max(2, most // max(1, step_bytes)))


def selected_bytes(select: Callable[[Tensor], Tensor], shape: Sequence[int]) -> int:
    """What `select` leaves of latents of this shape."""
    return select(torch.empty(tuple(shape), device="meta")).numel() * torch.float32.itemsize
