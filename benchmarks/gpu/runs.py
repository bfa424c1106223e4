"""What the preview adds to whole runs: time and memory."""

import gc
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

import torch

from ...preview.decode.memory_budget import DEVICE_BYTES, MB
from ..latent_cases import CASES, Case
from ..preview_methods import PreviewMethod, no_preview, temporary_folder, to_screen, to_screen_and_files
from .device import ConvolutionLoad, Device
from .rows import Row, at_most

TIME, MEMORY = "run", "memory"
RUN_STEPS = 20
MAX_PERCENT = 1.0
LEAK_RUNS, LEAK_BYTES = 3, MB


class RunCase(NamedTuple):
    """Runs to compare: `step_ms` of convolutions in each step, in `pairs` pairs.

    A sampler that runs `ahead` queues all steps and waits at the end; another one waits after each step. `has_target`:
    whether the run is long enough for the target, beside the last picture's file.
    """

    case: str
    method: PreviewMethod
    title: str
    step_ms: float
    pairs: int
    ahead: bool = False
    has_target: bool = True


RUNS = (
    RunCase("SDXL 128x128", to_screen, "screen", 20, 7, has_target=False),
    RunCase("SDXL 128x128", to_screen, "screen", 50, 5),
    RunCase("SDXL 128x128", to_screen_and_files, "screen and PNGs", 50, 5),
    RunCase("SDXL 128x128", to_screen_and_files, "screen and PNGs, the sampler runs ahead", 50, 3, ahead=True),
    RunCase("Wan 2.1, 21 frames", to_screen_and_files, "screen and PNGs", 50, 5),
    RunCase("SDXL 128x128", to_screen_and_files, "screen and PNGs", 200, 3),
)


def time_rows(device: Device) -> Iterator[Row]:
    """By how many percent each kind of run gets longer: the median of pairs that alternate."""
    load = ConvolutionLoad(device)
    for run in RUNS:
        case, ratios = CASES[run.case], []
        run_s(case, run.method, device, load, run.step_ms, ahead=run.ahead)  # sets up what is needed once in a process
        for pair in range(run.pairs):
            methods = (run.method, no_preview) if pair % 2 else (no_preview, run.method)
            seconds = {method: run_s(case, method, device, load, run.step_ms, ahead=run.ahead) for method in methods}
            ratios.append(seconds[run.method] / seconds[no_preview])
        percent = (statistics.median(ratios) - 1) * 100
        what = f"{run.case}, {RUN_STEPS} steps of {run.step_ms:g} ms, {run.title}: % longer"
        yield at_most(TIME, what, percent, MAX_PERCENT) if run.has_target else Row(TIME, what, percent)


@torch.inference_mode()
def run_s(
    case: Case, method: PreviewMethod, device: Device, load: ConvolutionLoad, step_ms: float, *, ahead: bool = False
) -> float:
    """Returns the seconds of a run, with what it waits for at its end."""
    x0 = device.put(case.latents("cpu"))
    device.api.synchronize()
    with temporary_folder() as folder:
        began = time.perf_counter()
        with method(case, folder) as callback:
            for index in range(1, RUN_STEPS + 1):
                load.run(step_ms)
                x0.mul_(0.999)
                callback(index, RUN_STEPS, x0)
                if not ahead:
                    device.api.current_stream().synchronize()
            device.api.synchronize()
        return time.perf_counter() - began


def memory_rows(device: Device) -> Iterator[Row]:
    """The device's memory that a run with a preview needs, and what stays after several runs."""
    load, case = ConvolutionLoad(device), CASES["FLUX.2 128x128"]

    def peak_bytes(method: PreviewMethod) -> int:
        device.api.reset_peak_memory_stats()
        run_s(case, method, device, load, 10)
        return device.api.max_memory_allocated()

    for method in (no_preview, to_screen_and_files):
        peak_bytes(method)  # libraries and decoders stay open
    more = peak_bytes(to_screen_and_files) - peak_bytes(no_preview)
    yield at_most(MEMORY, "FLUX.2 128x128, screen and PNGs: MB at the peak", more / MB, DEVICE_BYTES / MB)
    gc.collect()
    before = device.api.memory_allocated()
    for _ in range(LEAK_RUNS):
        run_s(case, to_screen_and_files, device, load, 10)
    gc.collect()
    stays = max(0, device.api.memory_allocated() - before)
    yield at_most(MEMORY, f"MB that stay after {LEAK_RUNS} more runs", stays / MB, LEAK_BYTES / MB)
