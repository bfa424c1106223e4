"""What is measured: time in the callback, time of a decode, time of a whole run, memory."""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..decoders.catalogue import Catalogue
from ..decoders.decoder import Card, Decoder, to_bytes
from ..decoders.files import build
from ..decoders.kinds import KINDS
from ..decoders.space_table import SPACES
from .cases import CASES, Case
from .ways import WAYS, Callback, nothing, textbook, to_screen_and_files

STEPS = 40
PAUSE_S = 0.03  # of the sampler between two steps: a worker that cannot keep up would show in the queue
ROUNDS = 5
SLOW_MS = 1000  # what takes longer has two turns


@torch.inference_mode()
def in_callback(case: Case, device: str) -> dict[str, float]:
    """Microseconds, median over steps, that each way keeps the sampler's thread."""
    x0 = case.latents(device)
    taken = {}
    for name, way in WAYS.items():
        with way(case) as callback:
            for index in range(1, 4):  # whatever is set up once
                callback(index, STEPS + 3, x0)
            taken[name] = statistics.median(_timed(callback, index, x0) for index in range(4, STEPS + 4)) * 1e6
    return taken


def _timed(callback: Callback, index: int, x0: Tensor) -> float:
    time.sleep(PAUSE_S)
    began = time.perf_counter()
    callback(index, STEPS + 3, x0)
    return time.perf_counter() - began


@torch.inference_mode()
def decoding(space: str, device: str) -> list[dict[str, Any]]:
    """Milliseconds to bytes for 128 x 128 latent pixels, each decoder of a space beside the textbook's table.

    Last a decoder of TAESD's kind, with no particular weights.
    """
    row = SPACES[space]
    latents = torch.randn(1, row.channels, 128, 128, generator=torch.Generator().manual_seed(0)).to(device)
    decoders = [candidate.open().to(device) for candidate in Catalogue().of(row)]
    if row.channels == 32:
        decoders.append(_untrained_tiny("taef2", 32, device))
    with textbook(
        Case(space, tuple(latents.shape), next(d.name for d in decoders if d.name.endswith("comfyui")))
    ) as show:
        rivals: dict[str, Callable[[], object]] = {"textbook": lambda: show(1, 1, latents)}
        rivals |= {d.name: lambda d=d: to_bytes(d.decode(latents)).cpu() for d in decoders}
        taken = _best_of_rounds(rivals)
    facts = {decoder.name: decoder.card for decoder in decoders}
    return [
        {
            "decoder": name,
            "ms": ms,
            "of_textbook": ms / taken["textbook"],
            "multiplications": facts[name].cost if name in facts else None,
        }
        for name, ms in taken.items()
    ]


def _untrained_tiny(architecture: str, channels: int, device: str) -> Decoder:
    settings = {"architecture": architecture, "channels": channels}
    with torch.random.fork_rng(devices=[]):
        state = KINDS["tiny"](**settings).state_dict()
    net = build("tiny", settings, state)
    return Decoder(Card(name=f"{architecture} (untrained)", space=None, kind="tiny", cost=net.cost), net).to(device)


def _best_of_rounds(rivals: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each one's best round; in every round each has its turn, so that all meet the same machine."""
    best = dict.fromkeys(rivals, float("inf"))
    for turn in range(2 * ROUNDS):
        for name, act in rivals.items():
            if turn > 1 and best[name] > SLOW_MS:
                continue
            began = time.perf_counter()
            act()
            best[name] = min(best[name], (time.perf_counter() - began) * 1e3)
    return best


@torch.inference_mode()
def whole_run(case: Case, step_ms: float, *, busy: bool, steps: int = 20) -> float:
    """How much longer a run takes with screen and files than with nothing: the median of ratios of neighbours.

    Args:
        case: what is sampled.
        step_ms: of one step without a preview.
        busy: whether the step keeps the CPU's cores, as a model on a CPU does; else it waits, as for a device.
        steps: of a run.
    """
    x0, work = case.latents("cpu"), _busy_step(step_ms) if busy else lambda: time.sleep(step_ms / 1e3)

    def run(way: Callable[[Case], Any]) -> float:
        began = time.perf_counter()
        with way(case) as callback:
            for index in range(1, steps + 1):
                work()
                callback(index, steps, x0)
        return time.perf_counter() - began

    run(to_screen_and_files)  # whatever is set up once in a process
    return statistics.median(run(to_screen_and_files) / run(nothing) for _ in range(ROUNDS)) - 1


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
    """How much a process of its own grows over a run with screen and files, after the first 20 steps of another."""
    code = f"from safelight.benchmarks.measure import grow; print(grow({name!r}, {steps}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    return float(done.stdout)


@torch.inference_mode()
def grow(name: str, steps: int) -> float:
    """Megabytes that the peak of this process rises by during a run of so many steps."""
    case = CASES[name]
    x0 = case.latents("cpu")
    for count in (20, steps):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with to_screen_and_files(case) as callback:
            for index in range(1, count + 1):
                callback(index, count, x0)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
