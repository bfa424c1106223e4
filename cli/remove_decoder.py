"""Removes a decoder file of the user."""

from collections.abc import Sequence
from pathlib import Path

from ..decoders.catalogue import Catalogue
from ..decoders.decoder import Card
from ..decoders.files.decoder_file import read_card
from ..decoders.files.tensor_file import TENSOR_SUFFIXES
from ..errors import DecoderFileError, UnknownDecoderError
from ..fitting.online.state import ONLINE_SOURCE


def remove_decoder(name: str, folders: Sequence[Path]) -> tuple[Path, Card]:
    """Removes a decoder file.

    Args:
        name: name of the file, or of the decoder in it.
        folders: folders with the user's decoders. Only files in them are removed, not those in folders inside them.

    Returns:
        The path that was removed, and its card.

    Raises:
        UnknownDecoderError: none of the folders has such a decoder, or several files have this name.
        OSError: the file cannot be removed.
    """
    cards = {path: card for folder in folders for path in sorted(folder.glob("*")) if (card := _card(path))}
    found = [path for path, card in cards.items() if name in (path.name, card.name)]
    # Two files may contain the same name: then the name of a file decides.
    found = [path for path in found if path.name == name] or found
    if len(found) == 1:
        found[0].unlink()
        return found[0], cards[found[0]]
    if found:
        raise UnknownDecoderError(
            f"expected the name of one decoder file, but {name!r} is in {' and '.join(map(str, found))}: give the "
            "name of the file, and only its folder"
        )
    if any(card.name == name for card in Catalogue().all()):
        raise UnknownDecoderError(f"decoder {name!r} ships with Safelight and is not removed; choose another one")
    where = " or ".join(map(str, folders)) or "a folder: give it with --folder DIR"
    names = ", ".join(path.name for path in cards) or "none"
    raise UnknownDecoderError(f"expected the name of a decoder file in {where}, got {name!r}; there are: {names}")


def is_learned(card: Card) -> bool:
    """Whether online learning wrote the decoder, and will write it again."""
    return card.source == ONLINE_SOURCE and card.vae is not None


def _card(path: Path) -> Card | None:
    """The card of a decoder file; None for any other file, which is never removed."""
    if path.suffix.lower() not in TENSOR_SUFFIXES or not path.is_file():
        return None
    try:
        return read_card(path)
    except DecoderFileError:
        return None
