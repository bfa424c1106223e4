"""Measures what previews cost, and prints tables."""

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

from . import comfyui_server, encoders_and_decoders, panning, timing
from .gpu import steps as gpu_steps
from .latent_cases import CASES
from .preview_methods import METHODS

RUN_CASES = ("SDXL 128x128", "FLUX.2 128x128", "Wan 2.1, 21 frames")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmarks with these arguments and returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m safelight.benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="device of the latents (%(default)s)"
    )
    parser.add_argument("--only", choices=tuple(TITLES), help="print one table")
    host = parser.add_argument_group("a real host", "More tables: ComfyUI's own preview next to Safelight's.")
    host.add_argument(
        "--comfyui", type=Path, metavar="DIR", help="checkout of ComfyUI; its server is started and ended"
    )
    host.add_argument("--comfyui-python", type=Path, metavar="PY", help="Python with the packages that ComfyUI needs")
    host.add_argument(
        "--rival", type=Path, action="append", default=[], metavar="DIR", help="custom nodes to compare with: KJNodes"
    )
    host.add_argument(
        "--chromium",
        metavar="FILE",
        help="browser for the table `panning`; the variable SAFELIGHT_PLAYWRIGHT names a folder with playwright-core",
    )
    arguments = parser.parse_args(argv)
    if (arguments.comfyui is None) != (arguments.comfyui_python is None):
        parser.error("--comfyui and --comfyui-python are needed together")
    if arguments.only in IN_HOST and arguments.comfyui is None:
        parser.error(f"--only {arguments.only} needs --comfyui")
    if arguments.only == "panning" and arguments.chromium is None:
        parser.error("--only panning needs --chromium")
    if arguments.only == "gpu" and not torch.cuda.is_available():
        parser.error("--only gpu needs a CUDA device, but torch finds none")
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
        tables["gpu"] = lambda: gpu_steps.table(CASES)
    if arguments.comfyui is not None and (arguments.only in IN_HOST or not arguments.only):
        host = servers.enter_context(
            comfyui_server.serving(arguments.comfyui, arguments.comfyui_python, arguments.rival)
        )
        tables |= {
            "host": lambda: comfyui_server.in_callback(host),
            "host-runs": lambda: comfyui_server.whole_runs(host),
        }
        if arguments.chromium is not None:
            tables["panning"] = lambda: panning.frames(host.url, arguments.chromium)
    names = [arguments.only] if arguments.only else list(tables)
    machine = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": arguments.device}
    machine["cores"] = os.cpu_count()
    if hasattr(os, "getloadavg"):  # of the whole machine, with this command
        machine["load"] = round(os.getloadavg()[0], 1)
    machine |= {"machine": platform.machine(), "python": platform.python_version()}
    results: dict[str, Any] = {"machine": machine}
    for name in names:
        results[name] = tables[name]()
        if not arguments.json:
            print(f"\n{TITLES[name]}\n\n{_markdown(results[name])}", flush=True)
    if arguments.json:
        print(json.dumps(results, indent=1))
    else:
        print(f"\n{', '.join(f'{key} {value}' for key, value in machine.items())}")
    return 0


TITLES = {
    "callback": f"Time on the sampler's thread, microseconds per step: {', '.join(METHODS)}",
    "decoding": "Decoding 128 x 128 latent pixels to bytes",
    "runs": "Additional time of a whole run with screen and files",
    "memory": "Memory growth of the process in a long run with screen and files",
    "running": "Ways to run a decoder of FLUX.2, 128 x 128 latent pixels to bytes; empty if unsupported here",
    "encoding": "Encoding a generated picture of 1024 px",
    "writing": "Writing PNGs of 1024 px to a run's folder",
    "gpu": "A sampler on a GPU: number of waits in all steps, median time on its thread and its stream",
    "host": "A real ComfyUI: time on the sampler's thread",
    "host-runs": "A real ComfyUI: additional time of a whole run, compared with a run without previews",
    "panning": "A real ComfyUI in a browser: moving the canvas with ten viewers and without, CPU time per frame",
}
IN_HOST = ("host", "host-runs", "panning")


def _runs() -> list[dict[str, Any]]:
    return [
        {
            "case": name,
            "step_ms": step_ms,
            "step waits for a device": f"{timing.whole_run(CASES[name], step_ms, busy=False):+.1%}",
            "step keeps the CPU": f"{timing.whole_run(CASES[name], step_ms, busy=True):+.1%}",
        }
        for name in RUN_CASES
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
