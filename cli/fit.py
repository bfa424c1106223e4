"""The `pairs` and `fit` commands."""

import argparse
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from tqdm import tqdm

from ..decoders.catalogue import AUTO, Catalogue
from ..decoders.files.tensor_file import SAFETENSORS_SUFFIXES
from ..decoders.latents.space import LatentSpace
from ..errors import FitError
from ..fitting.dataset import Dataset, describe_pairs, split_pairs
from ..fitting.fit import fit_decoders
from ..fitting.fit_state import FitState, fit_key, was_interrupted
from ..fitting.image_ids import fitted_ids
from ..fitting.presets import PRESETS
from ..fitting.result import Baselines, FitResult, SavedDecoders
from ..fitting.statistics import FitStatistics
from ..fitting.train import FitStep
from .pair_input import (
    add_device_option,
    add_noisy_pairs,
    add_pair_options,
    add_teacher_options,
    command_line,
    given,
    load_pairs,
    named_pairs,
    named_space,
    positive,
    require_room,
)
from .report_folder import write_report
from .table import print_lines, warn


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `pairs` and `fit`."""
    fit = commands.add_parser("fit", help="fit a decoder to images and the encoder of a VAE")
    add_pair_options(fit)
    add_teacher_options(fit)
    add_device_option(fit)
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
    add_pair_options(pairs)
    add_teacher_options(pairs)
    add_device_option(pairs)
    pairs.add_argument("--out", type=Path, required=True, help="file for the pairs")
    pairs.set_defaults(run=_pairs)


def _pairs(arguments: argparse.Namespace) -> int:
    require_room(arguments.out.parent)
    named = named_pairs(arguments, named_space(arguments))
    pairs, description = add_noisy_pairs(named.pairs, named.description, arguments)
    try:
        pairs.save(arguments.out)
    except OSError as error:
        raise FitError(f"{arguments.out}: the pairs cannot be written: {error.strerror or error}") from None
    print_lines(f"{arguments.out}: {description}", *named.notes)
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    folder, name = _output_place(arguments)
    space = named_space(arguments)
    require_room(folder, arguments.report, *(path.parent for path in arguments.statistics[:1]))
    statistics = (
        FitStatistics.load_all(arguments.kind, space.name, arguments.statistics) if arguments.statistics else None
    )
    catalogue = Catalogue(arguments.folder)
    state = None if statistics else _state(arguments, folder / (name or f"{space.name}-{arguments.kind}"))
    dataset = _dataset(arguments, space, catalogue, state)
    if state:
        held = {"training": dataset.train, "validation": dataset.validation}
        state.expect_dataset("; ".join(describe_pairs(pairs, purpose) for purpose, pairs in held.items()))
        state.remove_written()
        for note in state.notes:
            warn(note)
    saved = SavedDecoders(
        folder,
        losers=arguments.keep_all or arguments.kind != AUTO,
        doubles=arguments.keep_all or name is not None,
    )

    def save(result: FitResult) -> None:
        saved.update(result)
        if state:
            state.written(saved.written)

    with ending_signals_as_interrupts(), PresetProgressBars() as bars:
        result = fit_decoders(
            arguments.kind,
            space,
            dataset,
            Baselines.from_catalogue(catalogue, space),
            folder,
            source=f"Safelight: {command_line()}",
            name=name,
            recipe_changes={"seed": arguments.seed, **given(arguments, "steps", "lr", "device")},
            on_step=bars.show,
            on_result=save,
            statistics=statistics,
            state=state,
        )
    print_lines(f"on {dataset.judged_on}; the first row is the decoder that `auto` uses now:", "")
    print(result.table(), "\n")
    print_lines(*map(str, saved.update(result)))
    if result.statistics is not None:
        result.statistics.save(arguments.statistics[0])
        print_lines(f"{arguments.statistics[0]}: {result.statistics}")
    print_lines("", *result.verdicts(), *result.notes)
    if state and was_interrupted(result.new):
        print_lines("the same command goes on where this one was interrupted")
    elif state:
        state.remove()
    if arguments.report:
        write_report(arguments.report, result.table(), result.sheet(), result.chart())
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


def _state(arguments: argparse.Namespace, output: Path) -> FitState:
    """The state of an interrupted call with the same options and input files; an empty one if there is none."""
    options = {name: value for name, value in vars(arguments).items() if name not in ("run", "report", "keep_all")}
    inputs = (arguments.encoder, arguments.choose, arguments.judge, arguments.teacher)
    files = [*arguments.pairs, *arguments.images, *(path for path in inputs if path is not None)]
    return FitState(output, fit_key(options, files))


def _dataset(
    arguments: argparse.Namespace, space: LatentSpace, catalogue: Catalogue, state: FitState | None
) -> Dataset:
    named = named_pairs(arguments, space, state)
    dataset = split_pairs(
        named.pairs,
        named.description,
        named.image_numbers,
        validation=load_pairs(arguments.choose, space) if arguments.choose else None,
        test=load_pairs(arguments.judge, space) if arguments.judge else None,
        judged_on=f"of {arguments.judge.name}" if arguments.judge else None,
        seen=fitted_ids(catalogue.all(), space.name),
    )
    # After the split: noisy latents blend several images, and these must not include validation or test images.
    train, description = add_noisy_pairs(dataset.train, dataset.fitted_on, arguments)
    return replace(dataset, train=train, fitted_on=description, notes=[*named.notes, *dataset.notes])


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
