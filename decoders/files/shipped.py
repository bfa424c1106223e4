"""Opens the decoders that ship in `weights`, after a check of each file against the manifest.

The bytes that are hashed are the bytes that are parsed. Cards are cached while their files are unchanged.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ...errors import AlteredFileError, DecoderFileError, UnknownDecoderError
from ..decoder import Card, Decoder
from .decoder_file import DECODER_FORMAT_PREFIX, read_card, read_decoder
from .read_cache import FolderStamp, read_cached
from .tensor_file import open_tensors

WEIGHTS = Path(__file__).parents[2] / "weights"
MANIFEST = "MANIFEST.sha256"
DEFAULTS_FILE = "defaults.json"
SUFFIX = ".safetensors"
REMEDY = "reinstall Safelight"

OnRefused = Callable[[DecoderFileError], None]


def shipped_cards(folder: Path = WEIGHTS, *, refused: OnRefused | None = None) -> list[Card]:
    """Returns the cards of all shipped decoders, sorted by name.

    Args:
        folder: folder with the shipped files.
        refused: receives the error of each file that is missing or changed, and the file is left out; if None, the
            error is raised.

    Raises:
        DecoderFileError: as for `shipped_bytes`.
    """
    cards: list[Card] = []
    for found in read_cached(_cards, folder, stamp_of=FolderStamp.of):  # each run asks for them
        if isinstance(found, Card):
            cards.append(found)
        elif refused is None:
            raise found
        else:
            refused(found)
    return cards


def open_shipped(name: str, folder: Path = WEIGHTS) -> Decoder:
    """Opens the shipped decoder of this name, on the CPU.

    Raises:
        UnknownDecoderError: no shipped decoder has this name.
        DecoderFileError: as for `shipped_bytes`.
    """
    return read_decoder(shipped_file(name, folder), shipped_bytes(f"{name}{SUFFIX}", folder))


def shipped_file(name: str, folder: Path = WEIGHTS) -> Path:
    """Returns the path of the shipped decoder of this name, which need not exist."""
    return folder / f"{name}{SUFFIX}"


def shipped_bytes(name: str, folder: Path = WEIGHTS) -> bytes:
    """Returns the verified content of the file of this name in `weights`.

    Raises:
        UnknownDecoderError: the file does not exist.
        AlteredFileError: the file differs from its entry in the manifest, or has no entry.
        DecoderFileError: the file or the manifest cannot be read.
    """
    manifest = read_manifest(folder)
    # The name may come from an HTTP request, so it must be a known name before it becomes part of a path.
    if name not in manifest and name not in _present(folder):
        known = ", ".join(file.removesuffix(SUFFIX) for file in sorted(manifest))
        raise UnknownDecoderError(f"no shipped decoder is named {name.removesuffix(SUFFIX)!r}; there are: {known}")
    return _verified(folder / name, manifest.get(name))


def default_for(space: str, folder: Path = WEIGHTS) -> tuple[str, str] | None:
    """Returns the name of the default decoder of this space, with the reason; None for a space without a default.

    Raises:
        DecoderFileError: the list of defaults cannot be read.
    """
    return read_cached(_defaults, folder / DEFAULTS_FILE).get(space)


def remark_on(decoder: str, folder: Path = WEIGHTS) -> str | None:
    """Returns what a user must know before choosing a shipped decoder; None if that is nothing."""
    try:
        return read_cached(_remarks, folder / DEFAULTS_FILE).get(decoder)
    except DecoderFileError:  # `default_for` reports it
        return None


def _remarks(path: Path) -> dict[str, str]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8")).values()
        return {str(name): str(text) for row in rows for name, text in row.get("remarks", {}).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise DecoderFileError(f"{path}: cannot be read ({error})") from None


def _defaults(path: Path) -> dict[str, tuple[str, str]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8")).items()
        return {space: (row["decoder"], row["why"]) for space, row in rows}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise DecoderFileError(f"{path}: cannot be read ({error}), so no decoder is the default; {REMEDY}") from None


def read_manifest(folder: Path = WEIGHTS) -> Mapping[str, str]:
    """Reads the manifest, in the format of `sha256sum`: from file name to sha256.

    Raises:
        DecoderFileError: the manifest is missing or invalid.
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
        raise DecoderFileError(f"{path}: expected lines with a sha256 and a file name; {REMEDY}")
    return {name.removeprefix("*"): digest for digest, name in rows}


def _cards(folder: Path) -> list[Card | DecoderFileError]:
    """The card of each decoder, or the error of a file that is missing or changed."""
    manifest = read_manifest(folder)
    found: list[Card | DecoderFileError] = []
    for name in sorted(manifest.keys() | _present(folder)):
        try:
            card = read_cached(_card, folder / name, manifest.get(name))
        except DecoderFileError as error:
            found.append(type(error)(str(error)))  # without its traceback, whose frames hold the file's content
        else:
            found += [card] if card else []
    return found


def _card(path: Path, digest: str | None) -> Card | None:
    """Reads a card; returns None for a shipped file that is not a decoder, such as sample latents."""
    content = _verified(path, digest)
    ours = open_tensors(path, content, values=False)[0].get("format", "").startswith(DECODER_FORMAT_PREFIX)
    return read_card(path, content) if ours else None


def _verified(path: Path, expected: str | None) -> bytes:
    if expected is None:
        raise AlteredFileError(
            f"{path}: did not ship with Safelight: {MANIFEST} has no entry for it. "
            "Move your own decoders to your own decoder folder"
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
