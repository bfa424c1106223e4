"""What a step costs the sampler: waits for the device, time on its thread and on its stream."""

import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .. import timing
from ..latent_cases import CASES, Case
from ..preview_methods import METHODS, Callback, PreviewMethod, temporary_folder, to_screen_and_files
from .device import ConvolutionLoad, Device, counting_warned_waits, real_device
from .rows import Row, at_most, equal

PART = "step"
MEASURED_CASES = ("SDXL 128x128", "FLUX.2 128x128", "Wan 2.1, 21 frames")
SETUP_STEPS = 3
MAX_THREAD_US = 50.0
AHEAD_MS = 3.0  # of work in the sampler's stream before the step: an idle stream would measure the calls, not the copy


def rows(device: Device) -> Iterator[Row]:
    """The rows of this part, with the sinks of ComfyUI's node and PNGs."""
    load = ConvolutionLoad(device)
    for name in MEASURED_CASES:
        measured = measure_steps(CASES[name], to_screen_and_files, timing.TIMED_STEPS, device, load)
        traced = count_waits(CASES[name], to_screen_and_files, timing.TIMED_STEPS, device)
        yield equal(PART, f"{name}: waits of the sampler's thread, by PyTorch", measured["waits"], 0)
        yield equal(PART, f"{name}: waits of the sampler's thread, by the profiler", traced, 0)
        yield at_most(PART, f"{name}: us on the sampler's thread", measured["thread, us"], MAX_THREAD_US)
        yield Row(PART, f"{name}: us on the sampler's stream", measured["stream, us"])


@torch.inference_mode()
def measure_steps(
    case: Case, method: PreviewMethod, steps: int, device: Device, load: ConvolutionLoad | None = None
) -> dict[str, float]:
    """Returns how often the calling thread waited for the device, and the median microseconds on thread and stream.

    Args:
        case: latents.
        method: preview.
        steps: number of steps to measure.
        device: device of the latents.
        load: work that is queued before each step; None for an idle device.
    """
    x0 = device.put(case.latents("cpu"))
    waits, thread_us, stream_us = [0], [], []
    total = steps + SETUP_STEPS
    with temporary_folder() as folder, method(case, folder) as callback:
        for index in range(1, SETUP_STEPS + 1):  # sets up what is needed once
            callback(index, total, x0)
        device.api.synchronize()
        for index in range(SETUP_STEPS + 1, total + 1):
            time.sleep(timing.PAUSE_S)
            if load is not None:
                load.run(AHEAD_MS)
            begin, end = (device.api.Event(enable_timing=True) for _ in range(2))
            begin.record()
            with counting_warned_waits(device, waits):
                began = time.perf_counter()
                callback(index, total, x0)
                thread_us.append((time.perf_counter() - began) * 1e6)
            end.record()
            end.synchronize()
            stream_us.append(begin.elapsed_time(end) * 1e3)
    return {"waits": waits[0], "thread, us": statistics.median(thread_us), "stream, us": statistics.median(stream_us)}


@torch.inference_mode()
def count_waits(case: Case, method: PreviewMethod, steps: int, device: Device) -> int:
    """Returns how often the device's own record says that the calling thread waited in `steps` steps."""
    x0, total = device.put(case.latents("cpu")), steps + SETUP_STEPS
    with temporary_folder() as folder, method(case, folder) as callback:
        _offer(callback, range(1, SETUP_STEPS + 1), total, x0)
        return device.waits(lambda: _offer(callback, range(SETUP_STEPS + 1, total + 1), total, x0))


def _offer(callback: Callback, indices: range, total: int, x0: Tensor) -> None:
    for index in indices:
        time.sleep(timing.PAUSE_S)
        callback(index, total, x0)


def table(cases: Mapping[str, Case]) -> list[dict[str, Any]]:
    """Returns a row for each case and method, of an idle device."""
    device = real_device()
    return [
        {"case": name, "method": method} | measure_steps(case, METHODS[method], timing.TIMED_STEPS, device)
        for name, case in cases.items()
        for method in METHODS
    ]
