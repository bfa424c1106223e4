"""What was fitted, told beside what is at hand."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from ..decoders.catalogue import WITHOUT_WEIGHTS, Candidate, Catalogue
from ..decoders.decoder import Decoder
from ..decoders.files.decoder_file import write_decoder
from ..decoders.latents.identify import Evidence
from ..decoders.latents.space import LatentSpace
from ..decoders.ranking import LIGHT, compare_scores
from ..errors import DecoderFileError, FitError
from .dataset import Dataset
from .report import INK, PAPER, ScoredDecoder, chart, sheet, table
from .statistics import FitStatistics

BESIDE_MOST = 12  # decoders that a new one is judged beside
SHOWN = 4  # pictures on the sheet
CHART_WIDTH = 960


@dataclass(frozen=True, kw_only=True)
class BestAvailable:
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
    ) -> "BestAvailable":
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
class FitResult:
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
    at_hand: BestAvailable
    judged: Sequence[ScoredDecoder]
    material: Dataset
    notes: Sequence[str] = field(default=())
    sittings: FitStatistics | None = None

    @property
    def best(self) -> Decoder:
        """What `auto` takes once the new ones are at hand."""
        best = self.at_hand.in_use
        for decoder in (*self.new, *self.at_hand.others):
            better = is_first_of_its_space(best) or gain_over_db(decoder, best) > 0
            if better and not self._is_too_heavy(decoder):
                best = decoder
        return best

    def verdicts(self) -> list[str]:
        """A sentence on each new decoder: whether `auto` takes it, and why."""
        best, in_use = self.best, self.at_hand.in_use
        told = []
        for decoder in self.new:
            scored = compare_scores(decoder.card, in_use.card)
            against = scored.against(in_use.name) if scored else f"not compared with {in_use.name}"
            if decoder is best:
                why = f"auto takes it from the next run on: {against}"
            elif scored and scored.gain_db <= 0 and not is_first_of_its_space(in_use):
                why = f"kept out of auto: {against}"
            elif self._is_too_heavy(decoder):
                why = (
                    f"auto considers it on a GPU only, {decoder.card.cost:,} multiplications for each latent pixel are "
                    f"too many for a CPU beside a sampler; {against}"
                )
            else:
                scored = compare_scores(decoder.card, best.card)
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


def gain_over_db(decoder: Decoder, other: Decoder) -> float:
    """By how much `decoder` is ahead of `other`; minus infinity where they were not compared."""
    scored = compare_scores(decoder.card, other.card)
    return scored.gain_db if scored else -math.inf


def is_first_of_its_space(in_use: Decoder) -> bool:
    """Whether nothing but what needs no weights is in use: `auto` then takes whatever comes."""
    return in_use.card.kind in WITHOUT_WEIGHTS


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
