"""From pairs to decoder files that say what they are worth."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..decoders.catalogue import AUTO
from ..decoders.decoder import Card, Decoder
from ..decoders.files.tensor_file import SUFFIXES
from ..decoders.latents.space import LatentSpace
from ..decoders.latents.space_table import SPACES
from ..decoders.ranking import compare_scores
from ..errors import FitError
from .dataset import Dataset
from .least_squares import Sums
from .presets import PRESETS, Fitted, fit
from .report import ScoredDecoder, score
from .result import BestAvailable, FitResult, gain_over_db, is_first_of_its_space
from .statistics import FitStatistics
from .train import Progress

LICENCE = "MIT"

# What `auto` fits: of each class of cost the best is kept. Of the nets only the convolutions: at the same cost they are
# ahead of the net for each pixel wherever a neighbour says something.
CLASSES: Mapping[str, tuple[str, ...]] = {
    "closed form": ("affine", "quadratic", "cubic", "neighbourhood"),
    "closed form in sub-pixels": ("subpixel",),
    "small net": ("conv",),
}

Tell = Callable[[str, Progress], None]


def fit_decoders(
    kind: str,
    space: LatentSpace,
    material: Dataset,
    at_hand: BestAvailable,
    folder: Path,
    *,
    source: str,
    name: str | None = None,
    changes: Mapping[str, Any] | None = None,
    tell: Tell = lambda _name, _progress: None,
    sittings: FitStatistics | None = None,
) -> FitResult:
    """Fits decoders, judges them beside what is at hand, and writes nothing.

    Args:
        kind: a name in `LADDER`, or `auto` for the best of each of `CLASSES`.
        space: of the latents; one that Safelight has no row for travels with the decoder.
        material: what to fit, choose and judge on.
        at_hand: what to judge beside.
        folder: where they are to be saved; a name that a decoder file there has gets a number.
        source: what makes them: the command, or the node.
        name: of the decoder (`<space>-<kind>`); with several, their kind is added.
        changes: to the recipe of trained kinds.
        tell: is told the rung and how far it is; what it raises, `KeyboardInterrupt` in a training aside, ends the fit.
        sittings: what was fitted on before, of this kind and space, to go on with.

    Raises:
        FitError: nothing can be fitted, or what was is worse than no decoder at all.
    """
    if sittings is not None:
        sittings.expect_new({"fit on": material.fit, "choose by": material.choose, "judge by": material.judge})
    if material.fit.channels != space.channels:
        raise FitError(
            f"expected latents of {space.title} ({space.name}) with {space.channels} channels, "
            f"got {material.fit.channels}; name the space they are really of"
        )
    classes = tuple(CLASSES.values()) if kind == AUTO else ((kind,),)
    there = (path.stem for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    taken = {*at_hand.taken, at_hand.in_use.name, *there}
    new, notes = [], []
    for rungs in classes:
        best = _best(rungs, material, changes or {}, tell, notes, sittings and sittings.sums)
        if best is None:
            continue
        rung_name, (net, _, sums), interrupted = best
        if sittings is not None and sums is not None:
            sittings = sittings.grown(sums, material.fit)
        rung = PRESETS[rung_name]
        wanted = f"{name or space.name}-{rung_name}" if kind == AUTO or not name else name
        card = Card(
            name=_free(wanted, taken),
            space=space.name,
            kind=rung.kind,
            settings=rung.settings(material.fit.channels, material.fit.downscale),
            channels=net.channels,
            scale=net.scale,
            parameters=sum(tensor.numel() for tensor in net.state_dict().values()),
            cost=net.cost,
            latent_space=None if space.name in SPACES else space,
            source=source,
            fitted_on=f"{material.fitted_on}; {sittings}" if sittings else material.fitted_on,
            licence=LICENCE,
            notes=interrupted,
        )
        taken.add(card.name)
        new.append(Decoder(card, net))
    if not new:
        raise FitError("nothing could be fitted: " + "; ".join(notes))
    return replace(_judged(new, at_hand, material, notes), sittings=sittings)


def _best(
    rungs: Iterable[str],
    material: Dataset,
    changes: Mapping[str, Any],
    tell: Tell,
    notes: list[str],
    earlier: Sums | None,
) -> tuple[str, Fitted, str | None] | None:
    """The rung that did best on the pairs to choose by, what it is, and a sentence if its training was interrupted."""
    rungs = tuple(rungs)
    fitted: dict[str, tuple[Fitted, str | None]] = {}
    for name in rungs:
        rung = PRESETS[name]
        recipe = rung.recipe and replace(rung.recipe, **changes)
        last = [Progress(0, recipe.steps if recipe else 0, math.nan, math.nan)]

        def report(progress: Progress, name: str = name, last: list[Progress] = last) -> None:
            last[:] = [progress]
            tell(name, progress)

        try:
            result = fit(rung, material.fit, material.choose, recipe, report, earlier=earlier)
        except FitError as error:
            if len(rungs) == 1 and not notes:
                raise
            notes.append(f"{name}: {error}")
            continue
        step, steps = last[0][:2]
        interrupted = f"interrupted after {step} of {steps} steps; the best until then" if step < steps else None
        if interrupted:
            notes.append(f"{name}: {interrupted}")
        fitted[name] = result, interrupted
    if not fitted:
        return None
    best = max(fitted, key=lambda name: fitted[name][0].held_db)
    return best, *fitted[best]


def _judged(new: Sequence[Decoder], at_hand: BestAvailable, material: Dataset, notes: Sequence[str]) -> FitResult:
    judged = score([at_hand.in_use, *new, *at_hand.others], material.judge)
    known = {row.name: {**row.scores, "decode_ms": row.decode_ms} for row in judged if _is_finite(row)}
    scored = {row.name: row for row in judged}
    finished = []
    for decoder in new:
        row = scored[decoder.name]
        if not _is_finite(row):
            raise FitError(f"{decoder.name} gives values that are no numbers; fit on other pictures")
        metrics = {
            **known[decoder.name],
            "judged_on": material.judged_on,
            "beside": {name: scores for name, scores in known.items() if name != decoder.name},
        }
        finished.append(Decoder(replace(decoder.card, metrics=metrics), decoder.net))
    if is_first_of_its_space(at_hand.in_use) and all(
        gain_over_db(decoder, at_hand.in_use) <= 0 for decoder in finished
    ):
        scored = compare_scores(finished[0].card, at_hand.in_use.card)
        raise FitError(
            f"what was fitted is worse than no decoder: {scored and scored.against(at_hand.in_use.name)}; "
            "are these pictures, this encoder and these latents of one kind?"
        )
    return FitResult(new=finished, at_hand=at_hand, judged=judged, material=material, notes=tuple(notes))


def _is_finite(row: ScoredDecoder) -> bool:
    return all(math.isfinite(score) for score in row.scores.values())


def _free(name: str, taken: Collection[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free
