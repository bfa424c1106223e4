"""How much of a device's memory the preview of a run may use, to decode and to queue steps."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

MB = 1 << 20  # the one meaning of MB in code and messages: 1,048,576 bytes
# TAESD needs 0.8 GB to decode 1024 x 1024 pixels. A sampler never waits or fails for that memory: PyTorch gives back
# what it caches between two decodes as soon as an allocation fails.
DEVICE_BYTES = 1024 * MB
MAX_QUEUED, MAX_QUEUED_BYTES = 32, 512 * MB  # for steps that wait to be decoded
QUEUE_SHARE = 8  # one part in eight of the budget is for queued steps
MAX_BUDGET_MB = 1 << 20


def bytes_of(megabytes: Any, default: int) -> int:
    """Converts megabytes that a user typed or saved; `default` bytes if it is not such a number."""
    known = isinstance(megabytes, int | float) and not isinstance(megabytes, bool) and 0 <= megabytes < math.inf
    return int(min(megabytes, MAX_BUDGET_MB) * MB) if known else default


def decoding_bytes(device_bytes: int) -> int:
    """The part of a budget that is for decoding."""
    return device_bytes * (QUEUE_SHARE - 1) // QUEUE_SHARE


def queue_capacity(step_bytes: int, device: torch.device, device_bytes: Callable[[], int]) -> int:
    """How many steps may wait to be decoded: at least two.

    Args:
        step_bytes: size of a step's latents; large batches and videos have many bytes.
        device: device on which they wait.
        device_bytes: function that returns the device's budget. Not called for a CPU.
    """
    most = MAX_QUEUED_BYTES if device.type == "cpu" else min(MAX_QUEUED_BYTES, device_bytes() // QUEUE_SHARE)
    return min(MAX_QUEUED, max(2, most // max(1, step_bytes)))


def selected_bytes(select: Callable[[Tensor], Tensor], shape: Sequence[int]) -> int:
    """Size of what `select` returns for latents of this shape, in float32."""
    return select(torch.empty(tuple(shape), device="meta")).numel() * torch.float32.itemsize
