"""The `pairs` and `fit` commands."""

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from tqdm import tqdm

from ..decoders.catalogue import AUTO, Catalogue
from ..decoders.files.tensor_file import SAFETENSORS_SUFFIXES
from ..decoders.latents.space import LatentSpace
from ..errors import FitError, LostProcessError, SafelightError
from ..fitting.dataset import Dataset, PairShare, describe_pairs, split_pairs, split_share
from ..fitting.fit import assist_fit, fit_decoders
from ..fitting.fit_state import FitState, fit_key, was_interrupted
from ..fitting.image_ids import fitted_ids
from ..fitting.pairs import Pairs
from ..fitting.presets import PRESETS
from ..fitting.processes import Processes, joined_processes
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

SPEAKERS = 2  # processes that report the end of another one; the second one in case that it was the first
ENDED_WITH_OTHERS = 1  # exit code of the other ones
FINISHED, INTERRUPTED = "finished", "interrupted"


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
    with joined_processes(arguments.device) as processes:
        named = named_pairs(arguments, named_space(arguments), None, processes)
        pairs, description = add_noisy_pairs(named.pairs, named.description, arguments, processes)
    out: Path = arguments.out
    if processes.count > 1:
        share = f"{processes.rank + 1}-of-{processes.count}"
        out, description = out.with_stem(f"{out.stem}-{share}"), f"share {share} of {description}"
    try:
        pairs.save(out)
    except OSError as error:
        raise FitError(f"{out}: the pairs cannot be written: {error.strerror or error}") from None
    print_lines(f"{out}: {description}", *named.notes)
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    with joined_processes(arguments.device) as processes:
        return (_fit_with_others if processes.count > 1 else _lead_fit)(arguments, processes)


def _fit_with_others(arguments: argparse.Namespace, processes: Processes) -> int:
    """Fits as one of several processes. If one ends, all end, and the first ones say why."""
    try:
        return (_lead_fit if processes.is_first else _assist_fit)(arguments, processes)
    except KeyboardInterrupt:
        reason = LostProcessError(
            "the fit was interrupted by a signal, from you or because another process ended. Decoders that were "
            "finished are saved; the same command goes on"
        )
    except LostProcessError as error:
        reason = error
    except SafelightError as error:
        if processes.is_first:
            raise
        raise FitError(f"process {processes.rank + 1} of {processes.count}: {error}") from None
    if processes.rank < SPEAKERS:
        raise reason
    return ENDED_WITH_OTHERS


def _assist_fit(arguments: argparse.Namespace, processes: Processes) -> int:
    """Encodes, sums and trains with the first process; saves only its own pairs, for an interrupted fit."""
    space = named_space(arguments)
    state = _state(arguments, space, processes)
    share = _share(arguments, space, state, processes)
    with processes.fitting_together():
        assist_fit(share, _recipe_changes(arguments), processes)
    with suppress(LostProcessError):  # the first process failed afterwards, and says why
        if processes.text_of_first("") == FINISHED:
            state.remove()
    return 0


def _lead_fit(arguments: argparse.Namespace, processes: Processes) -> int:
    folder, name = _output_place(arguments)
    space = named_space(arguments)
    if arguments.statistics and processes.count > 1:
        raise FitError("--statistics: expected one process; fit without torchrun, or without --statistics")
    require_room(folder, arguments.report, *(path.parent for path in arguments.statistics[:1]))
    statistics = (
        FitStatistics.load_all(arguments.kind, space.name, arguments.statistics) if arguments.statistics else None
    )
    catalogue = Catalogue(arguments.folder)
    state = None if statistics else _state(arguments, space, processes)
    dataset = _dataset(arguments, space, catalogue, state, processes)
    if state:
        state.expect_dataset(_descriptions(dataset.train, dataset.validation, processes))
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

    try:
        with processes.fitting_together(), PresetProgressBars() as bars:
            result = fit_decoders(
                arguments.kind,
                space,
                dataset,
                Baselines.from_catalogue(catalogue, space),
                folder,
                source=f"Safelight: {command_line()}",
                name=name,
                recipe_changes=_recipe_changes(arguments),
                on_step=bars.show,
                on_result=save,
                statistics=statistics,
                state=state,
                processes=processes,
            )
        processes.text_of_first(INTERRUPTED if was_interrupted(result.new) else FINISHED)
    except LostProcessError:
        saved.remove()
        raise
    _finish(arguments, result, saved.update(result), state)
    return 0


def _finish(arguments: argparse.Namespace, result: FitResult, paths: Sequence[Path], state: FitState | None) -> None:
    """Prints the result, and writes what is not a decoder."""
    print_lines(f"on {result.dataset.judged_on}; the first row is the decoder that `auto` uses now:", "")
    print(result.table(), "\n")
    print_lines(*map(str, paths))
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


def _output_place(arguments: argparse.Namespace) -> tuple[Path, str | None]:
    """The output folder, and the decoder's name if `--out` has one."""
    out = arguments.out or Path()
    if not out.suffix:
        return out, None
    if out.suffix not in SAFETENSORS_SUFFIXES:
        raise FitError(f"{out}: expected a folder, or a name that ends in {' or '.join(SAFETENSORS_SUFFIXES)}")
    return out.parent, out.stem


def _recipe_changes(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"seed": arguments.seed, **given(arguments, "steps", "lr", "device")}


def _state(arguments: argparse.Namespace, space: LatentSpace, processes: Processes) -> FitState:
    """The state of an interrupted call with the same options and input files; an empty one if there is none.

    Each of several processes has one of its own, for the pairs of its share.
    """
    folder, name = _output_place(arguments)
    output = folder / (name or f"{space.name}-{arguments.kind}")
    options = {name: value for name, value in vars(arguments).items() if name not in ("run", "report", "keep_all")}
    if processes.count > 1:
        options["processes"] = processes.count
    if not processes.is_first:
        output = output.with_name(f"{output.name}-{processes.rank + 1}-of-{processes.count}")
    inputs = (arguments.encoder, arguments.choose, arguments.judge, arguments.teacher)
    files = [*arguments.pairs, *arguments.images, *(path for path in inputs if path is not None)]
    return FitState(output, fit_key(options, files))


def _share(arguments: argparse.Namespace, space: LatentSpace, state: FitState, processes: Processes) -> PairShare:
    """The pairs of another process than the first; the first one calls `_dataset`."""
    named = named_pairs(arguments, space, state, processes)
    validation, test = _held_out(arguments, space)
    share = split_share(named.pairs, named.image_numbers, validation=validation, test=test, processes=processes)
    train, _ = add_noisy_pairs(share.train, "", arguments, processes)
    _descriptions(train, share.validation, processes)
    return share._replace(train=train)


def _held_out(arguments: argparse.Namespace, space: LatentSpace) -> tuple[Pairs | None, Pairs | None]:
    """The validation and test pairs that `--choose` and `--judge` name."""
    validation, test = (load_pairs(path, space) if path else None for path in (arguments.choose, arguments.judge))
    return validation, test


def _descriptions(train: Pairs, validation: Pairs, processes: Processes) -> str:
    """Describes the pairs of all processes, to notice other ones."""
    own = [describe_pairs(train, "training"), describe_pairs(validation, "validation")]
    return "; ".join(processes.texts_of_all(own))


def _dataset(
    arguments: argparse.Namespace,
    space: LatentSpace,
    catalogue: Catalogue,
    state: FitState | None,
    processes: Processes,
) -> Dataset:
    named = named_pairs(arguments, space, state, processes)
    validation, test = _held_out(arguments, space)
    dataset = split_pairs(
        named.pairs,
        named.description,
        named.image_numbers,
        validation=validation,
        test=test,
        judged_on=f"of {arguments.judge.name}" if arguments.judge else None,
        seen=fitted_ids(catalogue.all(), space.name),
        processes=processes,
    )
    # After the split: noisy latents blend several images, and these must not include validation or test images.
    train, description = add_noisy_pairs(dataset.train, dataset.fitted_on, arguments, processes)
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
