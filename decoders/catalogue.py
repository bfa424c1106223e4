"""Which decoder for which latents: "(space, what the user asked for) -> decoder"."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple, final

import torch

from ..errors import DecoderFileError, SafelightError, UnknownDecoderError
from .decoder import Card, Decoder
from .files.decoder_file import build, read_card, read_decoder
from .files.read_cache import FileStamp, read_cached
from .files.shipped import default_for, open_shipped, shipped_cards, shipped_file
from .files.tensor_file import SAFE, SUFFIXES
from .latents.identify import UNKNOWN, Evidence, contradictions
from .latents.space import AUDIO, LatentSpace, Spaces
from .latents.space_table import SPACES
from .nets.registry import KINDS
from .ranking import LIGHT, compare_scores, gain_db

Notify = Callable[[str], None]

AUTO = "auto"
PIXELS = "pixels"
WITHOUT_WEIGHTS = ("principal", PIXELS, "timeline")

log = logging.getLogger("safelight.decoders")


class Candidate(NamedTuple):
    """A decoder that may be used, opened only if it is.

    `file` is what it is opened from; None for one that is made anew, and that may remember what it was shown.
    """

    card: Card
    open: Callable[[], Decoder]
    file: Path | None = None

    @property
    def name(self) -> str:
        return self.card.name


class Choice(NamedTuple):
    """Whether a decoder is taken where nothing else is asked for: on a CPU, on something faster; and why."""

    card: Card
    auto: bool
    auto_accelerated: bool
    why: str


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

    def fingerprint(self, wanted: str) -> str:
        """Another one whenever `wanted` may mean another decoder: a user's file came, went, or changed."""
        if any(c.name == wanted for c in _shipped()):
            return wanted
        stamps: list[FileStamp] = []
        for path in self._files().values():
            with suppress(OSError):  # it went while we looked
                stamps.append(FileStamp.of(path))
        return repr((wanted, stamps))

    def candidates(
        self,
        space: LatentSpace,
        wanted: str = AUTO,
        *,
        accelerated: bool = False,
        evidence: Evidence | None = None,
        notify: Notify = lambda _: None,
    ) -> list[Candidate]:
        """Decoders of `space`, best first; the last one always works.

        Args:
            space: of the latents.
            wanted: one of `names()`.
            accelerated: whether the latents are on something faster than a CPU, so that more than `LIGHT` work pays.
            evidence: what the host knows; its own table serves a space that nothing at hand decodes.
            notify: receives a message for the user if shipped decoders are missing or changed.

        Raises:
            UnknownDecoderError: there is no such decoder, or it is one of another space.
            DecoderFileError: the file that was asked for by name is not a decoder.
        """
        automatic = [
            *_ranked([*self.of(space, notify), *_host_table(space, evidence)], accelerated),
            last_resort(space),
        ]
        return self._put_first(space, wanted, automatic)

    def candidates_or_auto(
        self,
        space: LatentSpace,
        wanted: str = AUTO,
        *,
        preferred: str = AUTO,
        accelerated: bool = False,
        evidence: Evidence | None = None,
        notify: Notify,
    ) -> list[Candidate]:
        """Returns the same as `candidates`, but ranks all decoders automatically if the requested one is unavailable.

        Args:
            space: latent space of the latents.
            wanted: decoder that the user chose for this run, one of `names()`.
            preferred: decoder to use if `wanted` is `auto`, from the user's settings. It may not suit every space, so
                its absence is not reported.
            accelerated: as in `candidates`.
            evidence: as in `candidates`.
            notify: receives a message for the user if `wanted` is unavailable, or if shipped decoders are missing or
                changed.
        """
        automatic = self.candidates(space, accelerated=accelerated, evidence=evidence, notify=notify)
        try:
            return self._put_first(space, preferred if wanted == AUTO else wanted, automatic)
        except SafelightError as error:
            if wanted != AUTO:
                notify(f"{str(error).rstrip('.')}. Chosen automatically instead.")
            return automatic

    def _put_first(self, space: LatentSpace, wanted: str, automatic: list[Candidate]) -> list[Candidate]:
        if wanted == AUTO:
            return automatic
        requested = self._asked_for(space, wanted)
        *others, last = automatic
        return [requested, *(c for c in others if c.name != requested.name), last]

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
        candidate = next((c for c in _shipped() if c.name == wanted), None) or self._named(wanted)
        if candidate is None:
            raise UnknownDecoderError(f"no decoder is called {wanted!r}. {self._advice(space)}")
        card = candidate.card
        if card.scale > space.downscale:
            raise UnknownDecoderError(
                f"decoder {wanted} enlarges {card.scale} times, the VAE of {space.title} ({space.name}) "
                f"{space.downscale}: it is no decoder of these latents. {self._advice(space)}"
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
        return f"At hand for it: {names}. A decoder file put into {folders} is found by its content."

    def of(self, space: LatentSpace, notify: Notify = lambda _: None) -> list[Candidate]:
        """Decoders of `space`: its default, the others that ship, the user's. `tell` as for `candidates`."""
        return _of(space, _shipped(notify), self._users())

    def choices(self) -> list[Choice]:
        """Of every decoder that has weights: whether it is taken where nothing else is asked for, and why."""
        shipped, users, spaces = _shipped(), list(self._users()), self.spaces()
        found: dict[int, Choice] = {}  # by the card itself: two files may call themselves the same
        for space in spaces:
            found |= {id(choice.card): choice for choice in _choices(space, _of(space, shipped, users))}
        return [found.get(id(c.card)) or _never(c.card, spaces) for c in (*shipped, *users)]

    def spaces(self) -> Spaces:
        """The latent spaces that Safelight knows, and those that a user's decoder files bring along.

        A row of a file is left out where one of ours has its name, or could not be told from it by what a host says.
        """
        rows = {space.name: space for space in SPACES}
        for candidate in self._users(SAFE):  # no other file has room for a row, and some are read whole to be told
            row = candidate.card.latent_space
            if row is None or row.name in (*rows, UNKNOWN):
                continue
            if like := next((known for known in rows.values() if _alike(row, known)), None):
                log.debug("latent space %s of %s is told as %s is: left out", row.name, candidate.name, like.name)
            else:
                rows[row.name] = row
        return Spaces(tuple(rows.values()))

    def _users(self, suffixes: Sequence[str] = SUFFIXES) -> Iterator[Candidate]:
        for path in self._files().values():
            if path.suffix.lower() not in suffixes:
                continue
            try:
                yield _user(path)
            except DecoderFileError as error:
                log.debug("%s", error)

    def _files(self) -> dict[str, Path]:
        """The user's files by their names."""
        files: dict[str, Path] = {}
        for folder in self._folders:
            for path in sorted(folder.glob("*")) if folder.is_dir() else ():
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    files.setdefault(path.name, path)
        return files

    def _named(self, name: str) -> Candidate | None:
        """The user's file of this name, else the decoder that calls itself so."""
        path = self._files().get(name)
        return _user(path) if path else next((c for c in self._users() if c.name == name), None)


def _user(path: Path) -> Candidate:
    return Candidate(read_cached(read_card, path), partial(read_decoder, path), path)


def _shipped(notify: Notify = lambda _: None) -> list[Candidate]:
    """What ships and is unaltered; a broken installation still has decoders without weights."""
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
    """Whether a user's file is a decoder of `space`; only where its content leaves that open, its name says so."""
    if card.channels not in (None, space.channels) or space.name == UNKNOWN or card.scale > space.downscale:
        return False
    if card.space is not None:
        # Two files may bring different rows of one name: a decoder of the other's numbers would lie.
        return card.space == space.name and (card.latent_space or space).values == space.values
    return card.channels is not None and card.name.lower().startswith(space.files)


def _ranked(fitting: Sequence[Candidate], accelerated: bool) -> list[Candidate]:
    """Those of `fitting` to try one after the other, where nothing else is asked for."""
    light = [c for c in fitting if c.card.cost <= LIGHT]
    # Among heavy ones that nobody has compared, more work shows more.
    heavy = sorted((c for c in fitting if c.card.cost > LIGHT), key=lambda c: -c.card.cost)
    first, second = ([*heavy, *light], light) if accelerated else (light, heavy)
    ranked: dict[str, Candidate] = {}
    for candidate in (*_best(first), *_best(second)):
        ranked.setdefault(candidate.name, candidate)
    return list(ranked.values())


def _best(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first, unless one behind it was measured to be better, and so on; none of none."""
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
            why = _why_taken(card, None if card is slow else slow, cards)
        else:
            why = _why_not(card, slow, fast)
        yield Choice(card, card is slow, card is fast, why)


def _why_taken(card: Card, instead_of: Card | None, cards: Sequence[Card]) -> str:
    """`instead_of` is what a CPU takes, where that is another."""
    others = [other for other in cards if other is not card]
    if not others:
        return "the only one at hand"
    others.sort(key=lambda other: other is not instead_of)
    beaten = next((c.against(o.name) for o in others if (c := compare_scores(card, o)) and c.gain_db > 0), None)
    if instead_of is None:
        return beaten or "the first at hand; nobody has compared it with the others"
    return f"where more than a CPU decodes: {beaten or f'more work than {instead_of.name}; nobody has compared them'}"


def _why_not(card: Card, slow: Card, fast: Card) -> str:
    heavy = card.cost > LIGHT
    rival = fast if heavy else slow
    comparison = compare_scores(card, rival)
    measured = comparison.against(rival.name) if comparison else f"not measured beside {rival.name}"
    return f"heavier than a CPU does in passing; {measured}" if heavy else measured


def _never(card: Card, spaces: Spaces) -> Choice:
    if card.space is None:
        why = "its content fits several latent spaces and its name tells none: only when it is asked for by name"
    elif card.space in spaces and card.scale > spaces[card.space].downscale:
        why = f"it enlarges {card.scale} times, the VAE of {card.space} {spaces[card.space].downscale}"
    elif card.space not in spaces:
        why = f"no latent space is known as {card.space!r}, and the file brings no row of it that can be taken"
    else:
        why = f"its numbers are not those of latent space {card.space}"
    return Choice(card, False, False, why)


def _alike(row: LatentSpace, known: LatentSpace) -> bool:
    """Whether a host that means `known` could also mean `row`, by what it says at least."""
    for host in ("comfyui", "invokeai", "diffusers"):
        if not set(getattr(row, host)) & set(getattr(known, host)):
            continue
        for channels in {known.channels, known.packed_channels}:
            told = Evidence(host=host, channels=channels)
            if host == "comfyui":  # its formats have a scale, and where it is not 0, a shift
                told = Evidence(host=host, channels=channels, scale=known.scale, shift=known.shift or None)
            if not contradictions(told, row):
                return True
    return False


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


def last_resort(space: LatentSpace) -> Candidate:
    """What shows latents of `space` where nothing else does: it needs no file."""
    return _without_weights(_generic_kind(space), space)


def _without_weights(kind: str, space: LatentSpace) -> Candidate:
    card = Card(name=kind, space=space.name, kind=kind, source=f"Safelight, decoders/{kind}.py")
    return Candidate(card, lambda: Decoder(card, build(kind, {}, {})))
