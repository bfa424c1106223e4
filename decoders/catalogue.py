"""Chooses decoders: from a latent space and the user's request to decoders, best first."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, final

import torch

from ..errors import DecoderFileError, SafelightError, UnknownDecoderError
from .decoder import Card, Decoder
from .files.decoder_file import build, read_card, read_decoder
from .files.read_cache import FileStamp, read_cached
from .files.shipped import default_for, open_shipped, shipped_cards, shipped_file
from .files.tensor_file import SAFETENSORS_SUFFIXES, TENSOR_SUFFIXES
from .latents.identify import UNKNOWN, Evidence, could_mean
from .latents.space import AUDIO, LatentSpace, Spaces
from .latents.space_table import PIXEL_SPACE, SPACES
from .measured_scores import read_measured
from .nets.registry import KINDS, KINDS_WITHOUT_WEIGHTS
from .ranking import LIGHT, gain_db, why_chosen, why_not_chosen

Notify = Callable[[str], None]

AUTO = "auto"

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

    def names(self) -> list[str]:
        """Returns all valid requests: `auto`, kinds, and names of decoders."""
        return [AUTO, *KINDS, *(c.name for c in _shipped()), *self._files()]

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
        return repr((wanted, stamps))

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
            wanted: one of `names()`.
            accelerated: whether the latents are on an accelerator, so that decoders heavier than `LIGHT` are usable.
            evidence: facts from the host; its own table to RGB is used for a space without another decoder.
            vae: fingerprint of the VAE that will decode the latents; None if unknown. Decoders that were learned from
                another VAE are left out.
            notify: receives a message for the user if shipped decoders are missing or changed.

        Raises:
            UnknownDecoderError: no such decoder exists, or it belongs to another space.
            DecoderFileError: `wanted` names a file that is not a decoder.
        """
        installed = self.measured([*self.of(space, notify, vae), *_host_table(space, evidence)], space, vae)
        return self._put_first(space, wanted, [*_ranked(installed, accelerated), last_resort(space)])

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
        automatic = self.candidates(space, accelerated=accelerated, evidence=evidence, vae=vae, notify=notify)
        try:
            return self._put_first(space, preferred if wanted == AUTO else wanted, automatic)
        except SafelightError as error:
            if wanted != AUTO:
                notify(f"{str(error).rstrip('.')}. Safelight chose a decoder automatically instead.")
            return automatic

    def _put_first(self, space: LatentSpace, wanted: str, automatic: list[Candidate]) -> list[Candidate]:
        if wanted == AUTO:
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
        found = _of(space, _shipped(notify), self._users())
        return [c for c in found if vae is None or c.card.vae in (None, vae)]

    def measured(self, candidates: Sequence[Candidate], space: LatentSpace, vae: str | None = None) -> list[Candidate]:
        """Adds to the cards of candidates their scores on the user's own pictures, if these were measured."""
        found = (read_measured(folder, space.name, vae) for folder in self._folders)
        scores = next((scores for scores in found if scores), None)
        if scores is None:
            return list(candidates)
        return [c._replace(card=replace(c.card, measured=scores.metrics_of(c.name))) for c in candidates]

    def choices(self) -> list[Choice]:
        """Returns for each decoder with weights whether `auto` chooses it, and the reason."""
        shipped, users, spaces = _shipped(), list(self._users()), self.spaces()
        found: dict[int, Choice] = {}  # by the id of the card: two files may contain the same name
        for space in spaces:
            of_space = _of(space, shipped, users)
            choices = _choices(space, self.measured(of_space, space))
            found |= {id(c.card): choice for c, choice in zip(of_space, choices, strict=True)}
        return [found.get(id(c.card)) or _never_chosen(c.card, spaces) for c in (*shipped, *users)]

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


def _of(space: LatentSpace, shipped: Iterable[Candidate], users: Iterable[Candidate]) -> list[Candidate]:
    default = _default(space)
    ours = [c for c in shipped if c.card.space == space.name]
    ours.sort(key=lambda c: default is None or c.name != default[0])
    return [*ours, *(c for c in users if _is_of(c.card, space))]


def _is_of(card: Card, space: LatentSpace) -> bool:
    """Returns whether a user's file is a decoder of `space`, by its content, else by its name."""
    if card.channels not in (None, space.channels) or space.name == UNKNOWN or card.scale > space.downscale:
        return False
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
            why = why_not_chosen(card, slow, fast)
        yield Choice(card, card is slow, card is fast, why)


def _never_chosen(card: Card, spaces: Spaces) -> Choice:
    if card.space is None:
        why = "ambiguous latent space: select this decoder by name to use it"
    elif card.space in spaces and card.scale > spaces[card.space].downscale:
        why = f"it upscales {card.scale} times, but the VAE of {card.space} {spaces[card.space].downscale} times"
    elif card.space not in spaces:
        why = f"unknown latent space {card.space!r}, and the file contains no usable row for it"
    else:
        why = f"its numbers do not match latent space {card.space}"
    return Choice(card, False, False, why)


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
