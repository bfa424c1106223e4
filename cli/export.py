"""The `export` command: writes a decoder in a form that other programs load."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..decoders.catalogue import AUTO
from ..decoders.decoder import Decoder
from ..decoders.files.decoder_file import decoder_of
from ..decoders.files.tensor_file import SAFETENSORS_SUFFIXES, write_tensors
from ..decoders.latents.space import LatentSpace
from ..errors import FitError
from ..fitting.dataset import Dataset, split_pairs
from ..fitting.distill import (
    DISTILL_RECIPE,
    DistillSet,
    distill_table,
    distill_taesd,
    imitation_pairs,
    table_of,
    taesd_net,
)
from ..fitting.ending_signals import ending_signals_as_interrupts
from ..fitting.presets import measure_net
from .decoder_choice import DECODER_HELP, choose_decoder
from .fit import PresetProgressBars
from .pair_input import add_device_option, add_pair_options, given, named_pairs, named_space, positive, require_room
from .table import print_lines

TAESD_PREFIX = "layers."  # of our own net; TAESD's files have none
SUFFIX = ".safetensors"
OTHER_HOSTS = (
    "ComfyUI's own previews load no decoder for this latent space; nodes that take any file of TAESD's shape do"
)


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `export`."""
    export = commands.add_parser("export", help="write a decoder in a form that other programs load")
    form = export.add_mutually_exclusive_group(required=True)
    form.add_argument(
        "--taesd", action="store_true", help="a net in TAESD's shape, for ComfyUI's folder models/vae_approx"
    )
    form.add_argument(
        "--latent2rgb", action="store_true", help="a table of colors as Python text, as in ComfyUI and InvokeAI"
    )
    add_pair_options(export)
    add_device_option(export)
    export.add_argument("--decoder", default=AUTO, help=f"decoder to export: {DECODER_HELP} (%(default)s)")
    export.add_argument("--steps", type=positive, help=f"number of training steps of --taesd ({DISTILL_RECIPE.steps})")
    export.add_argument("--out", type=Path, help="file, or folder (default: this folder; the text is printed)")
    export.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    space = named_space(arguments)
    catalogue, name = choose_decoder(arguments.decoder, arguments.folder)
    decoder = catalogue.candidates(space, name)[0].open()
    return (_export_taesd if arguments.taesd else _export_table)(arguments, space, decoder)


def _export_taesd(arguments: argparse.Namespace, space: LatentSpace, decoder: Decoder) -> int:
    path = _place(arguments.out or Path(), f"{_file_name(space)}{SUFFIX}")
    if path.suffix.lower() not in SAFETENSORS_SUFFIXES:
        raise FitError(f"{path}: expected a name that ends in {' or '.join(SAFETENSORS_SUFFIXES)}")
    if path.exists():
        raise FitError(f"{path}: this file exists, and is not overwritten; choose another name with --out")
    require_room(path.parent)
    net = taesd_net(space)
    dataset = _dataset(arguments, space)
    data = _imitation(decoder, dataset, space.downscale, arguments.seed)
    recipe = replace(DISTILL_RECIPE, seed=arguments.seed, **given(arguments, "steps", "device"))
    with ending_signals_as_interrupts(), PresetProgressBars() as bars:
        imitation_db = distill_taesd(net, data, recipe, lambda step: bars.show(path.stem, step))
    state = {key.removeprefix(TAESD_PREFIX): tensor for key, tensor in net.state_dict().items()}
    exported = decoder_of(path.name, state)  # as any program would read it
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"title": f"{space.title}, distilled from {decoder.name}", "licence": decoder.card.licence or ""}
    write_tensors(path, state, {**facts, "source": "Safelight: safelight export --taesd"})
    own, theirs = (measure_net(each.net, dataset.test)["psnr_full_db"] for each in (exported, decoder))
    print_lines(
        f"{path}: for {space.title} ({space.name}), {imitation_db:.1f} dB like {decoder.name}",
        f"on {dataset.judged_on}, at full size: {own:.1f} dB, {decoder.name} {theirs:.1f} dB",
        "put it into ComfyUI's models/vae_approx and choose the preview method taesd"
        if _hosts_name(space)
        else OTHER_HOSTS,
    )
    return 0


def _export_table(arguments: argparse.Namespace, space: LatentSpace, decoder: Decoder) -> int:
    table = table_of(decoder)
    if table is None:
        if not (arguments.pairs or arguments.encoder):
            raise FitError(
                f"{decoder.name} is more than a table, so a table is fitted to its pictures: give --encoder FILE "
                "[--images DIR] or --pairs FILE, or name a table with --decoder"
            )
        dataset = _dataset(arguments, space)
        table = distill_table(_imitation(decoder, dataset, decoder.scale, arguments.seed))
    text = table.python_text(
        f"{space.title} ({space.name}), {'' if table_of(decoder) else 'fitted to '}{decoder.name}: "
        "colors in -1..1 from latents in model space"
    )
    if arguments.out is None:
        print(text, end="")
        return 0
    path = _place(arguments.out, f"{space.name}_latent_rgb.py")
    require_room(path.parent)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FitError(f"{path}: this file exists, and is not overwritten; choose another name with --out") from None
    print_lines(str(path))
    return 0


def _place(out: Path, name: str) -> Path:
    return out if out.suffix else out / name


def _file_name(space: LatentSpace) -> str:
    return _hosts_name(space) or f"{space.name}_taesd_decoder"


def _hosts_name(space: LatentSpace) -> str | None:
    """The name under which ComfyUI looks for the decoder of a latent space; None if it does not."""
    names: Sequence[str] = space.files
    return next((name for name in names if name.startswith("tae") and name.endswith("_decoder")), None)


def _dataset(arguments: argparse.Namespace, space: LatentSpace) -> Dataset:
    named = named_pairs(arguments, space)
    for note in named.notes:
        print_lines(note)
    return split_pairs(named.pairs, named.description, named.image_numbers)


def _imitation(decoder: Decoder, dataset: Dataset, downscale: int, seed: int) -> DistillSet:
    return DistillSet(
        train=imitation_pairs(decoder, dataset.train.latents, downscale, seed),
        validation=imitation_pairs(decoder, dataset.validation.latents, downscale),
    )
