"""The decoders that a fit produced, with their scores and reports."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

import torch
from PIL import Image, ImageDraw, ImageFont

from ..decoders.catalogue import Candidate, Catalogue
from ..decoders.decoder import Decoder
from ..decoders.files.decoder_file import read_card, read_decoder, write_decoder
from ..decoders.latents.identify import Evidence
from ..decoders.latents.space import LatentSpace
from ..decoders.nets.registry import KINDS_WITHOUT_WEIGHTS
from ..decoders.ranking import LIGHT, compare_scores
from ..errors import DecoderFileError, FitError
from .dataset import Dataset
from .image_ids import listed, unknown_notes
from .pairs import Pairs
from .report import INK, PAPER, ScoredDecoder, image_sheet, score_chart, score_table
from .statistics import FitStatistics

MAX_BASELINES = 12
SHEET_IMAGES = 4
REPORT_WIDTH_PX = 960


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """The decoders that a new decoder is compared with.

    Args:
        in_use: decoder that `auto` uses now.
        others: other decoders of the same space that are fast enough for a CPU.
        taken_names: names that a new decoder cannot have.
        accelerated: whether `auto` runs on a device faster than a CPU.
    """

    in_use: Decoder
    others: Sequence[Decoder] = ()
    taken_names: Collection[str] = ()
    accelerated: bool = False

    @classmethod
    def from_catalogue(
        cls, catalogue: Catalogue, space: LatentSpace, *, accelerated: bool = False, evidence: Evidence | None = None
    ) -> "Baselines":
        """Opens the decoders that a catalogue has for `space`; `Catalogue.candidates` describes the arguments."""
        best = catalogue.candidates(space, accelerated=accelerated, evidence=evidence)
        in_use = next(_open_all(best, space))
        light = (
            c
            for c in (*catalogue.of(space), *best)
            if c.card.cost <= LIGHT and c.card.kind not in KINDS_WITHOUT_WEIGHTS
        )
        others = {c.name: c for c in light if c.name != in_use.name}
        names = {name for known in catalogue.names() for name in (known, Path(known).stem)}
        return cls(
            in_use=in_use,
            others=list(_open_all(list(others.values())[: MAX_BASELINES - 1], space)),
            taken_names={*names, *(card.name for card in catalogue.all())},
            accelerated=accelerated,
        )

    def scored_fairly(self, pairs: Pairs) -> tuple["Baselines", list[str]]:
        """Leaves out decoders that were fitted on images of `pairs`; returns notes about what cannot be fair."""
        decoders = {decoder.name: decoder for decoder in (self.in_use, *self.others)}
        leaking = {
            d.name for d in decoders.values() if not (d.card.image_ids or frozenset()).isdisjoint(pairs.image_ids)
        }
        notes = unknown_notes([decoder.card for decoder in decoders.values()])
        if self.in_use.name in leaking:
            notes.append(f"{self.in_use.name} was fitted on images of the test too: its scores here are too high")
        if others := leaking - {self.in_use.name}:
            notes.append(f"not compared: {listed(others)}, fitted on images of the test")
        return replace(self, others=[other for other in self.others if other.name not in leaking]), notes


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """New decoders and their comparison with the baselines.

    Args:
        new: new decoders.
        baselines: decoders they were compared with.
        scores: scores of the decoder in use, the new decoders and the other baselines.
        dataset: pairs of the fit.
        notes: notes for the user about presets that failed or were interrupted.
        statistics: statistics of the closed form to save; None if the user named no statistics file.
    """

    new: Sequence[Decoder]
    baselines: Baselines
    scores: Sequence[ScoredDecoder]
    dataset: Dataset
    notes: Sequence[str] = field(default=())
    statistics: FitStatistics | None = None

    @property
    def best(self) -> Decoder:
        """The decoder that `auto` uses once the new decoders are saved."""
        best = self.baselines.in_use
        for decoder in (*self.new, *self.baselines.others):
            better = needs_no_weights(best) or gain_over_db(decoder, best) > 0
            if better and not self._is_too_heavy(decoder):
                best = decoder
        return best

    def verdicts(self) -> list[str]:
        """Explains for each new decoder whether `auto` uses it, and why."""
        best, in_use = self.best, self.baselines.in_use
        sentences = []
        for decoder in self.new:
            gap = compare_scores(decoder.card, in_use.card)
            comparison = gap.against(in_use.name) if gap else f"not compared with {in_use.name}"
            if decoder is best:
                reason = f"auto uses it from the next run on: {comparison}"
            elif gap and gap.gain_db <= 0 and not needs_no_weights(in_use):
                reason = f"auto does not use it: {comparison}"
            elif self._is_too_heavy(decoder):
                reason = (
                    f"auto uses it on a GPU only: {decoder.card.cost:,} multiplications per latent pixel are too many "
                    f"for a CPU during sampling; {comparison}"
                )
            else:
                gap = compare_scores(decoder.card, best.card)
                reason = f"auto does not use it: {gap.against(best.name) if gap else f'{best.name} is better'}"
            sentences.append(f"{decoder.name}: {reason}")
        return sentences

    def _is_too_heavy(self, decoder: Decoder) -> bool:
        return decoder.card.cost > LIGHT and not self.baselines.accelerated

    def summary(self, space: LatentSpace, paths: Sequence[Path]) -> str:
        """Describes the fit as text.

        Args:
            space: latent space of the decoders.
            paths: paths of the saved decoder files.
        """
        lines = [
            f"Latent space: {space.title} ({space.name})",
            f"Fitted on {self.dataset.fitted_on}.",
            f"Scored on {self.dataset.judged_on}; the first row is the decoder that auto uses now:",
            "",
            self.table(),
            "",
            *self.verdicts(),
            *(f"Note: {note}" for note in self.notes),
            "",
            *(f"Saved: {path}" for path in paths),
        ]
        return "\n".join(lines)

    def table(self) -> str:
        """Formats all scores as a Markdown table."""
        return score_table(self.scores)

    def sheet(self) -> Image.Image:
        """Draws one crop of each test image: the original, the decoder in use, the new decoders."""
        pairs = self.dataset.test.one_of_each_image(SHEET_IMAGES)
        decoders = (self.baselines.in_use, *self.new)
        decoded = {decoder.name: decoder.decode(pairs.latents.float()) for decoder in decoders}
        return image_sheet(pairs.rgb(pairs.downscale), decoded)

    def chart(self) -> Image.Image:
        """Draws PSNR over the number of parameters."""
        return score_chart(self.scores)

    def image(self) -> Image.Image:
        """Draws verdicts, sheet and chart in one image."""
        parts = (_draw_text(self.verdicts(), REPORT_WIDTH_PX), self.sheet(), score_chart(self.scores, REPORT_WIDTH_PX))
        whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), PAPER)
        top = 0
        for part in parts:
            whole.paste(part, ((whole.width - part.width) // 2, top))
            top += part.height
        return whole

    def worth_saving(self) -> list[Decoder]:
        """The new decoders that `auto` uses: the best one, and a better one that is too heavy for a CPU."""
        best = self.best
        heavy = [d for d in self.new if self._is_too_heavy(d) and (needs_no_weights(best) or gain_over_db(d, best) > 0)]
        return [decoder for decoder in self.new if decoder is best or decoder in heavy]


@final
class SavedDecoders:
    """The files of a fit. As the fit goes on, a file whose decoder is no longer worth it is removed.

    Args:
        folder: folder of the files.
        losers: whether decoders are saved that `auto` does not use.
        doubles: whether decoders are saved whose weights another file in the folder has.
    """

    def __init__(self, folder: Path, *, losers: bool, doubles: bool) -> None:
        self._folder, self._losers, self._doubles = folder, losers, doubles
        self._written: dict[str, Path] = {}

    @property
    def written(self) -> list[Path]:
        """The files that this fit wrote, without doubles that were there before."""
        return list(self._written.values())

    def update(self, result: FitResult) -> list[Path]:
        """Writes the decoders of a result; a failed write leaves no partial file.

        Returns:
            The paths of all files of the fit. For a double it is the file that has its weights.

        Raises:
            FitError: a file cannot be written.
        """
        wanted = result.new if self._losers else result.worth_saving()
        found: dict[str, Path] = {}
        for decoder in wanted:
            if decoder.name in self._written:
                continue
            if not self._doubles and (same := _same_file(decoder, self._folder)):
                found[decoder.name] = same
                continue
            path = self._folder / f"{decoder.name}.safetensors"
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                write_decoder(path, decoder.card, decoder.net.state_dict())
            except OSError as error:
                raise FitError(
                    f"{path}: the decoder cannot be written: {error.strerror or error}; free some space, or "
                    "choose another folder, and fit again"
                ) from None
            self._written[decoder.name] = path
        for name in self._written.keys() - {decoder.name for decoder in wanted}:
            self._written.pop(name).unlink(missing_ok=True)
        return list({**self._written, **found}.values())

    def remove(self) -> None:
        """Removes the files that this fit wrote."""
        for path in self._written.values():
            path.unlink(missing_ok=True)
        self._written.clear()


def _same_file(decoder: Decoder, folder: Path) -> Path | None:
    """The file in `folder` that has a decoder of this space and VAE with the same weights, or None."""
    state = decoder.net.state_dict()
    for path in folder.glob("*.safetensors"):
        try:
            card = read_card(path)
            if (card.space, card.vae, card.kind) != (decoder.card.space, decoder.card.vae, decoder.card.kind):
                continue
            other = read_decoder(path).net.state_dict()
        except DecoderFileError:
            continue
        if other.keys() == state.keys() and all(torch.equal(other[key], state[key].cpu()) for key in state):
            return path
    return None


def gain_over_db(decoder: Decoder, other: Decoder) -> float:
    """By how many dB `decoder` is better than `other`; minus infinity if they were not compared."""
    gap = compare_scores(decoder.card, other.card)
    return gap.gain_db if gap else -math.inf


def needs_no_weights(in_use: Decoder) -> bool:
    """Whether the decoder is a fallback without weights, which `auto` replaces by any other decoder."""
    return in_use.card.kind in KINDS_WITHOUT_WEIGHTS


def _open_all(candidates: Iterable[Candidate], space: LatentSpace) -> Iterator[Decoder]:
    """Opens candidates; skips broken files, which are reported where they are used."""
    for candidate in candidates:
        try:
            decoder = candidate.open()
        except DecoderFileError:
            continue
        if decoder.net.channels in (None, space.channels):
            yield decoder


def _draw_text(sentences: Iterable[str], width: int) -> Image.Image:
    """Draws sentences with line breaks; each sentence begins a line."""
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
