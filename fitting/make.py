"""From pairs to decoder files that say what they are worth."""

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from ..decoders.catalogue import AUTO, WITHOUT_WEIGHTS, Candidate, Catalogue
from ..decoders.decoder import Card, Decoder
from ..decoders.errors import DecoderFileError, FitError
from ..decoders.files import write_decoder
from ..decoders.identify import Evidence
from ..decoders.merit import LIGHT, compared
from ..decoders.space_table import SPACES
from ..decoders.spaces import LatentSpace
from ..decoders.tensors import SUFFIXES
from .closed import Sums
from .ladder import LADDER, Fitted, fit
from .pairs import Pairs
from .report import INK, PAPER, Judged, chart, judge, sheet, table
from .sittings import Sittings
from .train import Progress

LICENCE = "MIT"
BESIDE_MOST = 12  # decoders that a new one is judged beside
SHOWN = 4  # pictures on the sheet
CHART_WIDTH = 960
SHARE = 6  # one picture of so many is chosen by, another one is judged on
GREY = 1.5  # mean difference between the colours of a pixel, in 1/255, below which pictures show none

# What `auto` fits: of each class of cost the best is kept. Of the nets only the convolutions: at the same cost they are
# ahead of the net for each pixel wherever a neighbour says something.
CLASSES: Mapping[str, tuple[str, ...]] = {
    "closed form": ("affine", "quadratic", "cubic", "neighbourhood"),
    "closed form in sub-pixels": ("subpixel",),
    "small net": ("conv",),
}

Tell = Callable[[str, Progress], None]


@dataclass(frozen=True, kw_only=True)
class Material:
    """Pairs in three parts that share no picture.

    Args:
        fit: to fit on.
        choose: to choose by: ridges, when to stop, kinds.
        judge: for the scores; nothing is fitted on these or chosen by them.
        fitted_on: what the pairs are.
        judged_on: what those to judge by are; see `described`.

    Raises:
        FitError: they are not of one space, or show no colours.
    """

    fit: Pairs
    choose: Pairs
    judge: Pairs
    fitted_on: str
    judged_on: str

    def __post_init__(self) -> None:
        sizes = {(pairs.channels, pairs.downscale) for pairs in (self.fit, self.choose, self.judge)}
        if len(sizes) > 1:
            told = " and ".join(f"{channels} channels at 1/{down}" for channels, down in sorted(sizes))
            raise FitError(f"expected pairs of one latent space to fit on and to judge by, got {told} of the pictures")
        for what, pairs in (("fit on", self.fit), ("judge by", self.judge)):
            if _is_grey(pairs):
                raise FitError(
                    f"expected pictures in colour to {what}, got {len(pairs)} without: a decoder fitted on them would "
                    "show none either; give colour pictures, or none to use procedural ones"
                )


def split(
    pairs: Pairs,
    fitted_on: str,
    pictures: Sequence[int],
    *,
    choose: Pairs | None = None,
    judge: Pairs | None = None,
    judged_on: str | None = None,
) -> Material:
    """Pairs in parts, spread evenly: a sixth to judge by and a sixth to choose by, where those are not given.

    Args:
        pairs: to fit on, all but what is held back.
        fitted_on: what they are; of how many of them a decoder is then fitted is added.
        pictures: for each pair the number of the picture it was cut from; crops of one stay on the same side.
        choose: instead of some of `pairs`.
        judge: instead of some of `pairs`.
        judged_on: what `judge` is.

    Raises:
        FitError: they are of too few pictures.
    """
    numbers = list(dict.fromkeys(pictures))
    if len(numbers) < (least := 1 + (choose is None) + (judge is None)):
        purposes = ["to fit on", *(["to choose by"] * (choose is None)), *(["to judge by"] * (judge is None))]
        raise FitError(
            f"expected at least {least} pictures, {' and '.join(purposes)}, got {len(numbers)}; "
            "give more, or none to use procedural ones"
        )
    count = max(1, len(numbers) // SHARE)
    stride = len(numbers) / count
    judging = {numbers[int((i + 0.5) * stride)] for i in range(count)} if judge is None else set()
    choosing = {numbers[int(i * stride)] for i in range(count)} if choose is None else set()

    def part(inside: Callable[[int], bool]) -> Pairs:
        at = torch.tensor([inside(number) for number in pictures])
        return Pairs(pairs.latents[at], pairs.pixels[at])

    fit, judge = part(lambda number: number not in judging | choosing), judge or part(judging.__contains__)
    return Material(
        fit=fit,
        choose=choose or part(choosing.__contains__),
        judge=judge,
        fitted_on=fitted_on if len(fit) == len(pairs) else f"{len(fit)} of {fitted_on}",
        judged_on=described(judge, judged_on or "held back"),
    )


def described(pairs: Pairs, what: str) -> str:
    """Pairs to judge by, told so that only the very same ones have the same words."""
    digest = hashlib.sha256()
    for tensor in (pairs.latents, pairs.pixels):
        digest.update(f"{list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return f"{len(pairs)} pairs {what} (sha256 {digest.hexdigest()[:8]})"


@dataclass(frozen=True, kw_only=True)
class AtHand:
    """The decoders that a new one is judged beside.

    Args:
        in_use: what `auto` takes now.
        others: light ones of the same space.
        taken: names that a new one cannot have.
        accelerated: whether `auto` runs on something faster than a CPU.
    """

    in_use: Decoder
    others: Sequence[Decoder] = ()
    taken: Collection[str] = ()
    accelerated: bool = False

    @classmethod
    def of(
        cls, catalogue: Catalogue, space: LatentSpace, *, accelerated: bool = False, evidence: Evidence | None = None
    ) -> "AtHand":
        """Those that a catalogue has for `space`; arguments as of `Catalogue.candidates`."""
        best = catalogue.candidates(space, accelerated=accelerated, evidence=evidence)
        in_use = next(_opened(best, space))
        light = (
            c for c in (*catalogue.of(space), *best) if c.card.cost <= LIGHT and c.card.kind not in WITHOUT_WEIGHTS
        )
        others = {c.name: c for c in light if c.name != in_use.name}
        names = {name for known in catalogue.names() for name in (known, Path(known).stem)}
        return cls(
            in_use=in_use,
            others=list(_opened(list(others.values())[: BESIDE_MOST - 1], space)),
            taken={*names, *(card.name for card in catalogue.all())},
            accelerated=accelerated,
        )


@dataclass(frozen=True, kw_only=True)
class Made:
    """Decoders that were fitted, beside what is at hand.

    Args:
        new: the decoders.
        at_hand: what they were judged beside.
        judged: all of them: what is in use, the new ones, the others.
        material: what they were fitted and judged on.
        notes: what the user should know of how they were made.
        sittings: all that the one closed form was fitted on, to be kept; None where that was not asked for.
    """

    new: Sequence[Decoder]
    at_hand: AtHand
    judged: Sequence[Judged]
    material: Material
    notes: Sequence[str] = field(default=())
    sittings: Sittings | None = None

    @property
    def best(self) -> Decoder:
        """What `auto` takes once the new ones are at hand."""
        best = self.at_hand.in_use
        for decoder in (*self.new, *self.at_hand.others):
            better = _first_of_its_space(best) or _gain_db(decoder, best) > 0
            if better and not self._is_too_heavy(decoder):
                best = decoder
        return best

    def verdicts(self) -> list[str]:
        """A sentence on each new decoder: whether `auto` takes it, and why."""
        best, in_use = self.best, self.at_hand.in_use
        told = []
        for decoder in self.new:
            scored = compared(decoder.card, in_use.card)
            against = scored.against(in_use.name) if scored else f"not compared with {in_use.name}"
            if decoder is best:
                why = f"auto takes it from the next run on: {against}"
            elif scored and scored.gain_db <= 0 and not _first_of_its_space(in_use):
                why = f"kept out of auto: {against}"
            elif self._is_too_heavy(decoder):
                why = (
                    f"auto considers it on a GPU only, {decoder.card.cost:,} multiplications for each latent pixel are "
                    f"too many for a CPU beside a sampler; {against}"
                )
            else:
                scored = compared(decoder.card, best.card)
                why = f"kept out of auto: {scored.against(best.name) if scored else f'{best.name} is ahead'}"
            told.append(f"{decoder.name}: {why}")
        return told

    def _is_too_heavy(self, decoder: Decoder) -> bool:
        return decoder.card.cost > LIGHT and not self.at_hand.accelerated

    def table(self) -> str:
        """Everything that was judged, in Markdown."""
        return table(self.judged)

    def sheet(self) -> Image.Image:
        """Pictures: the truth, what is in use, the new decoders."""
        pairs, some = self.material.judge, slice(0, SHOWN)
        shown = {
            decoder.name: decoder.decode(pairs.latents[some].float()) for decoder in (self.at_hand.in_use, *self.new)
        }
        return sheet(pairs.rgb(pairs.downscale, some), shown)

    def chart(self) -> Image.Image:
        """Truthfulness by size."""
        return chart(self.judged)

    def picture(self) -> Image.Image:
        """Verdicts, sheet and chart, one above the other."""
        parts = (_written(self.verdicts(), CHART_WIDTH), self.sheet(), chart(self.judged, CHART_WIDTH))
        whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), PAPER)
        top = 0
        for part in parts:
            whole.paste(part, ((whole.width - part.width) // 2, top))
            top += part.height
        return whole

    def save(self, folder: Path) -> list[Path]:
        """Writes the decoder files, each whole or not at all.

        Raises:
            FitError: they cannot be written.
        """
        written = []
        for decoder in self.new:
            path = folder / f"{decoder.name}.safetensors"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                write_decoder(path, decoder.card, decoder.net.state_dict())
            except OSError as error:
                raise FitError(
                    f"{path}: expected to write the decoder there, but: {error.strerror or error}; make room, or "
                    "choose another folder, and fit again"
                ) from None
            written.append(path)
        return written


def make(
    kind: str,
    space: LatentSpace,
    material: Material,
    at_hand: AtHand,
    folder: Path,
    *,
    source: str,
    name: str | None = None,
    changes: Mapping[str, Any] | None = None,
    tell: Tell = lambda _name, _progress: None,
    sittings: Sittings | None = None,
) -> Made:
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
        rung = LADDER[rung_name]
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
    material: Material,
    changes: Mapping[str, Any],
    tell: Tell,
    notes: list[str],
    earlier: Sums | None,
) -> tuple[str, Fitted, str | None] | None:
    """The rung that did best on the pairs to choose by, what it is, and a sentence if its training was interrupted."""
    rungs = tuple(rungs)
    fitted: dict[str, tuple[Fitted, str | None]] = {}
    for name in rungs:
        rung = LADDER[name]
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


def _judged(new: Sequence[Decoder], at_hand: AtHand, material: Material, notes: Sequence[str]) -> Made:
    judged = judge([at_hand.in_use, *new, *at_hand.others], material.judge)
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
    if _first_of_its_space(at_hand.in_use) and all(_gain_db(decoder, at_hand.in_use) <= 0 for decoder in finished):
        scored = compared(finished[0].card, at_hand.in_use.card)
        raise FitError(
            f"what was fitted is worse than no decoder: {scored and scored.against(at_hand.in_use.name)}; "
            "are these pictures, this encoder and these latents of one kind?"
        )
    return Made(new=finished, at_hand=at_hand, judged=judged, material=material, notes=tuple(notes))


def _gain_db(decoder: Decoder, other: Decoder) -> float:
    scored = compared(decoder.card, other.card)
    return scored.gain_db if scored else -math.inf


def _first_of_its_space(in_use: Decoder) -> bool:
    """Whether nothing but what needs no weights is in use: `auto` then takes whatever comes."""
    return in_use.card.kind in WITHOUT_WEIGHTS


def _is_finite(row: Judged) -> bool:
    return all(math.isfinite(score) for score in row.scores.values())


def _free(name: str, taken: Collection[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _opened(candidates: Iterable[Candidate], space: LatentSpace) -> Iterator[Decoder]:
    """Those that open; a broken file is told of where it is used, not here."""
    for candidate in candidates:
        try:
            decoder = candidate.open()
        except DecoderFileError:
            continue
        if decoder.net.channels in (None, space.channels):
            yield decoder


def _written(sentences: Iterable[str], width: int) -> Image.Image:
    """Sentences on paper, each beginning a line."""
    font, margin, height = ImageFont.load_default(14), 12, 20
    lines = [""]
    for sentence in sentences:
        for i, word in enumerate(sentence.split()):
            longer = f"{lines[-1]} {word}".strip()
            fits = font.getlength(longer) <= width - 2 * margin
            lines = [*lines[:-1], longer] if fits and i else [*lines, word]
    image = Image.new("RGB", (width, height * len(lines)), PAPER)
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(lines[1:]):
        draw.text((margin, height * (i + 0.5)), line, INK, font)
    return image


def _is_grey(pairs: Pairs) -> bool:
    some = pairs.pixels[:: max(1, len(pairs) // 64), :, ::4, ::4].float()
    return float((some.amax(1) - some.amin(1)).mean()) < GREY
