"""The command line."""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from ..decoders.catalogue import AUTO, Catalogue, Choice
from ..decoders.decoder import Decoder, to_bytes
from ..decoders.files.shipped import default_for
from ..decoders.latents.space import HOSTS, LatentSpace
from ..decoders.latents.space_table import SPACES
from ..errors import LatentsError, SafelightError
from ..hosts.script import recording
from ..preview.images.encode import ImageEncoding
from ..preview.output_folder import numbered_folder
from ..preview.step import Step
from ..screens.terminal import terminal
from .demo_sampler import SAMPLERS, SPACE, sample, schedule
from .fit import add_commands, positive
from .gradio import add_command as add_gradio
from .learned import add_commands as add_learned
from .options import add_options, options_of
from .view import add_command as add_view

DEMO_OPTIONS = (
    *("decoder", "show", "every_n_steps", "min_interval_s", "file_format", "enlarge", "sheet", "write_csv"),
    *("animation", "animation_fps", "animation_hold_s", "animation_from_step", "animation_to_step"),
)
DEMO_DEFAULTS = {"enlarge": "lanczos", "sheet": True, "animation": "webp"}
FAILED = 2  # the exit code of argparse, too


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `safelight` with these arguments; the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except SafelightError as error:
        print(f"safelight: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="safelight", description="Truthful previews of diffusion runs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="sample without a model, and record every step")
    demo.add_argument("--out", type=Path, default=Path("runs"), help="folder for the run's own folder (%(default)s)")
    demo.add_argument("--steps", type=positive, default=20, help="of the sampler (%(default)s)")
    demo.add_argument("--sampler", choices=SAMPLERS, default="euler", help="%(default)s, or of second order")
    add_options(demo, DEMO_OPTIONS, DEMO_DEFAULTS)
    demo.add_argument("--seed", type=int, default=7, help="of the noise (%(default)s)")
    demo.add_argument("--live", action="store_true", help="draw the steps in this terminal while they are made")
    demo.set_defaults(run=_demo)

    spaces = commands.add_parser("spaces", help="list the latent spaces")
    spaces.add_argument("--json", action="store_true", help="for programs")
    _add_folder(spaces)
    spaces.set_defaults(run=_spaces)

    decoders = commands.add_parser("decoders", help="list the decoders")
    decoders.add_argument(
        "--json", action="store_true", help="for programs: also what each scored, and why it is taken"
    )
    _add_folder(decoders)
    decoders.set_defaults(run=_decoders)

    decode = commands.add_parser("decode", help="decode saved latents to PNGs")
    decode.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="safetensors with `latents` in model space, or ComfyUI's .latent",
    )
    decode.add_argument("--space", required=True, help="a name that `safelight spaces` lists")
    decode.add_argument("--decoder", default=AUTO, help="a name that `safelight decoders` lists, a kind, or a file")
    decode.add_argument("--out", type=Path, default=Path(), help="folder for the PNGs (this one)")
    _add_folder(decode)
    decode.set_defaults(run=_decode)

    add_view(commands)
    add_gradio(commands)
    add_commands(commands)
    add_learned(commands)
    return parser


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder of decoder files, there is none at {text!r}")
    return Path(text)


def _add_folder(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--folder", type=_folder, action="append", default=[], help="of decoder files of your own; may be said again"
    )


def _catalogue(decoder: str, folders: Sequence[Path] = ()) -> tuple[Catalogue, str]:
    """The decoders at hand, and what to ask them for: a decoder named by its file is at hand with its folder."""
    path = Path(decoder)
    return (Catalogue([path.parent, *folders]), path.name) if path.is_file() else (Catalogue(folders), decoder)


def _demo(arguments: argparse.Namespace) -> int:
    folder = numbered_folder(arguments.out, "demo")
    catalogue, decoder = _catalogue(arguments.decoder)
    sampler = {
        "steps": arguments.steps,
        "sigmas": [round(sigma, 6) for sigma in schedule(arguments.steps)],
        "seed": arguments.seed,
        "name": arguments.sampler,
        "scheduler": "shifted flow",
    }
    with recording(
        folder,
        SPACES[SPACE],
        decoder=decoder,
        catalogue=catalogue,
        show=arguments.show,
        every_n_steps=arguments.every_n_steps,
        options=options_of(arguments, write_intermediates=True, max_side_px=0, batch="first"),
        sampler=sampler,
        sinks=[terminal()] if arguments.live else [],
    ) as (pipeline, record):
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
    manifest = record.manifest()
    made_by = (manifest["decoder"] or {}).get("name", "-")
    _table(
        ("step", "sigma", "decoder", "decode ms", "file"),
        (
            (s["index"], f"{s['sigma']:.4f}", made_by, f"{s['decode_ms']:.2f}", ", ".join(s["files"]))
            for s in manifest["steps"]
        ),
    )
    for note in manifest["notes"]:
        print(f"note: {note}", file=sys.stderr)
    print(
        f"\n{folder}: {', '.join(sorted(path.name for path in folder.iterdir() if not path.name.startswith('step_')))}"
    )
    return 0


def _spaces(arguments: argparse.Namespace) -> int:
    catalogue = Catalogue(arguments.folder)
    rows = [_space_row(space, catalogue) for space in catalogue.spaces()]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        columns = ("name", "title", "channels", "dims", "downscale", "decoder")
        _table(columns, ([row[column] for column in columns] for row in rows))
    return 0


def _space_row(space: LatentSpace, catalogue: Catalogue) -> dict[str, Any]:
    facts = ("name", "title", "channels", "dims", "downscale", "frame_stride", "layout", "scale", "shift", "source")
    hosts = {host: list(space.hosts.get(host, ())) for host in HOSTS}
    return {fact: getattr(space, fact) for fact in facts} | hosts | {"decoder": catalogue.candidates(space)[0].name}


def _decoders(arguments: argparse.Namespace) -> int:
    rows = [_decoder_row(choice) for choice in Catalogue(arguments.folder).choices()]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        columns = ("name", "space", "kind", "scale", "parameters", "cost", "auto", "source")
        _table(columns, ([{**row, "auto": _where(row)}[column] for column in columns] for row in rows))
    return 0


def _decoder_row(choice: Choice) -> dict[str, Any]:
    card = choice.card
    facts = ("name", "space", "kind", "scale", "parameters", "cost", "source", "fitted_on", "licence", "notes")
    name, _ = (card.space and default_for(card.space)) or (None, None)
    # Somebody's file may hold what JSON has no word for.
    metrics = json.loads(json.dumps(dict(card.metrics)), parse_constant=lambda _: None)
    chosen = {"default": "yes" if name == card.name else "", "auto": choice.auto}
    chosen |= {"auto_accelerated": choice.auto_accelerated, "why": choice.why}
    return {fact: getattr(card, fact) for fact in facts} | {"metrics": metrics} | chosen


def _where(row: Mapping[str, Any]) -> str:
    return " ".join(place for key, place in (("auto", "cpu"), ("auto_accelerated", "gpu")) if row[key])


def _decode(arguments: argparse.Namespace) -> int:
    catalogue, wanted = _catalogue(arguments.decoder, arguments.folder)
    space = catalogue.spaces()[arguments.space]
    stems = [path.stem for path in arguments.files]
    if again := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise LatentsError(
            f"several files are called {', '.join(again)}: their pictures would be, too; decode one by one"
        )
    candidate = catalogue.candidates(space, wanted)[0]
    for path in arguments.files:
        latents = _read_latents(path, space)
        arguments.out.mkdir(parents=True, exist_ok=True)
        _write_pictures(latents, candidate.open(), arguments.out, path.stem)
    return 0


def _write_pictures(latents: Tensor, decoder: Decoder, out: Path, stem: str) -> None:
    """A PNG for each item and frame of `latents` `[B, C, T, H, W]`."""
    frames = latents.shape[2]
    for item, clip in enumerate(tqdm(latents, unit="item", file=sys.stderr, disable=len(latents) == 1), 1):
        for frame in range(frames):
            pixels = to_bytes(decoder.decode(clip[None, :, frame]))[0].numpy()
            name = f"{stem}_{item:02d}" + (f"_frame_{frame + 1:03d}" if frames > 1 else "") + ".png"
            (out / name).write_bytes(ImageEncoding().encode(pixels, pixels.shape[1::-1]))
            print(f"{out / name}  {pixels.shape[1]}x{pixels.shape[0]}  {decoder.name}")


def _read_latents(path: Path, space: LatentSpace) -> Tensor:
    """Model space latents `[B, C, T, H, W]` from a safetensors file of ours or ComfyUI's.

    Raises:
        LatentsError: the file is not one of these, or its tensor does not fit `space`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in ("latents", "latent_tensor") if key in file.keys()}  # noqa: SIM118
            old = "latent_format_version_0" not in file.keys()  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise LatentsError(f"{path}: expected a safetensors file with a tensor `latents`: {error}") from None
    if "latents" in tensors:
        return space.unpack(tensors["latents"].float())
    if "latent_tensor" in tensors:
        # ComfyUI saves what the VAE takes; files from before it said so hold Stable Diffusion 1's model space.
        # Source: ComfyUI 0.33, nodes.py, SaveLatent.
        plain = space.unpack(tensors["latent_tensor"].float())
        return plain if old else space.to_model(plain)
    raise LatentsError(
        f"{path}: expected a tensor `latents` [B, C, H, W] or [B, C, T, H, W], found neither it nor a .latent"
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints rows under their columns, numbers to the right."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    numeric = [all(row[i].replace(".", "").isdigit() for row in cells[1:]) for i in range(len(columns))]
    for row in cells:
        line = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True))
        print("  ".join(line).rstrip())


def _cell(value: Any) -> str:
    """A text that moves no cursor: a name may come from somebody's file."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else repr(text)
