"""Proves on a CUDA or ROCm device what previews cost a sampler: one table and a verdict, in under four minutes.

The exit code is 0 if all targets are met, 1 if one is not, 2 if there is no device.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from ...errors import describe
from ..latent_cases import CASES
from ..preview_methods import to_screen_and_files
from . import beside, facts, runs, steps
from .device import Device, real_device
from .fake_device import FakeDevice, fake_device
from .order import order_faults
from .rows import Row, as_table, equal, failed, unmet

SECONDS = 230.0  # after which no further part begins
Part = Callable[[Device], Iterator[Row]]
PARTS: Mapping[str, Part] = {  # what is most important first
    facts.DEVICE_PART: facts.device_rows,
    steps.PART: steps.rows,
    beside.CAPTURE: beside.capture_rows,
    beside.FULL: beside.full_rows,
    runs.MEMORY: runs.memory_rows,
    facts.TESTS: facts.repository_rows,
    runs.TIME: runs.time_rows,
}
ONLY_REAL = (beside.FULL, runs.MEMORY, facts.TESTS, runs.TIME)  # of a fake device they would say nothing
ORDER, ORDER_CASES, ORDER_STEPS = "order", ("SDXL 128x128", "Wan 2.1, 21 frames"), 5
NO_DEVICE = (
    "expected a CUDA or ROCm device, but PyTorch {version} finds none; install a PyTorch for the device "
    "(https://pytorch.org/get-started) and look at nvidia-smi, or use --fake, which checks order, waits and captures "
    "on a fake device in the CPU's memory"
)
FAKE = "A fake device recorded order, waits and captures. Its times and its memory say nothing about a GPU."


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints the table and the verdict, and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m safelight.benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="file for the same rows as JSON")
    parser.add_argument("--fake", action="store_true", help="use a fake device that records order, waits and captures")
    arguments = parser.parse_args(argv)
    if not arguments.fake and not torch.cuda.is_available():
        print(NO_DEVICE.format(version=torch.__version__), file=sys.stderr)
        return 2
    began = time.perf_counter()
    rows = fake_rows() if arguments.fake else measured_rows(real_device(), PARTS, time.perf_counter)
    print(as_table(rows))
    missed = unmet(rows)
    print(f"\n{FAKE}" if arguments.fake else "")
    targets = sum(row.met is not None for row in rows)
    print(f"Verdict: {'no' if missed else 'yes'}. {targets - len(missed)} of {targets} targets are met.")
    if arguments.json is not None:
        facts_of_run = {"fake": arguments.fake, "seconds": time.perf_counter() - began, "met": not missed}
        rows_as_json = [row._asdict() for row in rows]
        arguments.json.write_text(json.dumps({**facts_of_run, "rows": rows_as_json}, indent=1) + "\n", "utf-8")
    return 1 if missed else 0


def measured_rows(device: Device, parts: Mapping[str, Part], clock: Callable[[], float]) -> list[Row]:
    """The rows of all parts. A part that fails, or for which no time is left, has one row that says so.

    Args:
        device: device to measure.
        parts: functions that yield rows, by name.
        clock: function that returns seconds.
    """
    rows: list[Row] = []
    began = clock()
    for name, part in parts.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        if clock() - began > SECONDS:
            rows.append(failed(name, f"not run: {SECONDS:.0f} s are over"))
            continue
        try:
            rows.extend(part(device))
        except Exception as error:  # a driver may raise anything; the other parts still say something
            rows.append(failed(name, describe(error)))
    return rows


def fake_rows() -> list[Row]:
    """The rows of the parts that a fake device can say something about."""
    with ExitStack() as stack:
        device, fake = stack.enter_context(fake_device())
        parts = {name: part for name, part in PARTS.items() if name not in ONLY_REAL}
        rows = measured_rows(device, {ORDER: lambda device: _order_rows(device, fake), **parts}, time.perf_counter)
    return [_without_times(row) for row in rows]


def _order_rows(device: Device, fake: FakeDevice) -> Iterator[Row]:
    for name in ORDER_CASES:
        fake.operations.clear()
        steps.count_waits(CASES[name], to_screen_and_files, ORDER_STEPS, device)
        faults = order_faults(fake.operations, threading.get_ident())
        yield Row(ORDER, f"{name}: recorded operations", len(fake.operations))
        yield equal(ORDER, f"{name}: against the rules of order", "; ".join(faults) or "none", "none")


def _without_times(row: Row) -> Row:
    """A row of a fake device: its times have no target."""
    return row._replace(target="", met=None) if isinstance(row.value, float) else row


if __name__ == "__main__":
    sys.exit(main())
