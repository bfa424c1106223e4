"""The `demo` command: samples without a model, and records every step."""

import argparse
import secrets
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..decoders.latents.space_table import SPACES
from ..hosts.script import recording
from ..preview.output_folder import numbered_folder
from ..preview.remote.address import checked_address, place_of
from ..preview.sinks.run_folder import RunFolder
from ..preview.step import Step
from ..screens.terminal import terminal
from .decoder_choice import choose_decoder
from .demo_sampler import SAMPLERS, SPACE, sample, schedule
from .fit import positive
from .options import add_options, options_of
from .table import print_lines, print_table, warn

DEMO_OPTIONS = (
    *("decoder", "show", "every_n_steps", "min_interval_s", "file_format", "enlarge", "sheet", "write_csv"),
    *("animation", "animation_fps", "animation_hold_s", "animation_from_step", "animation_to_step"),
)
DEMO_DEFAULTS = {"enlarge": "lanczos", "sheet": True, "animation": "webp"}


def add_command(commands: Any) -> None:
    """Adds `demo` to the command line."""
    demo = commands.add_parser("demo", help="sample without a model, and record every step")
    demo.add_argument(
        "--out",
        type=place_of,
        default=Path("runs"),
        metavar="DIR",
        help="folder of runs, or an address such as s3://bucket/runs (%(default)s)",
    )
    demo.add_argument("--steps", type=positive, default=20, help="number of steps (%(default)s)")
    demo.add_argument("--sampler", choices=SAMPLERS, default="euler", help="sampler (%(default)s)")
    add_options(demo, DEMO_OPTIONS, DEMO_DEFAULTS)
    demo.add_argument("--seed", type=int, default=7, help="random seed of the noise (%(default)s)")
    demo.add_argument("--live", action="store_true", help="draw the steps in this terminal while sampling")
    demo.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    place = _new_place(arguments.out)
    catalogue, decoder = choose_decoder(arguments.decoder)
    sampler = {
        "steps": arguments.steps,
        "sigmas": [round(sigma, 6) for sigma in schedule(arguments.steps)],
        "seed": arguments.seed,
        "name": arguments.sampler,
        "scheduler": "shifted flow",
    }
    with recording(
        place,
        SPACES[SPACE],
        decoder=decoder,
        catalogue=catalogue,
        show=arguments.show,
        every_n_steps=arguments.every_n_steps,
        options=options_of(arguments, write_intermediates=True, max_side_px=0, batch="first"),
        sampler=sampler,
        sinks=[terminal()] if arguments.live else [],
    ) as recorded:
        pipeline, run_folder = recorded
        steps = sample(arguments.steps, arguments.seed, arguments.sampler)
        for step in tqdm(steps, total=arguments.steps, unit="step", file=sys.stderr, disable=arguments.live):
            pipeline.offer(
                Step(
                    index=step.index,
                    total=arguments.steps,
                    sigma=step.sigma,
                    denoised=step.denoised,
                    noisy=step.noisy,
                )
            )
    _print_run(run_folder.path if recorded.missing else place, run_folder)
    return 0


def _new_place(out: Path | str) -> Path | str:
    """The place of a new run: a numbered folder, or an address with a random number, which needs no listing."""
    if isinstance(out, Path):
        return numbered_folder(out, "demo")
    return f"{checked_address(out, '--out')}/demo_{secrets.token_hex(4)}"


def _print_run(place: Path | str, run_folder: RunFolder) -> None:
    manifest = run_folder.manifest()
    decoder = (manifest["decoder"] or {}).get("name", "-")
    print_table(
        ("step", "sigma", "decoder", "decode ms", "file"),
        (
            (s["index"], f"{s['sigma']:.4f}", decoder, f"{s['decode_ms']:.2f}", ", ".join(s["files"]))
            for s in manifest["steps"]
        ),
    )
    for note in manifest["notes"]:
        warn(f"note: {note}")
    files = sorted(path.name for path in run_folder.path.iterdir() if not path.name.startswith("step_"))
    print_lines("", f"{place}: {', '.join(files)}")
