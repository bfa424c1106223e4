"""What is measured: time in the callback, time of a decode, time of a whole run, memory."""

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
from .latent_cases import CASES, Case
from .preview_methods import WAYS, Callback, Way, a_place, nothing, textbook, to_screen_and_files

STEPS = 40
PAUSE_S = 0.03  # of the sampler between two steps: a worker that cannot keep up would show in the queue
ROUNDS = 5
SLOW_MS = 1000  # what takes longer has two turns
TEXTBOOK = "textbook"
OTHERS: Mapping[str, tuple[tuple[str, dict[str, Any]], ...]] = {  # people's decoder files, by space
    "flux2": (("tiny", {"architecture": "taef2", "channels": 32}),),
    "sd1": (("tiny", {"architecture": "taesd", "channels": 4}), ("approx", {"channels": 4})),
    "wan21": (("tiny_video", {"channels": 16}),),
}


@torch.inference_mode()
def in_callback(case: Case, device: str) -> dict[str, float]:
    """Microseconds, median over steps, that each way keeps the sampler's thread."""
    x0 = case.latents(device)
    taken = {}
    for name, way in WAYS.items():
        with a_place() as place, way(case, place) as callback:
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
def decoding(device: str) -> list[dict[str, Any]]:
    """Milliseconds to bytes for 128 x 128 latent pixels, of each kind of decoder, beside the textbook's table.

    Of one space after the other; decoders of others have no particular weights here.
    """
    return [row for space in OTHERS for row in _decoding(space, device)]


def _decoding(space: str, device: str) -> Iterator[dict[str, Any]]:
    row = SPACES[space]
    latents = torch.randn(1, row.channels, 128, 128, generator=torch.Generator().manual_seed(0)).to(device)
    catalogue = Catalogue()
    decoders = [candidate.open().to(device) for candidate in (*catalogue.of(row), *catalogue.candidates(row)[-1:])]
    decoders += [_untrained(kind, settings, device) for kind, settings in OTHERS[space]]
    table = next(case.textbook for case in CASES.values() if case.space == space)
    with textbook(Case(space, tuple(latents.shape), table), Path()) as show:
        rivals: dict[str, Callable[[], object]] = {TEXTBOOK: lambda: show(1, 1, latents)}
        rivals |= {d.name: lambda d=d: to_bytes(d.decode(latents)).cpu() for d in decoders}
        taken = best_of_rounds(rivals)
    cards = {decoder.name: decoder.card for decoder in decoders}
    for name, ms in taken.items():
        card = cards.get(name)
        made = 3 * (128 * (card.scale if card else 1)) ** 2
        yield {
            "space": space,
            "decoder": name,
            "kind": card.kind if card else "",
            "ms": ms,
            "of the textbook's": ms / taken[TEXTBOOK],
            "MB a second": made / ms / 1e3,
            "multiplications": card.cost if card else None,
        }


def _untrained(kind: str, settings: Mapping[str, Any], device: str) -> Decoder:
    with torch.device("meta"):
        state = KINDS[kind](**settings).state_dict()
    generator = torch.Generator().manual_seed(0)
    net = build(kind, settings, {key: 0.02 * torch.randn(t.shape, generator=generator) for key, t in state.items()})
    name = f"{settings.get('architecture', kind)} (untrained)"
    return Decoder(Card(name=name, space=None, kind=kind, scale=net.scale, cost=net.cost), net).to(device)


def best_of_rounds(rivals: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each one's best round; in every round each has its turn, so that all meet the same machine.

    In a turn it acts twice: the first time it may find in the caches what a larger one left there.
    """
    best = dict.fromkeys(rivals, float("inf"))
    for turn in range(2 * ROUNDS):
        for name, act in rivals.items():
            for _ in range(2):
                if turn > 0 and best[name] > SLOW_MS:
                    break
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

    def run(way: Way) -> float:
        with a_place() as place:
            began = time.perf_counter()
            with way(case, place) as callback:
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
    code = f"from safelight.benchmarks.timing import grow; print(grow({name!r}, {steps}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    return float(done.stdout)


@torch.inference_mode()
def grow(name: str, steps: int) -> float:
    """Megabytes that the peak of this process rises by during a run of so many steps."""
    case = CASES[name]
    x0 = case.latents("cpu")
    for count in (20, steps):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with a_place() as place, to_screen_and_files(case, place) as callback:
            for index in range(1, count + 1):
                callback(index, count, x0)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
