"""Fits decoders on a dataset and scores them."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..decoders.catalogue import AUTO
from ..decoders.decoder import Card, Decoder
from ..decoders.files.tensor_file import TENSOR_SUFFIXES
from ..decoders.latents.space import LatentSpace
from ..decoders.latents.space_table import SPACES
from ..decoders.ranking import compare_scores
from ..errors import FitError
from .dataset import Dataset, PairShare
from .fit_state import FitState
from .image_ids import union_of_known
from .least_squares import Sums
from .plausibility import require_known_scores
from .presets import PRESETS, FittedNet, fit_preset
from .processes import ONE_PROCESS, Processes
from .report import ScoredDecoder, score_decoders
from .result import Baselines, FitResult, SavedDecoders, gain_over_db, needs_no_weights
from .statistics import TRAINING, FitStatistics
from .train import FitStep

DECODER_LICENSE = "MIT"
CPU, GPU = TRAIN_ON = ("cpu", "gpu")
TRAIN_ON_HELP = (
    "Where nets (mlp, conv, conv-full) are trained. gpu is faster and takes about 1 GB of its memory; without a GPU, "
    "the CPU is used. Closed forms are always fitted on the CPU."
)

# The presets that `auto` fits: the best of each class is saved. The only trained net is `conv`: at the same cost its
# PSNR is above that of `mlp` wherever a neighboring pixel helps.
COST_CLASSES: Mapping[str, tuple[str, ...]] = {
    "closed form": ("affine", "quadratic", "cubic", "neighbourhood"),
    "closed form in sub-pixels": ("subpixel",),
    "small net": ("conv",),
}

OnFitStep = Callable[[str, FitStep], None]


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The settings of a host's fit node.

    Args:
        space: name of the latent space, or the host's word for "detect it".
        kind: preset name, or `auto`.
        name: name for a new latent space, of a known one for the decoder; empty for the name that the host uses.
        seed: random seed for crops, generated images and training.
        train_on: `cpu`, or `gpu` for the host's device.
    """

    space: str
    kind: str = AUTO
    name: str = ""
    seed: int = 0
    train_on: str = CPU


def fit_and_save(
    options: FitOptions,
    space: LatentSpace,
    dataset: Dataset,
    baselines: Baselines,
    folder: Path,
    *,
    host: str,
    on_step: OnFitStep,
    check_cancelled: Callable[[], None],
    vae: str = "",
    device: torch.device | None = None,
) -> tuple[Image.Image, str]:
    """Fits decoders for a host's node and saves them.

    Args:
        options: settings of the node.
        space: latent space of the dataset.
        dataset: training, validation and test pairs.
        baselines: decoders to compare with.
        folder: folder for the decoder files.
        host: name and version of the host.
        on_step: callback for the preset name and the step.
        check_cancelled: function that raises the host's exception if the user cancelled.
        vae: fingerprint of the VAE; empty if unknown.
        device: the host's device, for `train_on` gpu.

    Returns:
        The report as an image, and as text.

    Raises:
        FitError: nothing could be fitted or saved, or the device has too little memory.
        Exception: the host's, if the user cancelled. What was fitted until then is saved.
    """
    used = device if options.train_on == GPU and device is not None else torch.device(CPU)
    saved = SavedDecoders(folder, losers=options.kind != AUTO, doubles=False)
    try:
        result = fit_decoders(
            options.kind,
            space,
            dataset,
            baselines,
            folder,
            source=f"Safelight: Fit Preview Decoder in {host}, kind {options.kind}, seed {options.seed}",
            name=options.name if options.name and space.name in SPACES else None,
            recipe_changes={"seed": options.seed, "device": str(used)},
            on_step=on_step,
            on_result=saved.update,
            vae=vae,
        )
    except torch.cuda.OutOfMemoryError:
        raise FitError(f"{used} has too little free memory to train on; choose {CPU}, or free the memory") from None
    report = result.image()
    check_cancelled()
    summary = result.summary(space, saved.update(result))
    if options.train_on == GPU and used.type == CPU:
        summary += "\nThis host has no GPU: the training was on the CPU."
    return report, summary


def fit_decoders(
    kind: str,
    space: LatentSpace,
    dataset: Dataset,
    baselines: Baselines,
    folder: Path,
    *,
    source: str,
    name: str | None = None,
    recipe_changes: Mapping[str, Any] | None = None,
    on_step: OnFitStep = lambda _name, _step: None,
    on_result: Callable[[FitResult], object] = lambda _: None,
    statistics: FitStatistics | None = None,
    vae: str = "",
    state: FitState | None = None,
    processes: Processes = ONE_PROCESS,
) -> FitResult:
    """Fits decoders and scores them together with the baselines. Writes nothing.

    Args:
        kind: preset name, or `auto` for the best of each of `COST_CLASSES`.
        space: latent space of the dataset; a space that is not in `SPACES` is stored in the decoder's card.
        dataset: training, validation and test pairs.
        baselines: decoders to compare with.
        folder: folder where the decoders will be saved; a name that is in use there gets a number.
        source: origin of the decoder for its card: the command or the node.
        name: name of the decoder (`<space>-<kind>`); with `auto` the preset name is added.
        recipe_changes: changed fields of the recipe of trained presets.
        on_step: callback for the preset name and the step. An exception from it ends the fit, after the best net of a
            training until then is scored; `KeyboardInterrupt` in a training only ends the training.
        on_result: callback for the result so far, after each class of decoders: the quick ones can be saved and used
            while the slow ones are fitted.
        statistics: statistics of earlier sessions, of this preset and space, to continue with.
        vae: fingerprint of the VAE of the latents; empty if unknown. `auto` uses the decoders for this VAE only.
        state: state of an interrupted fit with the same arguments, to go on with; it is updated.
        processes: processes that fit together; this is the first one, and the others call `assist_fit`.

    Raises:
        FitError: nothing could be fitted, the latents are not of this space, or the best result is worse than a
            decoder without weights.
    """
    if statistics is not None:
        statistics.require_new_images({TRAINING: dataset.train, "validation": dataset.validation, "test": dataset.test})
    if dataset.train.channels != space.channels:
        raise FitError(
            f"expected latents of {space.title} ({space.name}) with {space.channels} channels, "
            f"got {dataset.train.channels}; name the space of these latents"
        )
    require_known_scores([baselines.in_use, *baselines.others], dataset.test, space)
    baselines, leaks = baselines.scored_fairly(dataset.test)
    classes = tuple(COST_CLASSES.values()) if kind == AUTO else ((kind,),)
    saved_names = (path.stem for path in folder.glob("*") if path.suffix.lower() in TENSOR_SUFFIXES)
    taken = {*baselines.taken_names, baselines.in_use.name, *saved_names}
    new, notes = [], []
    result: FitResult | None = None
    for preset_names in classes:
        stopped: list[BaseException] = []
        steps = _ending_training(on_step, stopped)
        best = _fit_best(
            preset_names, dataset, recipe_changes or {}, steps, notes, statistics and statistics.sums, state, processes
        )
        if best is None:
            continue
        preset_name, (net, _, sums), interrupted = best
        if statistics is not None and sums is not None:
            statistics = statistics.with_session(sums, dataset.train)
        preset = PRESETS[preset_name]
        card = Card(
            name=_free_name(f"{name or space.name}-{preset_name}" if kind == AUTO or not name else name, taken),
            space=space.name,
            kind=preset.kind,
            settings=preset.settings(dataset.train.channels, dataset.train.downscale),
            channels=net.channels,
            scale=net.scale,
            parameters=sum(tensor.numel() for tensor in net.state_dict().values()),
            cost=net.cost,
            latent_space=None if space.name in SPACES else space,
            source=source,
            vae=vae or None,
            fitted_on=f"{dataset.fitted_on}; {statistics}" if statistics else dataset.fitted_on,
            image_ids=union_of_known(dataset.fitted_ids, statistics.image_ids if statistics else frozenset()),
            licence=DECODER_LICENSE,
            notes=interrupted,
        )
        taken.add(card.name)
        new.append(Decoder(card, net))
        result = replace(_score(new, baselines, dataset, [*dataset.notes, *leaks, *notes]), statistics=statistics)
        on_result(result)
        if stopped:
            raise stopped[0]
    if result is None:
        raise FitError("nothing could be fitted: " + "; ".join(notes))
    return result


def assist_fit(share: PairShare, recipe_changes: Mapping[str, Any], processes: Processes) -> None:
    """Fits what the first process fits, on the pairs of another process, until the first one has fitted all.

    Args:
        share: training and validation pairs of this process.
        recipe_changes: changed fields of the recipe of trained presets.
        processes: processes that fit together.

    Raises:
        LostProcessError: another process ended.
    """
    while name := processes.announced():
        preset = PRESETS[name]
        recipe = preset.recipe and replace(preset.recipe, **recipe_changes)
        with suppress(FitError):  # the first process has the same error, and reports it
            fit_preset(preset, share.train, share.validation, recipe, processes=processes)


def _ending_training(on_step: OnFitStep, stopped: list[BaseException]) -> OnFitStep:
    """Returns a callback for which an exception is an interrupt: a training then keeps its best net until there.

    The exception is added to `stopped`, to be raised when the net is saved.
    """

    def report(name: str, step: FitStep) -> None:
        try:
            on_step(name, step)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            stopped.append(error)
            if PRESETS[name].recipe is None:  # a closed form is of use only when it is finished
                raise
            raise KeyboardInterrupt from error

    return report


def _fit_best(
    preset_names: Iterable[str],
    dataset: Dataset,
    recipe_changes: Mapping[str, Any],
    on_step: OnFitStep,
    notes: list[str],
    earlier: Sums | None,
    state: FitState | None,
    processes: Processes,
) -> tuple[str, FittedNet, str | None] | None:
    """Fits presets; returns the best by validation PSNR: its name, its net, and a note if its training was stopped."""
    preset_names = tuple(preset_names)
    fitted: dict[str, tuple[FittedNet, str | None]] = {}
    for name in preset_names:
        preset = PRESETS[name]
        settings = preset.settings(dataset.train.channels, dataset.train.downscale)
        if state and (done := state.finished(name, preset.kind, settings)):
            fitted[name] = FittedNet(*done, None), None
            continue
        recipe = preset.recipe and replace(preset.recipe, **recipe_changes)
        last = [FitStep(0, recipe.steps if recipe else 0, math.nan, math.nan)]

        def report(step: FitStep, name: str = name, last: list[FitStep] = last) -> None:
            last[:] = [step]
            on_step(name, step)

        processes.announce(name)
        try:
            result = fit_preset(
                preset,
                dataset.train,
                dataset.validation,
                recipe,
                report,
                earlier=earlier,
                training=state and state.training(name),
                on_state=partial(state.save_training, name) if state else lambda _: None,
                processes=processes,
            )
        except FitError as error:
            if len(preset_names) == 1 and not notes:
                raise
            notes.append(f"{name}: {error}")
            continue
        step, steps = last[0][:2]
        interrupted = f"interrupted after {step} of {steps} steps; the best until then" if step < steps else None
        if interrupted:
            notes.append(f"{name}: {interrupted}")
        elif state:
            state.finish(name, result.net, result.validation_db)
        fitted[name] = result, interrupted
    if not fitted:
        return None
    best = max(fitted, key=lambda name: fitted[name][0].validation_db)
    return best, *fitted[best]


def _score(new: Sequence[Decoder], baselines: Baselines, dataset: Dataset, notes: Sequence[str]) -> FitResult:
    rows = score_decoders([baselines.in_use, *new, *baselines.others], dataset.test)
    by_name = {row.name: row for row in rows}
    finite = {row.name: {**row.scores, "decode_ms": row.decode_ms} for row in rows if _is_finite(row)}
    finished = []
    for decoder in new:
        if not _is_finite(by_name[decoder.name]):
            raise FitError(f"{decoder.name} decodes to NaN or infinity; fit on other images")
        metrics = {
            **finite[decoder.name],
            "judged_on": dataset.judged_on,
            "beside": {name: scores for name, scores in finite.items() if name != decoder.name},
        }
        finished.append(Decoder(replace(decoder.card, metrics=metrics), decoder.net))
    if needs_no_weights(baselines.in_use) and all(gain_over_db(decoder, baselines.in_use) <= 0 for decoder in finished):
        gap = compare_scores(finished[0].card, baselines.in_use.card)
        raise FitError(
            f"the fitted decoder is worse than no decoder: {gap and gap.against(baselines.in_use.name)}; "
            "check that images, encoder and latents belong together"
        )
    return FitResult(new=finished, baselines=baselines, scores=rows, dataset=dataset, notes=tuple(notes))


def _is_finite(row: ScoredDecoder) -> bool:
    return all(math.isfinite(score) for score in row.scores.values())


def _free_name(name: str, taken: Collection[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
