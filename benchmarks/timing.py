"""Measures the time in the callback, of a decode and of a whole run, and the memory of the process."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..decoders.catalogue import Catalogue
from ..decoders.decoder import Card, Decoder, to_bytes
from ..decoders.files.decoder_file import build
from ..decoders.latents.space_table import SPACES
from ..decoders.nets.registry import KINDS
from ..decoders.nets.taehv import taehv
from ..decoders.nets.taesd import taesd
from .latent_cases import CASES, Case
from .preview_methods import (
    METHODS,
    Callback,
    PreviewMethod,
    host_table,
    no_preview,
    temporary_folder,
    to_screen_and_files,
)

TIMED_STEPS = 40
PAUSE_S = 0.03  # between two steps of the sampler, in which the worker finishes
ROUNDS = 5
SLOW_MS = 1000  # slower actions run only twice
TABLE = "table"
UNTRAINED_NETS: Mapping[str, tuple[tuple[str, str, dict[str, Any]], ...]] = {  # by space: title, kind and settings
    "flux2": (("TAEF2", "tiny", {"layers": taesd(32, pooled=1)}),),
    "sd1": (("TAESD", "tiny", {"layers": taesd(4)}), ("VAE-approx", "approx", {"channels": 4})),
    "wan21": (("TAEHV", "tiny_video", {"layers": taehv(16)}),),
}


@torch.inference_mode()
def in_callback(case: Case, device: str) -> dict[str, float]:
    """Returns the median microseconds of a step on the sampler's thread, for each method."""
    x0 = case.latents(device)
    median_us = {}
    for name, method in METHODS.items():
        with temporary_folder() as folder, method(case, folder) as callback:
            for index in range(1, 4):  # sets up what is needed once
                callback(index, TIMED_STEPS + 3, x0)
            seconds = [_timed(callback, index, x0) for index in range(4, TIMED_STEPS + 4)]
            median_us[name] = statistics.median(seconds) * 1e6
    return median_us


def _timed(callback: Callback, index: int, x0: Tensor) -> float:
    time.sleep(PAUSE_S)
    began = time.perf_counter()
    callback(index, TIMED_STEPS + 3, x0)
    return time.perf_counter() - began


@torch.inference_mode()
def decoding(device: str) -> list[dict[str, Any]]:
    """Measures milliseconds from 128 x 128 latent pixels to bytes, for each decoder and for the hosts' table.

    Other packages' nets have random weights here.
    """
    return [row for space in UNTRAINED_NETS for row in _decoding(space, device)]


def _decoding(space: str, device: str) -> Iterator[dict[str, Any]]:
    row = SPACES[space]
    latents = torch.randn(1, row.channels, 128, 128, generator=torch.Generator().manual_seed(0)).to(device)
    catalogue = Catalogue()
    decoders = [candidate.open().to(device) for candidate in (*catalogue.of(row), *catalogue.candidates(row)[-1:])]
    decoders += [_untrained(*net, device) for net in UNTRAINED_NETS[space]]
    table = next(case.table for case in CASES.values() if case.space == space)
    with host_table(Case(space, tuple(latents.shape), table), Path()) as show:
        actions: dict[str, Callable[[], object]] = {TABLE: lambda: show(1, 1, latents)}
        actions |= {d.name: lambda d=d: to_bytes(d.decode(latents)).cpu() for d in decoders}
        best_ms = best_of_rounds(actions)
    cards = {decoder.name: decoder.card for decoder in decoders}
    for name, ms in best_ms.items():
        card = cards.get(name)
        output_bytes = 3 * (128 * (card.scale if card else 1)) ** 2
        yield {
            "space": space,
            "decoder": name,
            "kind": card.kind if card else "",
            "ms": ms,
            "times the table's": ms / best_ms[TABLE],
            "MB per second": output_bytes / ms / 1e3,
            "multiplications": card.cost if card else None,
        }


def _untrained(title: str, kind: str, settings: Mapping[str, Any], device: str) -> Decoder:
    with torch.device("meta"):
        state = KINDS[kind](**settings).state_dict()
    generator = torch.Generator().manual_seed(0)
    net = build(kind, settings, {key: 0.02 * torch.randn(t.shape, generator=generator) for key, t in state.items()})
    name = f"{title} (untrained)"
    return Decoder(Card(name=name, space=None, kind=kind, scale=net.scale, cost=net.cost), net).to(device)


def best_of_rounds(actions: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Returns the milliseconds of each action's best run. Actions alternate, so that all run on the same machine load.

    An action runs twice in each round: before its first run, another action may have filled the caches.
    """
    best = dict.fromkeys(actions, float("inf"))
    for round_ in range(2 * ROUNDS):
        for name, action in actions.items():
            for _ in range(2):
                if round_ > 0 and best[name] > SLOW_MS:
                    break
                began = time.perf_counter()
                action()
                best[name] = min(best[name], (time.perf_counter() - began) * 1e3)
    return best


@torch.inference_mode()
def whole_run(case: Case, step_ms: float, *, busy: bool, steps: int = 20) -> float:
    """Returns the additional time of a run with screen and files, as a ratio: the median of consecutive pairs, less 1.

    Args:
        case: latents.
        step_ms: time of one step without a preview, in milliseconds.
        busy: whether the step uses the CPU's cores, as a model on a CPU does; else it waits, as for a device.
        steps: number of steps of a run.
    """
    x0, work = case.latents("cpu"), _busy_step(step_ms) if busy else lambda: time.sleep(step_ms / 1e3)

    def run(method: PreviewMethod) -> float:
        with temporary_folder() as folder:
            began = time.perf_counter()
            with method(case, folder) as callback:
                for index in range(1, steps + 1):
                    work()
                    callback(index, steps, x0)
            return time.perf_counter() - began

    run(to_screen_and_files)  # sets up what is needed once in a process
    return statistics.median(run(to_screen_and_files) / run(no_preview) for _ in range(ROUNDS)) - 1


def _busy_step(step_ms: float) -> Callable[[], object]:
    a = torch.randn(512, 512)
    torch.mm(a, a)
    began = time.perf_counter()
    for _ in range(20):
        torch.mm(a, a)
    repeat = max(1, round(step_ms / 1e3 / ((time.perf_counter() - began) / 20)))

    def step() -> None:
        for _ in range(repeat):
            torch.mm(a, a)

    return step


def peak_growth_mb(name: str, steps: int) -> float:
    """Returns the megabytes by which a new process grows in a run with screen and files, after a run of 20 steps."""
    code = f"from safelight.benchmarks.timing import grow; print(grow({name!r}, {steps}))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    return float(finished.stdout)


@torch.inference_mode()
def grow(name: str, steps: int) -> float:
    """Returns the megabytes by which the peak memory of this process rises in a run of `steps` steps."""
    case = CASES[name]
    x0 = case.latents("cpu")
    for count in (20, steps):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with temporary_folder() as folder, to_screen_and_files(case, folder) as callback:
            for index in range(1, count + 1):
                callback(index, count, x0)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
