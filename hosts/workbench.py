"""The command line's `pairs`, `fit` and `compare`."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from ..decoders.catalogue import Catalogue
from ..decoders.decoder import Card, Decoder
from ..decoders.errors import FitError
from ..decoders.files import read_decoder, write_decoder
from ..decoders.space_table import SPACES
from ..decoders.spaces import LatentSpace
from ..decoders.tensors import SAFE
from ..fitting.encoders import read_encoder
from ..fitting.halfway import halfway_pairs, judge_halfway, vary
from ..fitting.ladder import LADDER, fit
from ..fitting.pairs import Encode, Pairs, encode_pairs
from ..fitting.pictures import crops, find
from ..fitting.report import chart, judge, sheet, table
from ..fitting.train import Progress

LICENCE = "MIT"
SHOWN = 6  # pictures on the sheet of a comparison


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `pairs`, `fit` and `compare`."""
    fitting = commands.add_parser("fit", help="make a decoder from pictures and the encoder of a VAE")
    _add_pairs(fitting)
    fitting.add_argument("--kind", choices=LADDER, default="conv", help="%(default)s if not said")
    fitting.add_argument("--choose", type=Path, help="pairs to choose by (every eighth of those to fit on)")
    fitting.add_argument("--judge", type=Path, help="pairs that nothing is fitted on or chosen by, for the scores")
    fitting.add_argument("--steps", type=int, help="of a training, instead of the kind's own number")
    fitting.add_argument("--lr", type=float, help="of a training, instead of the kind's own")
    fitting.add_argument("--out", type=Path, help="the decoder file (<space>-<kind>.safetensors)")
    fitting.set_defaults(run=_fit)

    pairs = commands.add_parser("pairs", help="encode pictures once, to fit on them again and again")
    _add_pairs(pairs)
    pairs.add_argument("--out", type=Path, required=True, help="the file of pairs")
    pairs.set_defaults(run=_pairs)

    compare = commands.add_parser("compare", help="judge all decoders of a space on the same pictures")
    _add_pairs(compare)
    compare.add_argument("--decoder", type=Path, action="append", default=[], help="decoder file to judge as well")
    compare.add_argument("--out", type=Path, help="folder for a sheet of pictures and a chart")
    compare.set_defaults(run=_compare)


def _add_pairs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--space", required=True, help="a name that `safelight spaces` lists")
    parser.add_argument("--pairs", type=Path, help="safetensors with `latents` in model space and `pixels`, or:")
    parser.add_argument(
        "--encoder", type=Path, help="TAESD-like encoder file, or a folder with diffusers' AutoencoderKL"
    )
    parser.add_argument("--images", type=Path, nargs="+", default=[], help="folders of pictures")
    parser.add_argument("--size", type=int, default=256, help="of the crops, in pixels (%(default)s)")
    parser.add_argument("--crops", type=int, default=2, help="of each picture (%(default)s)")
    parser.add_argument("--teacher", type=Path, help="decoder to imitate on half-way latents (none without it)")
    parser.add_argument("--halfway", type=int, default=256, help="of them, with --teacher (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of crops and training (%(default)s)")


def _get_pairs(arguments: argparse.Namespace, space: LatentSpace) -> tuple[Pairs, str]:
    """The pairs asked for, with what they are."""
    if arguments.pairs:
        pairs = _load(arguments.pairs, space)
        described = f"{len(pairs)} pairs of {arguments.pairs.name}"
    elif arguments.encoder and arguments.images:
        paths = tqdm(find(arguments.images), unit="picture", file=sys.stderr)
        stream = crops(paths, arguments.size, arguments.crops, arguments.seed)
        pairs = encode_pairs(_encoder(arguments.encoder, space), stream, space.channels)
        folders = ", ".join(path.name for path in arguments.images)
        described = f"{len(pairs)} crops of {arguments.size} px from {folders}"
    else:
        raise FitError("say what to fit on: --encoder FILE --images DIR, or --pairs FILE")
    return pairs, described


def _with_halfway(pairs: Pairs, described: str, arguments: argparse.Namespace) -> tuple[Pairs, str]:
    if not arguments.teacher or arguments.halfway < 1:
        return pairs, described
    some = pairs.latents[:: max(1, len(pairs) // arguments.halfway)][: arguments.halfway]
    teacher = read_decoder(arguments.teacher)
    changed = halfway_pairs(some, teacher.decode, lambda latents, _: vary(latents, arguments.seed))
    return pairs + changed, f"{described}, and {len(some)} half-way latents decoded by {arguments.teacher.name}"


def _load(path: Path, space: LatentSpace) -> Pairs:
    pairs = Pairs.load(path)
    if pairs.channels != space.channels:
        raise FitError(f"{path}: expected latents of {space.channels} channels, found {pairs.channels}")
    return pairs


def _encoder(path: Path, space: LatentSpace) -> Encode:
    if not path.is_dir():
        return read_encoder(path)
    try:
        from diffusers import AutoencoderKL
    except ImportError:
        raise FitError("a folder as --encoder needs diffusers: pip install diffusers") from None
    vae = AutoencoderKL.from_pretrained(path, local_files_only=True).eval()

    def encode(rgb: Tensor) -> Tensor:
        return space.to_model(vae.encode(rgb * 2 - 1).latent_dist.mode())

    return encode


def _pairs(arguments: argparse.Namespace) -> int:
    pairs, described = _with_halfway(*_get_pairs(arguments, SPACES[arguments.space]), arguments)
    pairs.save(arguments.out)
    print(f"{arguments.out}: {described}")
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    space, rung = SPACES[arguments.space], LADDER[arguments.kind]
    out = arguments.out or Path(f"{space.name}-{arguments.kind}.safetensors")
    if out.suffix not in SAFE:
        raise FitError(f"{out}: expected a name that ends in {' or '.join(SAFE)}")
    pairs, described = _get_pairs(arguments, space)
    fitted, held = (
        (pairs, _load(arguments.choose, space)) if arguments.choose else pairs.split(together=arguments.crops)
    )
    # Only now: half-way latents are made of several pictures, and none of those held back may be among them.
    fitted, described = _with_halfway(fitted, described, arguments)
    recipe = rung.recipe and replace(rung.recipe, seed=arguments.seed, **_given(arguments, "steps", "lr"))
    with tqdm(total=recipe.steps if recipe else 0, unit="step", file=sys.stderr, disable=recipe is None) as bar:
        net = fit(rung, fitted, held, recipe, _showing(bar))
    judged = _load(arguments.judge, space) if arguments.judge else held
    on = (
        f"{len(judged)} pairs of {arguments.judge.name}"
        if arguments.judge
        else f"the {len(held)} pairs it was chosen by"
    )
    card = Card(
        name=out.stem,
        space=space.name,
        kind=rung.kind,
        settings=rung.settings(pairs.channels, pairs.downscale),
        source=f"Safelight: {_command()}",
        fitted_on=described,
        licence=LICENCE,
    )
    in_use, new = judge([Catalogue().candidates(space)[0].open(), Decoder(card, net)], judged)
    write_decoder(out, replace(card, metrics={**new.scores, "judged_on": on}), net.state_dict())
    print(f"on {on}, what `auto` takes now and the new one:\n")
    print(table([in_use, new]))
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    space = SPACES[arguments.space]
    pairs, described = _get_pairs(arguments, space)
    decoders = [*(candidate.open() for candidate in Catalogue().of(space)), *map(read_decoder, arguments.decoder)]
    judged = judge(decoders, pairs)
    print(f"on {described}:\n")
    print(table(judged))
    if arguments.teacher:
        _print_halfway(decoders, pairs, read_decoder(arguments.teacher))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        some = slice(0, SHOWN)
        pictures = {decoder.name: decoder.decode(pairs.latents[some].float()) for decoder in decoders}
        sheet(pairs.rgb(pairs.downscale, some), pictures).save(arguments.out / "sheet.png")
        chart(judged).save(arguments.out / "chart.png")
        print(f"\n{arguments.out}: sheet.png, chart.png")
    return 0


def _print_halfway(decoders: Sequence[Decoder], pairs: Pairs, teacher: Decoder) -> None:
    nets = [decoder.net for decoder in decoders]
    print(f"\nagainst {teacher.name} on the same half-way latents: PSNR at latent size, dB; between steps of a run,")
    print("flicker; on plain latents the colour cast, both of 255 levels; on soft ones detail, 1 is the teacher's")
    for title, numbers in judge_halfway(nets, pairs.latents, teacher.decode):
        print(f"{title:14}", *(f"{number:6.2f}" for number in numbers))


def _showing(bar: "tqdm[object]") -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        bar.update(progress.step - bar.n)
        bar.set_postfix(loss=f"{progress.loss:.3f}", dB=f"{progress.held_db:.2f}", refresh=False)

    return show


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, float]:
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _command() -> str:
    """The command that was typed, with the names of files and folders but not where they are."""
    words = (Path(word).name if "/" in word or "\\" in word else word for word in sys.argv[1:])
    return shlex.join(["safelight", *words])
