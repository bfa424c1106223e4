"""What PyTorch offers to work beside the sampler on a device: streams, events, pinned memory."""

from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor

NEEDED = ("Event", "Stream", "current_stream", "stream")


class DeviceEvent(Protocol):
    """A mark in a stream, such as `torch.cuda.Event`."""

    def record(self, stream: "DeviceStream") -> object: ...

    def synchronize(self) -> object: ...


class DeviceStream(Protocol):
    """A queue of a device's work, such as `torch.cuda.Stream`."""

    @property
    def device(self) -> torch.device: ...

    def wait_event(self, event: DeviceEvent) -> object: ...

    def synchronize(self) -> object: ...


class DeviceStreams(Protocol):
    """The part of a module such as `torch.cuda` or `torch.xpu` that Safelight needs."""

    def Event(self) -> DeviceEvent: ...  # noqa: N802 - PyTorch's name

    def Stream(self, device: torch.device) -> DeviceStream: ...  # noqa: N802

    def current_stream(self, device: torch.device) -> DeviceStream: ...

    def stream(self, stream: DeviceStream) -> AbstractContextManager[object]: ...


def streams_of(tensor: Tensor) -> DeviceStreams | None:
    """PyTorch's module for the streams of a tensor's device; None for a device without them.

    CUDA, ROCm, XPU and several others have them. Without them, the device itself orders a copy before all later reads
    (MPS has one stream), or the copy is complete when its call returns (CPU).
    """
    return None if tensor.is_cpu else streams_by_name(tensor.device.type)


def streams_by_name(device_type: str) -> DeviceStreams | None:
    """PyTorch's module for the streams of a type of device that is not the CPU; None if it has none."""
    module = getattr(torch, device_type, None)
    return module if all(hasattr(module, name) for name in NEEDED) else None


def sleeping_event(streams: DeviceStreams) -> DeviceEvent:
    """An event whose `synchronize` lets the calling thread sleep, where the device has such events."""
    try:
        return streams.Event(blocking=True)  # pyright: ignore[reportCallIssue] - not of all devices
    except TypeError:
        return streams.Event()


def pinned_like(pixels: Tensor) -> Tensor | None:
    """Empty memory of the CPU for a copy of `pixels` that stays in its stream; None if there is none to pin."""
    try:
        return pixels.new_empty(pixels.shape, device="cpu", pin_memory=True)
    except RuntimeError:  # the system's limit for such memory, or a device for which PyTorch cannot pin any
        return None


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a device. PyTorch's cache does not count as free. None if the device does not report it."""
    report = getattr(getattr(torch, device.type, None), "mem_get_info", None)
    try:
        return None if report is None else report(device)[0]
    except RuntimeError:  # such as an Intel driver without this query
        return None
