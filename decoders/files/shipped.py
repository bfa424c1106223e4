"""The decoders that ship in `weights`, each file compared with the manifest before it is opened.

What is hashed is what is opened. A card is kept while its file is as it was.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ...errors import AlteredFileError, DecoderFileError, UnknownDecoderError
from ..decoder import Card, Decoder
from .decoder_file import FAMILY, read_card, read_decoder
from .read_cache import read_cached
from .tensor_file import open_tensors

WEIGHTS = Path(__file__).parents[2] / "weights"
MANIFEST = "MANIFEST.sha256"
DEFAULTS = "defaults.json"
SUFFIX = ".safetensors"
REMEDY = "reinstall Safelight"

Refused = Callable[[DecoderFileError], None]


def shipped_cards(folder: Path = WEIGHTS, *, refused: Refused | None = None) -> list[Card]:
    """The cards of all decoders that ship, by name.

    Args:
        folder: where they are.
        refused: told of each file that may not be opened, which is then left out.

    Raises:
        DecoderFileError: as `shipped_bytes`, where nobody is told instead.
    """
    manifest = read_manifest(folder)
    cards: list[Card] = []
    for name in sorted(manifest.keys() | _present(folder)):
        try:
            card = read_cached(_card, folder / name, manifest.get(name))
        except DecoderFileError as error:
            if refused is None:
                raise
            refused(error)
        else:
            cards += [card] if card else []
    return cards


def open_shipped(name: str, folder: Path = WEIGHTS) -> Decoder:
    """The decoder that ships under this name, on the CPU.

    Raises:
        UnknownDecoderError: none does.
        DecoderFileError: as `shipped_bytes`.
    """
    return read_decoder(shipped_file(name, folder), shipped_bytes(f"{name}{SUFFIX}", folder))


def shipped_file(name: str, folder: Path = WEIGHTS) -> Path:
    """Where the decoder lies that ships under this name, if one does."""
    return folder / f"{name}{SUFFIX}"


def shipped_bytes(name: str, folder: Path = WEIGHTS) -> bytes:
    """The content of the file of this name in `weights`, verified.

    Raises:
        UnknownDecoderError: there is no such file.
        AlteredFileError: its bytes are not those in the manifest, or the manifest does not have it.
        DecoderFileError: it, or the manifest, cannot be read.
    """
    manifest = read_manifest(folder)
    # The name may come from a request: it is looked up, never joined to a path unseen.
    if name not in manifest and name not in _present(folder):
        known = ", ".join(file.removesuffix(SUFFIX) for file in sorted(manifest))
        raise UnknownDecoderError(f"no decoder that ships is named {name.removesuffix(SUFFIX)!r}; there are: {known}")
    return _verified(folder / name, manifest.get(name))


def default_for(space: str, folder: Path = WEIGHTS) -> tuple[str, str] | None:
    """The name of the decoder to take for this space where nothing else is asked for, with the reason.

    Raises:
        DecoderFileError: the list of defaults cannot be read.
    """
    path = folder / DEFAULTS
    try:
        row = json.loads(path.read_text(encoding="utf-8")).get(space)
        return (row["decoder"], row["why"]) if row else None
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise DecoderFileError(f"{path}: cannot be read ({error}), so no decoder is the default; {REMEDY}") from None


def read_manifest(folder: Path = WEIGHTS) -> Mapping[str, str]:
    """File name to sha256, as `sha256sum` writes it.

    Raises:
        DecoderFileError: there is no manifest, or it is not one.
    """
    path = folder / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DecoderFileError(
            f"{path}: cannot be read ({error}), so nothing in {folder} is opened; {REMEDY}"
        ) from None
    rows = [line.split(maxsplit=1) for line in lines if line.strip()]
    if any(len(row) != 2 or len(row[0]) != 64 for row in rows):
        raise DecoderFileError(f"{path}: expected lines of a sha256 with a file name behind it; {REMEDY}")
    return {name.removeprefix("*"): digest for digest, name in rows}


def _card(path: Path, digest: str | None) -> Card | None:
    """None for what ships without being a decoder: latents to try decoders on."""
    content = _verified(path, digest)
    ours = open_tensors(path, content, values=False)[0].get("format", "").startswith(FAMILY)
    return read_card(path, content) if ours else None


def _verified(path: Path, expected: str | None) -> bytes:
    if expected is None:
        raise AlteredFileError(
            f"{path}: did not ship with Safelight: {MANIFEST} does not have it. "
            "Decoders of your own belong in your own decoder folder"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DecoderFileError(
            f"{path}: shipped with Safelight, but cannot be read: {error.strerror}; {REMEDY}"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise AlteredFileError(
            f"{path}: is not the file that shipped: expected sha256 {expected}, got {digest} "
            f"({len(content):,} bytes); {REMEDY}"
        )
    return content


def _present(folder: Path) -> set[str]:
    return {path.name for path in folder.glob(f"*{SUFFIX}")}
