"""Chooses decoders: from a latent space and the user's request to decoders, best first."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, final

import torch

from ..errors import DecoderFileError, EncoderFileError, SafelightError, UnknownDecoderError
from .agreement import AGREEMENT, Agreement
from .decoder import Card, Decoder
from .files.decoder_file import build, read_card, read_decoder
from .files.read_cache import FileStamp, read_cached
from .files.shipped import default_for, open_shipped, remark_on, shipped_cards, shipped_file
from .files.tensor_file import SAFETENSORS_SUFFIXES, TENSOR_SUFFIXES
from .latents.identify import UNKNOWN, Evidence, could_mean
from .latents.space import AUDIO, LatentSpace, Spaces
from .latents.space_table import PIXEL_SPACE, SPACES
from .measured_scores import read_measured
from .nets.registry import KINDS, KINDS_WITHOUT_WEIGHTS
from .ranking import LIGHT, gain_db, why_chosen, why_not_chosen
from .trial_records import TrialRecords, read_trials, write_trials

Notify = Callable[[str], None]

AUTO, FAST, FINE = "auto", "fast", "fine"  # requests for the best decoder of a space, on any, a slow or a fast device
WORDS = (AUTO, FAST, FINE)

log = logging.getLogger("safelight.decoders")


class Candidate(NamedTuple):
    """A decoder that can be used, and is opened only then.

    `file` is the decoder file. It is None for a decoder without a file; this one may keep state from step to step, so
    each run opens its own.
    """

    card: Card
    open: Callable[[], Decoder]
    file: Path | None = None

    @property
    def name(self) -> str:
        return self.card.name


class Unusable(NamedTuple):
    """A file in the user's folders that decodes nothing, and the reason. An encoder is there for other nodes."""

    file: Path
    reason: str
    is_encoder: bool = False


class Choice(NamedTuple):
    """Whether `auto` chooses a decoder, on a CPU and on an accelerator, and the reason."""

    card: Card
    auto: bool
    auto_accelerated: bool
    why: str


@final
class Catalogue:
    """The available decoders: the shipped ones, and those in the user's folders.

    Args:
        folders: folders with the user's decoder files, searched again at each call; an earlier folder has priority.
        objects: decoders in memory that can be requested by name.
    """

    def __init__(self, folders: Sequence[Path] = (), objects: Sequence[Candidate] = ()) -> None:
        self._folders, self._objects = tuple(folders), tuple(objects)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders with the user's decoder files. What trials of them find is saved in the first one."""
        return self._folders

    def names(self) -> list[str]:
        """Returns all valid requests: `auto`, `fast`, `fine`, kinds, and names of decoders."""
        return [*WORDS, *KINDS, *(c.name for c in _shipped()), *self._files()]

    def all(self) -> list[Card]:
        """Returns the cards of all decoders with weights, without the user's unreadable files."""
        return [c.card for c in (*_shipped(), *self._users())]

    def fingerprint(self, wanted: str) -> str:
        """Returns a key that changes if `wanted` may mean another decoder, because the user's files changed."""
        if any(c.name == wanted for c in _shipped()):
            return wanted
        stamps: list[FileStamp] = []
        for path in self._files().values():
            with suppress(OSError):  # the file was deleted meanwhile
                stamps.append(FileStamp.of(path))
        return repr((wanted, stamps, self.trials()))

    def candidates(
        self,
        space: LatentSpace,
        wanted: str = AUTO,
        *,
        accelerated: bool = False,
        evidence: Evidence | None = None,
        vae: str | None = None,
        notify: Notify = lambda _: None,
    ) -> list[Candidate]:
        """Returns decoders of `space`, best first. The last one always works.

        Args:
            space: latent space of the latents.
            wanted: one of `names()`. `fast`: the best one that is not heavier than `LIGHT`. `fine`: the best of all,
                however heavy.
            accelerated: whether the latents are on an accelerator, so that `auto` is `fine`; else it is `fast`.
            evidence: facts from the host; its own table to RGB is used for a space without another decoder.
            vae: fingerprint of the VAE that will decode the latents; None if unknown. Decoders that were learned from
                another VAE are left out.
            notify: receives a message for the user if shipped decoders are missing or changed.

        Raises:
            UnknownDecoderError: no such decoder exists, or it belongs to another space.
            DecoderFileError: `wanted` names a file that is not a decoder.
        """
        installed = self.measured([*self.of(space, notify, vae), *_host_table(space, evidence)], space, vae)
        ranked = _ranked(installed, accelerated if wanted not in (FAST, FINE) else wanted == FINE)
        return self._put_first(space, wanted, [*ranked, last_resort(space)])

    def candidates_or_auto(
        self,
        space: LatentSpace,
        wanted: str = AUTO,
        *,
        preferred: str = AUTO,
        accelerated: bool = False,
        evidence: Evidence | None = None,
        vae: str | None = None,
        notify: Notify,
    ) -> list[Candidate]:
        """Returns `candidates`, or those of `auto` if the requested decoder is unavailable.

        Args:
            space: latent space of the latents.
            wanted: decoder that the user chose for this run, one of `names()`.
            preferred: decoder that the user's settings choose if `wanted` is `auto`. It need not exist for every space,
                so its absence is not reported.
            accelerated: as for `candidates`.
            evidence: as for `candidates`.
            vae: as for `candidates`.
            notify: receives a message for the user if `wanted` is unavailable, or if shipped decoders are missing or
                changed.
        """
        request = preferred if wanted == AUTO else wanted
        word = request if request in WORDS else AUTO
        automatic = self.candidates(space, word, accelerated=accelerated, evidence=evidence, vae=vae, notify=notify)
        try:
            return self._put_first(space, request, automatic)
        except SafelightError as error:
            if wanted != AUTO:
                notify(f"decoder auto is used: {error}")
            return automatic

    def _put_first(self, space: LatentSpace, wanted: str, automatic: list[Candidate]) -> list[Candidate]:
        if wanted in WORDS:
            return automatic
        requested = self._requested(space, wanted)
        *others, last = automatic
        return [requested, *(c for c in others if c.name != requested.name), last]

    def _requested(self, space: LatentSpace, wanted: str) -> Candidate:
        if wanted in KINDS_WITHOUT_WEIGHTS:
            if wanted == "pixels" and space.channels != 3:
                raise UnknownDecoderError(
                    f"decoder pixels shows latents of 3 channels as RGB, but those of {space.title} ({space.name}) "
                    f"have {space.channels}. {self._advice(space)}"
                )
            return _without_weights(wanted, space)
        if wanted in KINDS:
            for candidate in self.of(space):
                if candidate.card.kind == wanted:
                    return candidate
            raise UnknownDecoderError(f"no {wanted} decoder for {space.title} ({space.name}). {self._advice(space)}")
        candidate = next((c for c in _shipped() if c.name == wanted), None) or self._named(wanted)
        if candidate is None:
            raise UnknownDecoderError(f"no decoder is named {wanted!r}. {self._advice(space)}")
        card = candidate.card
        if card.scale > space.downscale:
            raise UnknownDecoderError(
                f"decoder {wanted} upscales {card.scale} times, but the VAE of {space.title} ({space.name}) "
                f"{space.downscale} times: it does not decode these latents. {self._advice(space)}"
            )
        if card.space not in (None, space.name) or card.channels not in (None, space.channels):
            raise UnknownDecoderError(
                f"decoder {wanted} decodes {card.space or 'latents'} of {card.channels} channels, "
                f"not {space.title} ({space.name}) of {space.channels}. {self._advice(space)}"
            )
        return candidate

    def _advice(self, space: LatentSpace) -> str:
        names = ", ".join(c.name for c in self.of(space)) or "none"
        folders = " or ".join(map(str, self._folders)) or "a decoder folder"
        return f"Available decoders: {names}. To add one, put its file into {folders}."

    def of(self, space: LatentSpace, notify: Notify = lambda _: None, vae: str | None = None) -> list[Candidate]:
        """Returns decoders of `space`: its default, other shipped ones, the user's. Arguments as for `candidates`."""
        found = _of(space, _shipped(notify), self._users(), self.trials())
        return [c for c in found if vae is None or c.card.vae in (None, vae)]

    def measured(self, candidates: Sequence[Candidate], space: LatentSpace, vae: str | None = None) -> list[Candidate]:
        """Adds to the cards of candidates their scores on the user's own pictures, if these were measured.

        A decoder that was learned from a VAE has its scores on that VAE's pictures, others on those of `vae`, or of the
        newest VAE.
        """
        return [c._replace(card=self._measured(c.card, space, vae)) for c in candidates]

    def _measured(self, card: Card, space: LatentSpace, vae: str | None) -> Card:
        wanted = vae if card.vae is None else card.vae
        found = (read_measured(folder, space.name, wanted) for folder in self._folders)
        scores = next((scores for scores in found if scores), None)
        return replace(card, measured=scores.metrics_of(card.name)) if scores else card

    def choices(self) -> list[Choice]:
        """Returns for each decoder with weights whether `auto` chooses it, and the reason."""
        shipped, users, spaces, trials = _shipped(), list(self._users()), self.spaces(), self.trials()
        found: dict[int, Choice] = {}  # by the id of the card: two files may contain the same name
        for space in spaces:
            of_space = _of(space, shipped, users, trials)
            choices = _choices(space, self.measured(of_space, space))
            for candidate, choice in zip(of_space, choices, strict=True):
                card = replace(choice.card, space=space.name)  # a file may not name it
                found[id(candidate.card)] = choice._replace(card=card)
        return [found.get(id(c.card)) or _never_chosen(c, spaces, trials) for c in (*shipped, *users)]

    def trials(self) -> TrialRecords:
        """Returns what trials of the user's files found; they are in the first folder."""
        return read_trials(self._folders[0]) if self._folders else TrialRecords()

    def save_trials(self, change: Callable[[TrialRecords], TrialRecords]) -> None:
        """Changes what is known from trials.

        Raises:
            OSError: the file in the first folder cannot be written.
        """
        if self._folders:
            write_trials(self._folders[0], change(self.trials()))

    def unproven(self, space: LatentSpace) -> list[Candidate]:
        """Returns the user's files that may decode `space`, while no trial has settled whether they do."""
        users = [c for c in self._users() if c.card.recognized and _fits(c.card, space)]
        trials = self.trials()
        return [c for c in users if not _is_settled(c, space, trials)]

    def reference(self, space: LatentSpace, vae: str | None = None) -> Candidate | None:
        """Returns the best light decoder that is known to decode `space`, against which others are tried."""
        known = [c for c in self.of(space, vae=vae) if not c.card.recognized or _is_proven(c, space, self.trials())]
        light = [c for c in self.measured(known, space, vae) if c.card.cost <= LIGHT]
        return _ranked(light, accelerated=False)[0] if light else None

    def unusable(self) -> list[Unusable]:
        """Returns the user's files that decode nothing: unreadable ones, and those that serve no latent space."""
        spaces, trials = self.spaces(), self.trials()
        found: list[Unusable] = []
        for path in self._files().values():
            try:
                candidate = _user(path)
            except DecoderFileError as error:
                found.append(Unusable(path, str(error), isinstance(error, EncoderFileError)))
                continue
            if not candidate.card.recognized or any(_is_of(candidate, space, trials) for space in spaces):
                continue
            if not _untried(candidate, spaces, trials):
                found.append(Unusable(path, _why_not_proven(candidate, spaces, trials)))
        return found

    def refused(self, space: LatentSpace) -> list[Unusable]:
        """Returns the user's files that are named like decoders of `space`, but were refused by a trial."""
        trials = self.trials()
        named = [c for c in self._users() if c.card.recognized and c.file and _is_of(c, space, TrialRecords())]
        tried = [(c.file, trials.of(c.file).get(space.name)) for c in named if c.file]
        return [Unusable(file, refusal(space.name, a)) for file, a in tried if a and a.is_of_space is False]

    def spaces(self) -> Spaces:
        """Returns the latent spaces that Safelight knows, and those that the user's decoder files add.

        A row from a file is left out if its name is in use, or if a host's facts could mean an earlier row instead.
        """
        rows = {space.name: space for space in SPACES}
        for candidate in self._users(SAFETENSORS_SUFFIXES):  # other formats cannot store a row, and are slow to read
            row = candidate.card.latent_space
            if row is None or row.name in (*rows, UNKNOWN):
                continue
            if like := next((known for known in rows.values() if could_mean(known, row)), None):
                log.debug("latent space %s of %s is ambiguous with %s: left out", row.name, candidate.name, like.name)
            else:
                rows[row.name] = row
        return Spaces(tuple(rows.values()))

    def _users(self, suffixes: Sequence[str] = TENSOR_SUFFIXES) -> Iterator[Candidate]:
        for path in self._files().values():
            if path.suffix.lower() not in suffixes:
                continue
            try:
                yield _user(path)
            except DecoderFileError as error:
                log.debug("%s", error)

    def _files(self) -> dict[str, Path]:
        """Returns the user's files by name."""
        files: dict[str, Path] = {}
        for folder in self._folders:
            for path in sorted(folder.glob("*")) if folder.is_dir() else ():
                if path.suffix.lower() in TENSOR_SUFFIXES and path.is_file():
                    files.setdefault(path.name, path)
        return files

    def _named(self, name: str) -> Candidate | None:
        """Returns the object of this name, else the user's file, else the user's decoder whose card has this name."""
        if found := next((c for c in self._objects if c.name == name), None):
            return found
        path = self._files().get(name)
        return _user(path) if path else next((c for c in self._users() if c.name == name), None)


def _user(path: Path) -> Candidate:
    return Candidate(read_cached(read_card, path), partial(read_decoder, path), path)


def _shipped(notify: Notify = lambda _: None) -> list[Candidate]:
    """Returns the shipped decoders without those that are missing or changed."""
    refused: list[DecoderFileError] = []
    try:
        cards = shipped_cards(refused=refused.append)
    except DecoderFileError as error:
        refused.append(error)
        cards = []
    for error in refused:
        log.warning("%s", error)
    if refused:
        more = f" (and {len(refused) - 1} more like it)" if len(refused) > 1 else ""
        notify(f"{refused[0]}{more}")
    return [Candidate(card, partial(open_shipped, card.name), shipped_file(card.name)) for card in cards]


def _default(space: LatentSpace) -> tuple[str, str] | None:
    try:
        return default_for(space.name)
    except DecoderFileError as error:
        log.warning("%s", error)
        return None


def _of(
    space: LatentSpace, shipped: Iterable[Candidate], users: Iterable[Candidate], trials: TrialRecords
) -> list[Candidate]:
    default = _default(space)
    ours = [c for c in shipped if c.card.space == space.name]
    ours.sort(key=lambda c: default is None or c.name != default[0])
    return [*ours, *(c for c in users if _is_of(c, space, trials))]


def _fits(card: Card, space: LatentSpace) -> bool:
    """Returns whether a decoder takes the channels of `space`, and does not upscale more than its VAE."""
    return card.channels in (None, space.channels) and space.name != UNKNOWN and card.scale <= space.downscale


def _is_proven(candidate: Candidate, space: LatentSpace, trials: TrialRecords) -> bool | None:
    """Returns what trials of a file in `space` found; None if they have not settled it."""
    agreement = trials.of(candidate.file).get(space.name) if candidate.file else None
    return agreement and agreement.is_of_space


def _is_settled(candidate: Candidate, space: LatentSpace, trials: TrialRecords) -> bool:
    """Returns whether a further trial of a file in `space` would change nothing."""
    agreement = trials.of(candidate.file).get(space.name) if candidate.file else None
    return agreement is not None and agreement.is_settled


def _is_of(candidate: Candidate, space: LatentSpace, trials: TrialRecords) -> bool:
    """Returns whether a user's file is a decoder of `space`: by trials, else by its content, else by its name."""
    card = candidate.card
    if not _fits(card, space):
        return False
    if card.recognized and (proven := _is_proven(candidate, space, trials)) is not None:
        return proven
    if card.space is not None:
        # Two files may contain different rows of one name. A decoder of the other row would show wrong colors.
        return card.space == space.name and (card.latent_space or space).values == space.values
    return card.channels is not None and card.name.lower().startswith(space.files)


def _ranked(fitting: Sequence[Candidate], accelerated: bool) -> list[Candidate]:
    """Returns the decoders that `auto` tries, in this order."""
    light = [c for c in fitting if c.card.cost <= LIGHT]
    # Among heavy decoders without a comparison, assume that the heavier one is better.
    heavy = sorted((c for c in fitting if c.card.cost > LIGHT), key=lambda c: -c.card.cost)
    first, second = ([*heavy, *light], light) if accelerated else (light, heavy)
    ranked: dict[str, Candidate] = {}
    for candidate in (*_best(first), *_best(second)):
        ranked.setdefault(candidate.name, candidate)
    return list(ranked.values())


def _best(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Returns at most one candidate: the first, unless a later one was measured to be better, and so on."""
    best = candidates[:1]
    for candidate in candidates[1:]:
        if (gain_db(candidate.card, best[0].card) or 0) > 0:
            best = [candidate]
    return list(best)


def _choices(space: LatentSpace, fitting: Sequence[Candidate]) -> Iterator[Choice]:
    if not fitting:
        return
    slow, fast = (_ranked(fitting, accelerated)[0].card for accelerated in (False, True))
    default = _default(space)
    cards = [candidate.card for candidate in fitting]
    for card in cards:
        if card is slow and default and default[0] == card.name:
            why = default[1]
        elif card is slow or card is fast:
            why = why_chosen(card, None if card is slow else slow, cards)
        else:
            why = "; ".join(filter(None, (remark_on(card.name), why_not_chosen(card, slow, fast))))
        yield Choice(card, card is slow, card is fast, why)


def _never_chosen(candidate: Candidate, spaces: Spaces, trials: TrialRecords) -> Choice:
    card = candidate.card
    if card.recognized:
        why = _why_not_proven(candidate, spaces, trials)
    elif card.space is None:
        why = "it names no latent space: select this decoder by name to use it"
    elif card.space in spaces and card.scale > spaces[card.space].downscale:
        why = f"it upscales {card.scale} times, but the VAE of {card.space} {spaces[card.space].downscale} times"
    elif card.space not in spaces:
        why = f"unknown latent space {card.space!r}, and the file contains no usable row for it"
    else:
        why = f"its numbers do not match latent space {card.space}"
    return Choice(card, False, False, why)


def _untried(candidate: Candidate, spaces: Spaces, trials: TrialRecords) -> list[str]:
    """Returns the names of the latent spaces in which a trial may still prove a file."""
    fitting = [space for space in spaces if space.dims != AUDIO and _fits(candidate.card, space) and _default(space)]
    return [space.name for space in fitting if not _is_settled(candidate, space, trials)]


def _why_not_proven(candidate: Candidate, spaces: Spaces, trials: TrialRecords) -> str:
    card, tried = candidate.card, trials.of(candidate.file) if candidate.file else {}
    reasons = [refusal(name, agreement) for name, agreement in tried.items() if agreement.is_settled]
    if names := _untried(candidate, spaces, trials):
        reasons.append(f"a run in one of these latent spaces tries it: {', '.join(names)}; or select it by name")
    nothing = f"no latent space with a known decoder has {card.channels} channels at 1/{card.scale} of the image size"
    return "; ".join(reasons) or nothing


def refusal(space: str, agreement: Agreement) -> str:
    """Explains that a trial refused a decoder, with the figure."""
    pictures = "a picture" if agreement.pictures == 1 else f"{agreement.pictures} pictures"
    return (
        f"tried on {pictures} of {space}: it agrees by {agreement.value:.2f} with what is known of the space, expected "
        f"{AGREEMENT:g} or more"
    )


def _host_table(space: LatentSpace, evidence: Evidence | None) -> list[Candidate]:
    """Returns the table to RGB that the host has for its latent format, if any."""
    if evidence is None or evidence.factors is None or len(evidence.factors) != space.channels:
        return []
    settings = {"channels": space.channels, "constant": evidence.bias is not None, "output_range": (-1.0, 1.0)}
    tensors = {"weight": evidence.factors} | ({} if evidence.bias is None else {"bias": evidence.bias})

    def open_table() -> Decoder:  # not before: an invalid table must not prevent the other decoders
        state = {key: torch.tensor(values) for key, values in tensors.items()}
        state["weight"] = state["weight"].T[:, :, None, None]
        return Decoder(card, build(card.kind, settings, state))

    card = Card(
        name=f"{evidence.host}-table",
        space=space.name,
        kind="polynomial",
        settings=settings,
        parameters=3 * (space.channels + (evidence.bias is not None)),
        cost=3 * space.channels,
        source=f"latent format {evidence.format_name} of {evidence.host}",
    )
    return [Candidate(card, open_table)]


def _generic_kind(space: LatentSpace) -> str:
    if space.dims == AUDIO:
        return "timeline"
    return "pixels" if space.name == PIXEL_SPACE else "principal"


def last_resort(space: LatentSpace) -> Candidate:
    """Returns the decoder of `space` that always works, because it needs no file."""
    return _without_weights(_generic_kind(space), space)


def _without_weights(kind: str, space: LatentSpace) -> Candidate:
    card = Card(name=kind, space=space.name, kind=kind, source="Safelight, without weights")
    return Candidate(card, lambda: Decoder(card, build(kind, {}, {})))
