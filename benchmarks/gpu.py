"""What a step costs a sampler on a GPU: whether it waits, how long its thread is held, how long its stream is."""

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
from .preview_methods import WAYS, Way, a_place

WAITED = "synchronizing CUDA operation"  # of what torch says then; it also says that it can say so


@torch.inference_mode()
def offers(case: Case, way: Way, steps: int) -> dict[str, float]:
    """Of `steps` steps: how often the calling thread waited for the device, medians of microseconds on its thread and
    on its stream.
    """
    x0 = case.latents("cuda")
    waits, held_us, stream_us = [0], [], []
    with a_place() as place, way(case, place) as callback:
        for index in range(1, 4):  # whatever is set up once
            callback(index, steps + 3, x0)
        torch.cuda.synchronize()
        for index in range(4, steps + 4):
            time.sleep(timing.PAUSE_S)
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            with _counting(waits):
                began = time.perf_counter()
                callback(index, steps + 3, x0)
                held_us.append((time.perf_counter() - began) * 1e6)
            end.record()
            end.synchronize()
            stream_us.append(begin.elapsed_time(end) * 1e3)
    return {"waits": waits[0], "thread, us": statistics.median(held_us), "stream, us": statistics.median(stream_us)}


def table(cases: Mapping[str, Case]) -> list[dict[str, Any]]:
    """A row for each case and way."""
    return [
        {"case": name, "way": way} | offers(case, WAYS[way], timing.STEPS)
        for name, case in cases.items()
        for way in WAYS
    ]


@contextmanager
def _counting(waits: list[int]) -> Iterator[None]:
    """Adds to `waits` how often this thread waits for the device; the worker may wait as it likes.

    https://docs.pytorch.org/docs/stable/generated/torch.cuda.set_sync_debug_mode.html
    """
    sampler = threading.get_ident()

    def hear(message: Warning | str, *_: Any, **__: Any) -> None:
        waits[0] += WAITED in str(message) and threading.get_ident() == sampler

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = hear
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
