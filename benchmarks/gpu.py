"""Measures the cost of a step for a sampler on a GPU: waits, time on its thread, time on its stream."""

import statistics
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from . import timing
from .latent_cases import Case
from .preview_methods import METHODS, PreviewMethod, temporary_folder

SYNC_WARNING = "synchronizing CUDA operation"  # a part of torch's warning


@torch.inference_mode()
def measure_steps(case: Case, method: PreviewMethod, steps: int) -> dict[str, float]:
    """Returns how often the calling thread waited for the device, and the median microseconds on thread and stream."""
    x0 = case.latents("cuda")
    waits, thread_us, stream_us = [0], [], []
    with temporary_folder() as folder, method(case, folder) as callback:
        for index in range(1, 4):  # sets up what is needed once
            callback(index, steps + 3, x0)
        torch.cuda.synchronize()
        for index in range(4, steps + 4):
            time.sleep(timing.PAUSE_S)
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            with _counting(waits):
                began = time.perf_counter()
                callback(index, steps + 3, x0)
                thread_us.append((time.perf_counter() - began) * 1e6)
            end.record()
            end.synchronize()
            stream_us.append(begin.elapsed_time(end) * 1e3)
    return {"waits": waits[0], "thread, us": statistics.median(thread_us), "stream, us": statistics.median(stream_us)}


def table(cases: Mapping[str, Case]) -> list[dict[str, Any]]:
    """Returns a row for each case and method."""
    return [
        {"case": name, "method": method} | measure_steps(case, METHODS[method], timing.TIMED_STEPS)
        for name, case in cases.items()
        for method in METHODS
    ]


@contextmanager
def _counting(waits: list[int]) -> Iterator[None]:
    """Counts in `waits[0]` how often this thread, not the worker, waits for the device.

    https://docs.pytorch.org/docs/stable/generated/torch.cuda.set_sync_debug_mode.html
    """
    sampler = threading.get_ident()

    def on_warning(message: Warning | str, *_: Any, **__: Any) -> None:
        waits[0] += SYNC_WARNING in str(message) and threading.get_ident() == sampler

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = on_warning
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
