"""Which decoder for which latents: "(space, what the user asked for) -> decoder"."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, final

import torch

from .decoder import Card, Decoder
from .errors import DecoderFileError, UnknownDecoderError
from .files import build, read_card, read_decoder
from .identify import Evidence, contradictions
from .kinds import KINDS
from .merit import LIGHT, gain_db
from .shipped import default_for, open_shipped, shipped_cards
from .space_table import SPACES
from .spaces import AUDIO, LatentSpace, Spaces
from .tensors import SUFFIXES

AUTO = "auto"
PIXELS = "pixels"
WITHOUT_WEIGHTS = ("principal", PIXELS, "timeline")

log = logging.getLogger("safelight.decoders")


class Candidate(NamedTuple):
    """A decoder that may be used, opened only if it is."""

    card: Card
    open: Callable[[], Decoder]

    @property
    def name(self) -> str:
        return self.card.name


@final
class Catalogue:
    """The decoders at hand: those that ship, and those in the user's folders.

    Args:
        folders: of the user's decoder files, searched anew at each question; an earlier one wins.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._folders = tuple(folders)

    def names(self) -> list[str]:
        """Everything one may ask for: `auto`, kinds, and decoders by name."""
        return [AUTO, *KINDS, *(c.name for c in _shipped()), *self._files()]

    def all(self) -> list[Card]:
        """Every decoder that has weights; a user's file that cannot be read is left out."""
        return [c.card for c in (*_shipped(), *self._users())]

    def candidates(
        self,
        space: LatentSpace,
        wanted: str = AUTO,
        *,
        accelerated: bool = False,
        evidence: Evidence | None = None,
    ) -> list[Candidate]:
        """Decoders of `space`, best first; the last one always works.

        Args:
            space: of the latents.
            wanted: one of `names()`.
            accelerated: whether the latents are on something faster than a CPU, so that more than `LIGHT` work pays.
            evidence: what the host knows; its own table serves a space that nothing at hand decodes.

        Raises:
            UnknownDecoderError: there is no such decoder, or it is one of another space.
            DecoderFileError: the file that was asked for by name is not a decoder.
        """
        fitting = [*self.of(space), *_host_table(space, evidence)]
        light = [c for c in fitting if c.card.cost <= LIGHT]
        # Among heavy ones that nobody has compared, more work shows more.
        heavy = sorted((c for c in fitting if c.card.cost > LIGHT), key=lambda c: -c.card.cost)
        first, second = ([*heavy, *light], light) if accelerated else (light, heavy)
        best = list({c.name: c for c in (*_best(first), *_best(second))}.values())
        if wanted != AUTO:
            asked = self._asked_for(space, wanted)
            best = [asked, *(c for c in best if c.name != asked.name)]
        return [*best, _without_weights(_generic_kind(space), space)]

    def _asked_for(self, space: LatentSpace, wanted: str) -> Candidate:
        if wanted in WITHOUT_WEIGHTS:
            if wanted == PIXELS and space.channels != 3:
                raise UnknownDecoderError(
                    f"decoder {PIXELS} shows latents of 3 channels as they are, those of {space.title} ({space.name}) "
                    f"have {space.channels}. {self._advice(space)}"
                )
            return _without_weights(wanted, space)
        if wanted in KINDS:
            for candidate in self.of(space):
                if candidate.card.kind == wanted:
                    return candidate
            raise UnknownDecoderError(f"no {wanted} decoder for {space.title} ({space.name}). {self._advice(space)}")
        candidate = next((c for c in _shipped() if c.name == wanted), None) or self._user_file(wanted)
        if candidate is None:
            raise UnknownDecoderError(f"no decoder is called {wanted!r}. {self._advice(space)}")
        card = candidate.card
        if card.space not in (None, space.name) or card.channels not in (None, space.channels):
            raise UnknownDecoderError(
                f"decoder {wanted} decodes {card.space or 'latents'} of {card.channels} channels, "
                f"not {space.title} ({space.name}) of {space.channels}. {self._advice(space)}"
            )
        return candidate

    def _advice(self, space: LatentSpace) -> str:
        names = ", ".join(c.name for c in self.of(space)) or "none"
        folders = " or ".join(map(str, self._folders)) or "a decoder folder"
        return f"At hand for it: {names}. A decoder file put into {folders} is found by its content."

    def of(self, space: LatentSpace) -> list[Candidate]:
        """Decoders of `space`: its default, the others that ship, the user's."""
        shipped = [c for c in _shipped() if c.card.space == space.name]
        default = _default(space)
        shipped.sort(key=lambda c: c.name != default)
        return [*shipped, *(c for c in self._users() if _is_of(c.card, space))]

    def spaces(self) -> Spaces:
        """The latent spaces that Safelight knows, and those that a user's decoder files bring along.

        A row of a file is left out where one of ours has its name, or could not be told from it by what a host says.
        """
        rows = {space.name: space for space in SPACES}
        for candidate in self._users():
            row = candidate.card.latent_space
            if row is not None and row.name not in rows and not any(_alike(row, ours) for ours in SPACES):
                rows[row.name] = row
        return Spaces(tuple(rows.values()))

    def _users(self) -> Iterator[Candidate]:
        for name in self._files():
            try:
                candidate = self._user_file(name)
            except DecoderFileError as error:
                log.debug("%s", error)
            else:
                if candidate is not None:
                    yield candidate

    def _files(self) -> dict[str, Path]:
        """The user's files by their names."""
        files: dict[str, Path] = {}
        for folder in self._folders:
            for path in sorted(folder.glob("*")) if folder.is_dir() else ():
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    files.setdefault(path.name, path)
        return files

    def _user_file(self, name: str) -> Candidate | None:
        path = self._files().get(name)
        return path and Candidate(read_card(path), partial(read_decoder, path))


def _shipped() -> list[Candidate]:
    """What ships and is unaltered; a broken installation still has decoders without weights."""
    try:
        cards = shipped_cards(refused=lambda error: log.warning("%s", error))
    except DecoderFileError as error:
        log.warning("%s", error)
        return []
    return [Candidate(card, partial(open_shipped, card.name)) for card in cards]


def _default(space: LatentSpace) -> str | None:
    try:
        default = default_for(space.name)
    except DecoderFileError as error:
        log.warning("%s", error)
        return None
    return default and default[0]


def _is_of(card: Card, space: LatentSpace) -> bool:
    """Whether a user's file is a decoder of `space`; only where its content leaves that open, its name says so."""
    if card.space is not None:
        return card.space == space.name
    return card.channels == space.channels and card.name.lower().startswith(space.files)


def _best(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first, unless one behind it was measured to be better, and so on; none of none."""
    best = candidates[:1]
    for candidate in candidates[1:]:
        if (gain_db(candidate.card, best[0].card) or 0) > 0:
            best = [candidate]
    return list(best)


def _alike(row: LatentSpace, ours: LatentSpace) -> bool:
    shared = any(set(getattr(row, host)) & set(getattr(ours, host)) for host in ("comfyui", "invokeai", "diffusers"))
    told = Evidence(host="comfyui", channels=row.packed_channels, scale=row.scale, shift=row.shift)
    return shared and not contradictions(told, ours)


def _host_table(space: LatentSpace, evidence: Evidence | None) -> list[Candidate]:
    """The table that the host itself carries for a format."""
    if evidence is None or evidence.factors is None or len(evidence.factors) != space.channels:
        return []
    settings = {"channels": space.channels, "constant": evidence.bias is not None, "output_range": (-1.0, 1.0)}
    tensors = {"weight": evidence.factors} | ({} if evidence.bias is None else {"bias": evidence.bias})

    def open_table() -> Decoder:  # only now: a table that is none costs its user this decoder, not the others
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
        source=f"carried by {evidence.host}'s latent format {evidence.format_name}",
    )
    return [Candidate(card, open_table)]


def _generic_kind(space: LatentSpace) -> str:
    if space.dims == AUDIO:
        return "timeline"
    return PIXELS if space.name == PIXELS else "principal"


def _without_weights(kind: str, space: LatentSpace) -> Candidate:
    card = Card(name=kind, space=space.name, kind=kind, source=f"Safelight, decoders/{kind}.py")
    return Candidate(card, lambda: Decoder(card, build(kind, {}, {})))
