"""The `pairs`, `fit` and `compare` commands."""

import argparse
import math
import shlex
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..decoders.catalogue import AUTO, Catalogue
from ..decoders.decoder import Decoder
from ..decoders.files.decoder_file import read_decoder
from ..decoders.files.tensor_file import SAFETENSORS_SUFFIXES
from ..decoders.latents.space import LatentSpace
from ..errors import FitError
from ..fitting.dataset import Dataset, split_pairs
from ..fitting.encoders import read_encoder
from ..fitting.fit import fit_decoders
from ..fitting.image_crops import find_images, read_crops
from ..fitting.noisy_latents import noisy_pairs, score_noisy_latents, vary_latents
from ..fitting.pairs import Encode, Pairs, encode_pairs
from ..fitting.presets import PRESETS
from ..fitting.procedural_images import generate_images
from ..fitting.report import image_sheet, score_chart, score_decoders, score_table
from ..fitting.result import Baselines, SavedDecoders
from ..fitting.statistics import FitStatistics
from ..fitting.train import FitStep
from ..hosts.vae_encode import encode_with_vae, open_autoencoder
from .table import print_lines

SHEET_IMAGES = 6
DEFAULT_GENERATED_IMAGES = 96
RESERVED_BYTES = 1 << 20  # disk space that a decoder, or a report, may need


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `pairs`, `fit` and `compare`."""
    fit = commands.add_parser("fit", help="fit a decoder to images and the encoder of a VAE")
    _add_pair_options(fit)
    fit.add_argument(
        "--kind",
        choices=(AUTO, *PRESETS),
        default="conv",
        help="kind of decoder (%(default)s); auto: the best closed form, one in sub-pixels, and small convolutions",
    )
    fit.add_argument("--choose", type=Path, help="validation pairs (default: a sixth of the images)")
    fit.add_argument("--judge", type=Path, help="test pairs (default: a sixth of the images)")
    fit.add_argument("--steps", type=positive, help="number of training steps (default: depends on the kind)")
    fit.add_argument("--lr", type=float, help="learning rate of a training (default: depends on the kind)")
    fit.add_argument(
        "--out", type=Path, help="decoder file (<space>-<kind>.safetensors) or folder; nothing is overwritten"
    )
    fit.add_argument(
        "--statistics",
        type=Path,
        action="append",
        default=[],
        help="statistics file of a closed form, to continue a fit; it is updated. Use again to add other files to it",
    )
    fit.add_argument("--keep-all", action="store_true", help="also save decoders that auto does not use, and doubles")
    fit.add_argument("--report", type=Path, help="folder for table.md, sheet.png and chart.png")
    fit.set_defaults(run=_fit)

    pairs = commands.add_parser("pairs", help="encode images once, to fit on them many times")
    _add_pair_options(pairs)
    pairs.add_argument("--out", type=Path, required=True, help="file for the pairs")
    pairs.set_defaults(run=_pairs)

    compare = commands.add_parser("compare", help="score all decoders of a space on the same images")
    _add_pair_options(compare)
    compare.add_argument("--decoder", type=Path, action="append", default=[], help="additional decoder file to score")
    compare.add_argument("--out", type=Path, help="folder for table.md, sheet.png and chart.png")
    compare.set_defaults(run=_compare)


def _add_pair_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--space", required=True, help="latent space, a name from `safelight spaces`; a new name with --channels"
    )
    parser.add_argument("--channels", type=positive, help="number of channels of a new latent space")
    parser.add_argument("--scale", type=float, help="factor from the VAE's values to the model's, of a new space (1)")
    parser.add_argument("--shift", type=float, help="offset that is subtracted before it, of a new space (0)")
    parser.add_argument("--downscale", type=positive, help="image pixels per latent pixel, of a new space (8)")
    parser.add_argument("--title", help="name for people of a new space (its name)")
    parser.add_argument(
        "--folder", type=Path, action="append", default=[], help="folder with your decoders, to score them as well"
    )
    parser.add_argument(
        "--pairs",
        type=Path,
        nargs="+",
        default=[],
        help="safetensors files with `latents` in model space and `pixels`; alternatively use --encoder",
    )
    parser.add_argument(
        "--encoder", type=Path, help="TAESD-like encoder file, or folder with diffusers' AutoencoderKL or -Tiny"
    )
    parser.add_argument("--images", type=Path, nargs="+", default=[], help="folders of images (default: generated)")
    parser.add_argument(
        "--procedural",
        type=positive,
        default=DEFAULT_GENERATED_IMAGES,
        metavar="N",
        help="number of generated images, without --images (%(default)s)",
    )
    parser.add_argument("--size", type=positive, default=256, help="side of the crops in pixels (%(default)s)")
    parser.add_argument("--crops", type=positive, default=2, help="number of crops per image (%(default)s)")
    parser.add_argument("--teacher", type=Path, help="decoder file to imitate on noisy latents (default: none)")
    parser.add_argument(
        "--halfway", type=int, default=256, help="number of noisy latents to add, with --teacher (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed for crops and training (%(default)s)")


def positive(text: str) -> int:
    """Parses a whole number from 1 up.

    Raises:
        ArgumentTypeError: the text is no such number.
    """
    if not text.isdecimal() or (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, got {text!r}")
    return number


class NumberedPairs(NamedTuple):
    """Pairs, their description, and the number of the source image of each pair."""

    pairs: Pairs
    description: str
    image_numbers: Sequence[int]


def _space(arguments: argparse.Namespace) -> LatentSpace:
    """The space that `--space` names; with `--channels` a new one."""
    spaces = Catalogue(arguments.folder).spaces()
    numbers: dict[str, Any] = _given(arguments, "channels", "scale", "shift", "downscale")
    if arguments.channels is None:
        if numbers:
            raise FitError("expected --channels with --scale, --shift or --downscale: they describe a new latent space")
        return spaces[arguments.space]
    if arguments.space in spaces:
        raise FitError(
            f"the latent space {arguments.space} is known ({spaces[arguments.space].title}): leave out --channels, or "
            "choose another name for a new space"
        )
    try:
        return LatentSpace(name=arguments.space, title=arguments.title or arguments.space, source=_command(), **numbers)
    except ValueError as error:
        raise FitError(str(error)) from None


def _get_pairs(arguments: argparse.Namespace, space: LatentSpace) -> NumberedPairs:
    """Loads or encodes the pairs that the options name."""
    if arguments.pairs:
        files = [_load(path, space) for path in arguments.pairs]
        images = [(number, i // arguments.crops) for number, pairs in enumerate(files) for i in range(len(pairs))]
        numbers = {image: number for number, image in enumerate(dict.fromkeys(images))}
        pairs = reduce(add, files)
        names = ", ".join(path.name for path in arguments.pairs)
        return NumberedPairs(pairs, f"{len(pairs)} pairs of {names}", [numbers[image] for image in images])
    if not arguments.encoder:
        raise FitError("nothing to fit on: use --encoder FILE [--images DIR], or --pairs FILE")
    if not arguments.images:
        return _encode_generated(arguments, space)
    image_numbers: list[int] = []
    pairs = encode_pairs(_encoder(arguments.encoder, space), _crops(arguments, image_numbers), space.channels)
    folders = ", ".join(path.name for path in arguments.images)
    return NumberedPairs(pairs, f"{len(pairs)} crops of {arguments.size} px from {folders}", image_numbers)


def _crops(arguments: argparse.Namespace, image_numbers: list[int]) -> Iterator[np.ndarray]:
    """Yields crops and appends the number of their image, which cannot be counted: some crops are left out."""
    current = 0

    def paths() -> Iterator[Path]:
        nonlocal current
        for path in tqdm(find_images(arguments.images), unit="image", file=sys.stderr):
            current += 1
            yield path

    for crop in read_crops(paths(), arguments.size, arguments.crops, arguments.seed):
        image_numbers.append(current)
        yield crop


def _encode_generated(arguments: argparse.Namespace, space: LatentSpace) -> NumberedPairs:
    count, size = arguments.procedural, arguments.size
    stream = tqdm(generate_images(count, size, arguments.seed), total=count, unit="image", file=sys.stderr)
    pairs = encode_pairs(_encoder(arguments.encoder, space), stream, space.channels)
    description = f"{len(pairs)} procedural pictures of {size} px, seed {arguments.seed}"
    return NumberedPairs(pairs, description, range(len(pairs)))


def _add_noisy_pairs(pairs: Pairs, description: str, arguments: argparse.Namespace) -> tuple[Pairs, str]:
    if not arguments.teacher or arguments.halfway < 1:
        return pairs, description
    latents = pairs.latents[:: max(1, len(pairs) // arguments.halfway)][: arguments.halfway]
    teacher = read_decoder(arguments.teacher)
    noisy = noisy_pairs(latents, teacher.decode, lambda latents, _: vary_latents(latents, arguments.seed))
    return pairs + noisy, f"{description}, and {len(latents)} half-way latents decoded by {arguments.teacher.name}"


def _load(path: Path, space: LatentSpace) -> Pairs:
    pairs = Pairs.load(path)
    if pairs.channels != space.channels:
        raise FitError(f"{path}: expected latents of {space.channels} channels, found {pairs.channels}")
    return pairs


def _encoder(path: Path, space: LatentSpace) -> Encode:
    if not path.is_dir():
        return read_encoder(path)
    return partial(encode_with_vae, open_autoencoder(path), space)


def _pairs(arguments: argparse.Namespace) -> int:
    _require_room(arguments.out.parent)
    pairs, description, _ = _get_pairs(arguments, _space(arguments))
    pairs, description = _add_noisy_pairs(pairs, description, arguments)
    try:
        pairs.save(arguments.out)
    except OSError as error:
        raise FitError(f"{arguments.out}: the pairs cannot be written: {error.strerror or error}") from None
    print_lines(f"{arguments.out}: {description}")
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    folder, name = _output_place(arguments)
    space = _space(arguments)
    _require_room(folder, arguments.report, *(path.parent for path in arguments.statistics[:1]))
    statistics = (
        FitStatistics.load_all(arguments.kind, space.name, arguments.statistics) if arguments.statistics else None
    )
    dataset = _dataset(arguments, space)
    saved = SavedDecoders(
        folder,
        losers=arguments.keep_all or arguments.kind != AUTO,
        doubles=arguments.keep_all or name is not None,
    )
    with ending_signals_as_interrupts(), PresetProgressBars() as bars:
        result = fit_decoders(
            arguments.kind,
            space,
            dataset,
            Baselines.from_catalogue(Catalogue(arguments.folder), space),
            folder,
            source=f"Safelight: {_command()}",
            name=name,
            recipe_changes={"seed": arguments.seed, **_given(arguments, "steps", "lr")},
            on_step=bars.show,
            on_result=saved.update,
            statistics=statistics,
        )
    print_lines(f"on {dataset.judged_on}; the first row is the decoder that `auto` uses now:", "")
    print(result.table(), "\n")
    print_lines(*map(str, saved.update(result)))
    if result.statistics is not None:
        result.statistics.save(arguments.statistics[0])
        print_lines(f"{arguments.statistics[0]}: {result.statistics}")
    print_lines("", *result.verdicts(), *result.notes)
    if arguments.report:
        _write_report(arguments.report, result.table(), result.sheet(), result.chart())
    return 0


@contextmanager
def ending_signals_as_interrupts() -> Iterator[None]:
    """Makes SIGTERM, and the end of the terminal, an interrupt: a training then keeps its best net until there."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP
    try:
        before = {name: signal.signal(getattr(signal, name), interrupt) for name in names}
    except ValueError:  # not the main thread: the caller has its own way to end
        before = {}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _output_place(arguments: argparse.Namespace) -> tuple[Path, str | None]:
    """The output folder, and the decoder's name if `--out` has one."""
    out = arguments.out or Path()
    if not out.suffix:
        return out, None
    if out.suffix not in SAFETENSORS_SUFFIXES:
        raise FitError(f"{out}: expected a folder, or a name that ends in {' or '.join(SAFETENSORS_SUFFIXES)}")
    return out.parent, out.stem


def _require_room(*folders: Path | None) -> None:
    """Raises `FitError` if a folder cannot be written to; called before the work, which would be lost otherwise."""
    for folder in folders:
        if folder is None:
            continue
        existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
        try:
            with tempfile.TemporaryFile(dir=existing) as file:
                file.write(bytes(RESERVED_BYTES))
        except OSError as error:
            raise FitError(
                f"{folder}: cannot be written to: {error.strerror or error}; free some space, or choose another folder"
            ) from None


def _dataset(arguments: argparse.Namespace, space: LatentSpace) -> Dataset:
    pairs, description, image_numbers = _get_pairs(arguments, space)
    dataset = split_pairs(
        pairs,
        description,
        image_numbers,
        validation=_load(arguments.choose, space) if arguments.choose else None,
        test=_load(arguments.judge, space) if arguments.judge else None,
        judged_on=f"of {arguments.judge.name}" if arguments.judge else None,
    )
    # After the split: noisy latents blend several images, and these must not include validation or test images.
    train, description = _add_noisy_pairs(dataset.train, dataset.fitted_on, arguments)
    return replace(dataset, train=train, fitted_on=description)


def _compare(arguments: argparse.Namespace) -> int:
    space = _space(arguments)
    _require_room(arguments.out)
    pairs, description, _ = _get_pairs(arguments, space)
    installed = Catalogue(arguments.folder).of(space)
    decoders = [*(candidate.open() for candidate in installed), *map(read_decoder, arguments.decoder)]
    rows = score_decoders(decoders, pairs)
    print_lines(f"on {description}:", "")
    print(score_table(rows))
    if arguments.teacher:
        _print_noisy_scores(decoders, pairs, read_decoder(arguments.teacher))
    if arguments.out:
        first = slice(0, SHEET_IMAGES)
        decoded = {decoder.name: decoder.decode(pairs.latents[first].float()) for decoder in decoders}
        sheet = image_sheet(pairs.rgb(pairs.downscale, first), decoded)
        _write_report(arguments.out, score_table(rows), sheet, score_chart(rows))
    return 0


def _write_report(folder: Path, text: str, *images: Image.Image) -> None:
    names = ("sheet.png", "chart.png")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.md").write_text(text + "\n", encoding="utf-8")
        for name, image in zip(names, images, strict=True):
            image.save(folder / name)
    except OSError as error:
        raise FitError(f"{folder}: the report cannot be written: {error.strerror or error}") from None
    print_lines("", f"{folder}: table.md, {', '.join(names)}")


def _print_noisy_scores(decoders: Sequence[Decoder], pairs: Pairs, teacher: Decoder) -> None:
    nets = [decoder.net for decoder in decoders]
    print_lines(
        "",
        f"PSNR in dB against {teacher.name} on the same noisy latents, at latent size. flicker: error between steps",
        "of a run; cast: color error on plain latents; both in levels of 255. detail: on soft latents, relative to the",
        "teacher. The columns are the decoders, in the order above",
    )
    for title, numbers in score_noisy_latents(nets, pairs.latents, teacher.decode):
        print(f"{title:14}", *(f"{number:6.2f}" for number in numbers))


@final
class PresetProgressBars:
    """Terminal progress bars, one per preset."""

    def __init__(self) -> None:
        self._name, self._bar = "", None

    def __enter__(self) -> "PresetProgressBars":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, name: str, step: FitStep) -> None:
        """Shows the step of this preset."""
        if name != self._name or self._bar is None:
            self.__exit__()
            self._name, self._bar = name, tqdm(total=step.steps, desc=name, unit="step", file=sys.stderr)
        self._bar.update(step.step - self._bar.n)
        if not math.isnan(step.validation_db):
            self._bar.set_postfix(loss=f"{step.loss:.3f}", dB=f"{step.validation_db:.2f}", refresh=False)


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, float]:
    return {name: value for name in names if (value := getattr(arguments, name)) is not None}


def _command() -> str:
    """The command line, with the names of files and folders but without their paths."""
    words = (Path(word).name if "/" in word or "\\" in word else word for word in sys.argv[1:])
    return shlex.join(["safelight", *words])
