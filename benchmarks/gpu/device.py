"""The device that the parts measure, real or fake."""

import json
import re
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile, record_function

SYNC_WARNING = "synchronizing CUDA operation"  # a part of torch's warning
# Calls of the runtime or the driver, of CUDA or HIP, that wait for the device or may do so.
WAITING_CALL = re.compile(
    r"^(cuda|hip|cu)(\w*Synchronize|Memcpy|Malloc|MemAlloc|Free|MemFree|Host(Alloc|Malloc|Free))(_v\d)?$"
)
RUNTIME = ("cuda_runtime", "cuda_driver")  # kinds of events in a trace; of HIP, too
CONTROL, MEASURED = "safelight: control", "safelight: measured"
WARM_UPS, TIMED_PASSES = 5, 20


@dataclass(frozen=True)
class Device:
    """A device with streams.

    Args:
        api: PyTorch's module of the device, `torch.cuda`.
        put: function that copies a tensor of the CPU to it.
        waits: function that runs an action and returns how often the calling thread waited for the device meanwhile.
        load_channels: channels of the convolutions that stand for a model.
        load_side: height and width of their input.
    """

    api: Any
    put: Callable[[Tensor], Tensor]
    waits: Callable[[Callable[[], object]], int]
    load_channels: int = 320
    load_side: int = 128


def real_device() -> Device:
    """The first CUDA or ROCm device."""
    return Device(torch.cuda, lambda tensor: tensor.to("cuda"), profiled_waits)


class ConvolutionLoad:
    """Convolutions that keep a device busy for a given time, as a step of a model does."""

    def __init__(self, device: Device) -> None:
        random = torch.Generator().manual_seed(0)
        channels, side = device.load_channels, device.load_side
        weight = torch.randn(channels, channels, 3, 3, generator=random) / (3 * channels**0.5)
        self._weight = device.put(weight)
        self._input = device.put(torch.randn(1, channels, side, side, generator=random))
        begin, end = (device.api.Event(enable_timing=True) for _ in range(2))
        self.run_passes(WARM_UPS)
        begin.record()
        self.run_passes(TIMED_PASSES)
        end.record()
        end.synchronize()
        self._pass_ms = max(1e-3, begin.elapsed_time(end) / TIMED_PASSES)

    def run(self, ms: float) -> Tensor:
        """Queues about `ms` milliseconds of work on the current stream. Returns its result."""
        return self.run_passes(max(1, round(ms / self._pass_ms)))

    def run_passes(self, passes: int) -> Tensor:
        """Queues `passes` convolutions of the same input. Returns the result."""
        values = self._input
        for _ in range(passes):
            values = self.forward(values)
        return values

    def forward(self, values: Tensor) -> Tensor:
        """One convolution, `[1, C, H, W]` to `[1, C, H, W]`, bounded, so that any number of passes can follow."""
        return torch.tanh(F.conv2d(values, self._weight, padding=1))

    @property
    def input(self) -> Tensor:
        """The input of the first pass, `[1, C, H, W]`."""
        return self._input


def profiled_waits(action: Callable[[], object]) -> int:
    """Counts in the trace of PyTorch's profiler how often the calling thread waits for CUDA in `action`.

    Raises:
        RuntimeError: the profiler records no calls of CUDA, so the count would say nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            with record_function(CONTROL):
                torch.cuda.synchronize()
            with record_function(MEASURED):
                action()
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text("utf-8"))["traceEvents"]
    if not waiting_calls(events, CONTROL):
        raise RuntimeError(
            "expected the profiler to record a wait that was made on purpose, but it recorded none; allow this user to "
            "use CUPTI, or see https://developer.nvidia.com/ERR_NVGPUCTRPERM"
        )
    return len(waiting_calls(events, MEASURED))


def waiting_calls(events: Sequence[Mapping[str, Any]], label: str) -> list[str]:
    """The names of the calls in a Chrome trace that wait for the device inside of `label`, on the same thread."""
    found = []
    for span in events:
        if span.get("name") == label and span.get("cat") == "user_annotation":
            begin, end = span["ts"], span["ts"] + span["dur"]
            found += [
                event["name"]
                for event in events
                if event.get("cat") in RUNTIME
                and (event.get("pid"), event.get("tid")) == (span.get("pid"), span.get("tid"))
                and begin <= event["ts"] <= end
                and WAITING_CALL.match(event["name"])
            ]
    return found


@contextmanager
def counting_warned_waits(device: Device, waits: list[int]) -> Iterator[None]:
    """Counts in `waits[0]` how often PyTorch itself makes this thread, not the worker, wait for the device.

    https://docs.pytorch.org/docs/stable/generated/torch.cuda.set_sync_debug_mode.html
    """
    sampler = threading.get_ident()

    def on_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        waits[0] += SYNC_WARNING in str(message) and threading.get_ident() == sampler

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = on_warning
        device.api.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            device.api.set_sync_debug_mode("default")
