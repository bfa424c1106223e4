"""The command line's `pairs`, `fit` and `compare`."""

import argparse
import math
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..decoders.catalogue import AUTO, Catalogue
from ..decoders.decoder import Decoder
from ..decoders.files.decoder_file import read_decoder
from ..decoders.files.tensor_file import SAFE
from ..decoders.latents.space import LatentSpace
from ..errors import FitError
from ..fitting.dataset import Dataset, split
from ..fitting.encoders import read_encoder
from ..fitting.fit import fit_decoders
from ..fitting.image_crops import crops, find
from ..fitting.noisy_latents import noisy_pairs, score_noisy_latents, vary
from ..fitting.pairs import Encode, Pairs, encode_pairs
from ..fitting.presets import PRESETS
from ..fitting.procedural_images import pictures
from ..fitting.report import chart, score, sheet, table
from ..fitting.result import BestAvailable
from ..fitting.statistics import FitStatistics
from ..fitting.train import Progress
from ..hosts.vae_encode import encode, open_autoencoder

SHOWN = 6  # pictures on the sheet of a comparison
PROCEDURAL = 96  # pictures, where none are given
ROOM_BYTES = 1 << 20  # that a decoder, or a report, may need


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `pairs`, `fit` and `compare`."""
    fitting = commands.add_parser("fit", help="make a decoder from pictures and the encoder of a VAE")
    _add_pairs(fitting)
    fitting.add_argument(
        "--kind",
        choices=(AUTO, *PRESETS),
        default="conv",
        help="%(default)s if not said; auto: the best closed form, one in sub-pixels, and small convolutions",
    )
    fitting.add_argument("--choose", type=Path, help="pairs to choose by (a sixth of the pictures to fit on)")
    fitting.add_argument("--judge", type=Path, help="pairs to judge by (a sixth of the pictures to fit on)")
    fitting.add_argument("--steps", type=positive, help="of a training, instead of the kind's own number")
    fitting.add_argument("--lr", type=float, help="of a training, instead of the kind's own")
    fitting.add_argument(
        "--out", type=Path, help="the decoder file (<space>-<kind>.safetensors), or a folder; nothing is overwritten"
    )
    fitting.add_argument(
        "--statistics",
        type=Path,
        action="append",
        default=[],
        help="of a closed form: a file of sums to go on with and to keep them in; said again: others to add to it",
    )
    fitting.add_argument("--report", type=Path, help="folder for table.md, sheet.png and chart.png")
    fitting.set_defaults(run=_fit)

    pairs = commands.add_parser("pairs", help="encode pictures once, to fit on them again and again")
    _add_pairs(pairs)
    pairs.add_argument("--out", type=Path, required=True, help="the file of pairs")
    pairs.set_defaults(run=_pairs)

    compare = commands.add_parser("compare", help="judge all decoders of a space on the same pictures")
    _add_pairs(compare)
    compare.add_argument("--decoder", type=Path, action="append", default=[], help="decoder file to judge as well")
    compare.add_argument("--out", type=Path, help="folder for table.md, sheet.png and chart.png")
    compare.set_defaults(run=_compare)


def _add_pairs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--space", required=True, help="a name that `safelight spaces` lists")
    parser.add_argument(
        "--folder", type=Path, action="append", default=[], help="of your decoders: they are judged as well"
    )
    parser.add_argument(
        "--pairs", type=Path, nargs="+", default=[], help="safetensors with `latents` in model space and `pixels`, or:"
    )
    parser.add_argument(
        "--encoder", type=Path, help="TAESD-like encoder file, or a folder with diffusers' AutoencoderKL or -Tiny"
    )
    parser.add_argument("--images", type=Path, nargs="+", default=[], help="folders of pictures (procedural ones)")
    parser.add_argument(
        "--procedural", type=positive, default=PROCEDURAL, metavar="N", help="pictures, without --images (%(default)s)"
    )
    parser.add_argument("--size", type=positive, default=256, help="of the crops, in pixels (%(default)s)")
    parser.add_argument("--crops", type=positive, default=2, help="of each picture (%(default)s)")
    parser.add_argument("--teacher", type=Path, help="decoder to imitate on half-way latents (none without it)")
    parser.add_argument("--halfway", type=int, default=256, help="of them, with --teacher (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of crops and training (%(default)s)")


def positive(text: str) -> int:
    """A whole number from 1 up.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, got {text!r}")
    return number


class Cut(NamedTuple):
    """Pairs, what they are, and for each the number of the picture it was cut from."""

    pairs: Pairs
    described: str
    pictures: Sequence[int]


def _space(arguments: argparse.Namespace) -> LatentSpace:
    return Catalogue(arguments.folder).spaces()[arguments.space]


def _get_pairs(arguments: argparse.Namespace, space: LatentSpace) -> Cut:
    """The pairs asked for."""
    if arguments.pairs:
        files = [_load(path, space) for path in arguments.pairs]
        pictures = [(file, i // arguments.crops) for file, some in enumerate(files) for i in range(len(some))]
        known = {picture: number for number, picture in enumerate(dict.fromkeys(pictures))}
        pairs = reduce(add, files)
        names = ", ".join(path.name for path in arguments.pairs)
        return Cut(pairs, f"{len(pairs)} pairs of {names}", [known[picture] for picture in pictures])
    if not arguments.encoder:
        raise FitError("say what to fit on: --encoder FILE [--images DIR], or --pairs FILE")
    if not arguments.images:
        return _procedural(arguments, space)
    numbers: list[int] = []
    pairs = encode_pairs(_encoder(arguments.encoder, space), _crops(arguments, numbers), space.channels)
    folders = ", ".join(path.name for path in arguments.images)
    return Cut(pairs, f"{len(pairs)} crops of {arguments.size} px from {folders}", numbers)


def _crops(arguments: argparse.Namespace, numbers: list[int]) -> Iterator[np.ndarray]:
    """Crops; `numbers` is told of which picture each is: those of one colour are left out, so counting would not do."""
    current = 0

    def paths() -> Iterator[Path]:
        nonlocal current
        for path in tqdm(find(arguments.images), unit="picture", file=sys.stderr):
            current += 1
            yield path

    for crop in crops(paths(), arguments.size, arguments.crops, arguments.seed):
        numbers.append(current)
        yield crop


def _procedural(arguments: argparse.Namespace, space: LatentSpace) -> Cut:
    count, size = arguments.procedural, arguments.size
    stream = tqdm(pictures(count, size, arguments.seed), total=count, unit="picture", file=sys.stderr)
    pairs = encode_pairs(_encoder(arguments.encoder, space), stream, space.channels)
    return Cut(pairs, f"{len(pairs)} procedural pictures of {size} px, seed {arguments.seed}", range(len(pairs)))


def _with_halfway(pairs: Pairs, described: str, arguments: argparse.Namespace) -> tuple[Pairs, str]:
    if not arguments.teacher or arguments.halfway < 1:
        return pairs, described
    some = pairs.latents[:: max(1, len(pairs) // arguments.halfway)][: arguments.halfway]
    teacher = read_decoder(arguments.teacher)
    changed = noisy_pairs(some, teacher.decode, lambda latents, _: vary(latents, arguments.seed))
    return pairs + changed, f"{described}, and {len(some)} half-way latents decoded by {arguments.teacher.name}"


def _load(path: Path, space: LatentSpace) -> Pairs:
    pairs = Pairs.load(path)
    if pairs.channels != space.channels:
        raise FitError(f"{path}: expected latents of {space.channels} channels, found {pairs.channels}")
    return pairs


def _encoder(path: Path, space: LatentSpace) -> Encode:
    if not path.is_dir():
        return read_encoder(path)
    return partial(encode, open_autoencoder(path), space)


def _pairs(arguments: argparse.Namespace) -> int:
    _expect_room(arguments.out.parent)
    pairs, described, _ = _get_pairs(arguments, _space(arguments))
    pairs, described = _with_halfway(pairs, described, arguments)
    try:
        pairs.save(arguments.out)
    except OSError as error:
        raise FitError(f"{arguments.out}: the pairs cannot be written there: {error.strerror or error}") from None
    print(f"{arguments.out}: {described}")
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    folder, name = _place(arguments)
    space = _space(arguments)
    _expect_room(folder, arguments.report, *(path.parent for path in arguments.statistics[:1]))
    sittings = (
        FitStatistics.gathered(arguments.kind, space.name, arguments.statistics) if arguments.statistics else None
    )
    material = _material(arguments, space)
    changes = {"seed": arguments.seed, **_given(arguments, "steps", "lr")}
    with ProgressBars() as bars:
        made = fit_decoders(
            arguments.kind,
            space,
            material,
            BestAvailable.of(Catalogue(arguments.folder), space),
            folder,
            source=f"Safelight: {_command()}",
            name=name,
            changes=changes,
            tell=bars.show,
            sittings=sittings,
        )
    print(f"on {material.judged_on}; the first is what `auto` takes now:\n")
    print(made.table())
    for path in made.save(folder):
        print(f"\n{path}", end="")
    if made.sittings is not None:
        made.sittings.save(arguments.statistics[0])
        print(f"\n{arguments.statistics[0]}: {made.sittings}", end="")
    print("\n\n" + "\n".join((*made.verdicts(), *made.notes)))
    if arguments.report:
        _write_report(arguments.report, made.table(), made.sheet(), made.chart())
    return 0


def _place(arguments: argparse.Namespace) -> tuple[Path, str | None]:
    """The folder for what is made, and its name if one was given."""
    out = arguments.out or Path()
    if not out.suffix:
        return out, None
    if out.suffix not in SAFE:
        raise FitError(f"{out}: expected a folder, or a name that ends in {' or '.join(SAFE)}")
    return out.parent, out.stem


def _expect_room(*folders: Path | None) -> None:
    """Raises `FitError` where nothing can be written: before the work, for afterwards it would be lost."""
    for folder in folders:
        if folder is None:
            continue
        there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        try:
            with tempfile.TemporaryFile(dir=there) as file:
                file.write(bytes(ROOM_BYTES))
        except OSError as error:
            raise FitError(
                f"{folder}: cannot be written to: {error.strerror or error}; make room, or choose another folder"
            ) from None


def _material(arguments: argparse.Namespace, space: LatentSpace) -> Dataset:
    pairs, described, numbers = _get_pairs(arguments, space)
    material = split(
        pairs,
        described,
        numbers,
        choose=_load(arguments.choose, space) if arguments.choose else None,
        judge=_load(arguments.judge, space) if arguments.judge else None,
        judged_on=f"of {arguments.judge.name}" if arguments.judge else None,
    )
    # Only now: half-way latents are made of several pictures, and none of those held back may be among them.
    fit, described = _with_halfway(material.fit, material.fitted_on, arguments)
    return replace(material, fit=fit, fitted_on=described)


def _compare(arguments: argparse.Namespace) -> int:
    space = _space(arguments)
    _expect_room(arguments.out)
    pairs, described, _ = _get_pairs(arguments, space)
    at_hand = Catalogue(arguments.folder).of(space)
    decoders = [*(candidate.open() for candidate in at_hand), *map(read_decoder, arguments.decoder)]
    judged = score(decoders, pairs)
    print(f"on {described}:\n")
    print(table(judged))
    if arguments.teacher:
        _print_halfway(decoders, pairs, read_decoder(arguments.teacher))
    if arguments.out:
        some = slice(0, SHOWN)
        decoded = {decoder.name: decoder.decode(pairs.latents[some].float()) for decoder in decoders}
        _write_report(arguments.out, table(judged), sheet(pairs.rgb(pairs.downscale, some), decoded), chart(judged))
    return 0


def _write_report(folder: Path, text: str, *images: Image.Image) -> None:
    names = ("sheet.png", "chart.png")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text(text + "\n", encoding="utf-8")
        for name, image in zip(names, images, strict=True):
            image.save(folder / name)
    except OSError as error:
        raise FitError(f"{folder}: the report cannot be written there: {error.strerror or error}") from None
    print(f"\n{folder}: table.md, {', '.join(names)}")


def _print_halfway(decoders: Sequence[Decoder], pairs: Pairs, teacher: Decoder) -> None:
    nets = [decoder.net for decoder in decoders]
    print(f"\nagainst {teacher.name} on the same half-way latents: PSNR at latent size, dB; between steps of a run,")
    print("flicker; on plain latents the colour cast, both of 255 levels; on soft ones detail, 1 is the teacher's.")
    print("Columns are the decoders, in the order above")
    for title, numbers in score_noisy_latents(nets, pairs.latents, teacher.decode):
        print(f"{title:14}", *(f"{number:6.2f}" for number in numbers))


@final
class ProgressBars:
    """A progress bar for each rung."""

    def __init__(self) -> None:
        self._name, self._bar = "", None

    def __enter__(self) -> "ProgressBars":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, name: str, progress: Progress) -> None:
        """Shows how far the rung of this name is."""
        if name != self._name or self._bar is None:
            self.__exit__()
            self._name, self._bar = name, tqdm(total=progress.steps, desc=name, unit="step", file=sys.stderr)
        self._bar.update(progress.step - self._bar.n)
        if not math.isnan(progress.held_db):
            self._bar.set_postfix(loss=f"{progress.loss:.3f}", dB=f"{progress.held_db:.2f}", refresh=False)


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, float]:
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _command() -> str:
    """The command that was typed, with the names of files and folders but not where they are."""
    words = (Path(word).name if "/" in word or "\\" in word else word for word in sys.argv[1:])
    return shlex.join(["safelight", *words])
