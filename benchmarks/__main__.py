"""The command line of the benchmarks."""

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from . import comfyui_server, encoders_and_decoders, gpu, timing
from .latent_cases import CASES
from .preview_methods import WAYS

RUNS = ("SDXL 128x128", "FLUX.2 128x128", "Wan 2.1, 21 frames")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints tables."""
    parser = argparse.ArgumentParser(prog="python -m safelight.benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="%(default)s")
    parser.add_argument("--only", choices=tuple(TITLES), help="one table")
    host = parser.add_argument_group("a real host", "Two more tables: ComfyUI's own preview beside Safelight's.")
    host.add_argument(
        "--comfyui", type=Path, metavar="DIR", help="a checkout; its server is started, watched and ended"
    )
    host.add_argument("--comfyui-python", type=Path, metavar="PY", help="the Python that has what it requires")
    host.add_argument(
        "--rival", type=Path, action="append", default=[], metavar="DIR", help="KJNodes: its override too"
    )
    arguments = parser.parse_args(argv)
    if (arguments.comfyui is None) != (arguments.comfyui_python is None):
        parser.error("--comfyui needs --comfyui-python, and the other way round")
    if arguments.only in IN_HOST and arguments.comfyui is None:
        parser.error(f"--only {arguments.only} needs --comfyui")
    if arguments.only == "gpu" and not torch.cuda.is_available():
        parser.error("--only gpu needs a CUDA device, and torch finds none")
    with ExitStack() as servers:
        return _measure(arguments, servers)


def _measure(arguments: argparse.Namespace, servers: ExitStack) -> int:
    tables = {
        "callback": lambda: [
            {"case": name} | timing.in_callback(case, arguments.device) for name, case in CASES.items()
        ],
        "decoding": lambda: timing.decoding(arguments.device),
        "runs": _runs,
        "memory": lambda: [
            {"case": name, "steps": steps, "grows_mb": timing.peak_growth_mb(name, steps)}
            for name, steps in (("SDXL 128x128", 1000), ("Wan 2.1, 81 frames", 100))
        ],
        "running": lambda: encoders_and_decoders.running(arguments.device),
        "encoding": encoders_and_decoders.encoding,
        "writing": encoders_and_decoders.writing,
    }
    if torch.cuda.is_available():
        tables["gpu"] = lambda: gpu.table(CASES)
    if arguments.comfyui is not None and (arguments.only in IN_HOST or not arguments.only):
        host = servers.enter_context(
            comfyui_server.serving(arguments.comfyui, arguments.comfyui_python, arguments.rival)
        )
        tables |= {
            "host": lambda: comfyui_server.in_callback(host),
            "host-runs": lambda: comfyui_server.whole_runs(host),
        }
    wanted = [arguments.only] if arguments.only else list(tables)
    machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": arguments.device}
    machine["cores"] = os.cpu_count()
    if hasattr(os, "getloadavg"):  # what else the machine does; this command is one of it
        machine["load"] = round(os.getloadavg()[0], 1)
    machine |= {"machine": platform.machine(), "python": platform.python_version()}
    found: dict[str, Any] = {"machine": machine}
    for name in wanted:
        found[name] = tables[name]()
        if not arguments.json:
            print(f"\n{TITLES[name]}\n\n{_markdown(found[name])}", flush=True)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        print(f"\n{', '.join(f'{key} {value}' for key, value in machine.items())}")
    return 0


TITLES = {
    "callback": f"Time on the sampler's thread, microseconds a step: {', '.join(WAYS)}",
    "decoding": "Decoding 128 x 128 latent pixels to bytes",
    "runs": "How much longer a whole run takes with screen and files",
    "memory": "How much the process grows over a long run with screen and files",
    "running": "Ways to run a decoder of FLUX.2, 128 x 128 latent pixels to bytes; empty: does not run so here",
    "encoding": "Encoding a drawn picture of 1024 px",
    "writing": "PNGs of 1024 px into a run's folder",
    "gpu": "A sampler on a GPU: how often a step makes it wait in all, its thread and its stream, median of steps",
    "host": "A real ComfyUI: time on the sampler's thread",
    "host-runs": "A real ComfyUI: how much longer a whole run takes than one that shows nothing",
}
IN_HOST = ("host", "host-runs")


def _runs() -> list[dict[str, Any]]:
    return [
        {
            "case": name,
            "step_ms": step_ms,
            "step waits for a device": f"{timing.whole_run(CASES[name], step_ms, busy=False):+.1%}",
            "step keeps the CPU": f"{timing.whole_run(CASES[name], step_ms, busy=True):+.1%}",
        }
        for name in RUNS
        for step_ms in (20, 50, 200)
    ]


def _markdown(rows: Sequence[dict[str, Any]]) -> str:
    columns = list(rows[0])
    cells = [columns, *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else str(value)


if __name__ == "__main__":
    sys.exit(main())
