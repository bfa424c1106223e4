"""Describes the decoders of a latent space in a few words, for a list to choose from."""

from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import NamedTuple

from .catalogue import FAST, FINE, Catalogue
from .decoder import Card
from .files.shipped import remark_on
from .files.tensor_file import TENSOR_SUFFIXES
from .latents.space import LatentSpace

OURS = "Safelight"  # begin of the source of what was fitted for this package
TABLE = "published table"
KIND_WORDS = {
    "polynomial": "closed form",
    "mlp": "net of single pixels",
    "conv": "net",
    "tiny": "tiny decoder",
    "tiny_video": "tiny video decoder",
    "approx": "net",
}


class Described(NamedTuple):
    """A decoder that a user can choose by its name, and what it is in words."""

    name: str
    words: str


def describe_decoders(catalogue: Catalogue, space: LatentSpace) -> list[Described]:
    """Returns the decoders of `space`, those that `fast` and `fine` mean first."""
    first = {word: catalogue.candidates(space, word)[0].name for word in (FAST, FINE)}
    cards = [candidate.card for candidate in catalogue.of(space)]
    cards.sort(key=lambda card: card.name not in first.values())
    return [Described(card.name, " · ".join(_parts(card, space, first))) for card in cards]


def _parts(card: Card, space: LatentSpace, first: dict[str, str]) -> Iterator[str]:
    """The parts of the description: short name, kind, the words that mean the decoder, a remark."""
    name = PurePath(card.name)
    yield (name.stem if name.suffix in TENSOR_SUFFIXES else card.name).removeprefix(f"{space.name}-").replace("-", " ")
    is_table = card.kind == "polynomial" and not card.source.startswith(OURS)
    yield TABLE if is_table else KIND_WORDS.get(card.kind, card.kind)
    if words := [word for word, decoder in first.items() if decoder == card.name]:
        yield " and ".join(words)
    if remark := remark_on(card.name):
        yield remark


def decoder_labels(names: Iterable[str]) -> dict[str, str]:
    """Returns a label for each name in a list of decoders of all latent spaces: the name, and a remark on some."""
    return {name: f"{name}: {remark}" if (remark := remark_on(name)) else name for name in names}
