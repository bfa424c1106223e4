"""Reads and writes decoder files, without running code from them.

Our files are safetensors whose metadata is the decoder's card: texts as they are, structures as JSON, and `format`.
`published_formats` recognizes the files of others.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import torch

from ...errors import DecoderFileError, EncoderFileError, MisshapenFileError, brief
from ..decoder import IMAGE_ID_DIGITS, Card, Decoder
from ..latents.space import LatentSpace
from ..nets.base import Net
from ..nets.registry import KINDS
from .flat_layers import EncoderLayersError
from .published_formats import TITLES, recognize
from .tensor_file import SAFETENSORS_SUFFIXES, Metadata, Tensors, open_tensors, write_tensors

DECODER_FORMAT_PREFIX = "safelight.decoder/"
DECODER_FORMAT = f"{DECODER_FORMAT_PREFIX}1"

CARD_TEXTS = ("name", "space", "kind", "source", "fitted_on", "vae", "licence", "notes")
REQUIRED_CARD_TEXTS = ("name", "kind", "source")
CARD_STRUCTURES = ("settings", "metrics")
SPACE_ROW, IMAGE_IDS = "latent_space", "image_ids"
IMAGE_ID = re.compile(f"[0-9a-f]{{{IMAGE_ID_DIGITS}}}")
MAX_IMAGE_IDS = 200_000  # of more images none are written: the header of a file is limited
MAX_CARD_NAME, MAX_CARD_TEXT = 200, 20_000  # characters; names appear in lists and captions, texts on pages
MAX_CARD_STRUCTURE = 100_000  # characters; lists of lists need thirty times the memory, and cards stay in memory
MAX_CARD_NESTING = 8  # levels of a structure, so that recursive code does not exhaust the stack


def read_card(path: Path, content: bytes | None = None) -> Card:
    """Reads the card of a decoder file; of a safetensors file only the header is read.

    Args:
        path: path of the file.
        content: bytes of a safetensors file, if already read; `path` then only appears in messages.

    Raises:
        DecoderFileError: the file is missing, broken, too large, or not a decoder; some reasons have a subclass.
    """
    return _read(path, content, values=False)[0]


def read_decoder(path: Path, content: bytes | None = None) -> Decoder:
    """Reads the decoder of a file, on the CPU, in float32; arguments as for `read_card`.

    Raises:
        DecoderFileError: as for `read_card`; or a tensor contains values that are not finite.
    """
    return _decoder(path, *_read(path, content, values=True))


def decoder_of(name: str, tensors: Tensors) -> Decoder:
    """Creates a decoder, on the CPU, from the state dict of a model that others publish, such as TAESD.

    Args:
        name: name of the decoder.
        tensors: state dict; it is copied.

    Raises:
        DecoderFileError: Safelight knows no decoder with these tensors.
    """
    path = PurePath(name)
    return _decoder(path, *_described(path, {}, {key: tensor.detach().cpu() for key, tensor in tensors.items()}))


def _decoder(path: PurePath, card: Card, state: Tensors) -> Decoder:
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            raise MisshapenFileError(
                f"{path}: tensor {brief(key)} should contain floating point numbers, but contains {tensor.dtype}; "
                "download the file again"
            )
        if not torch.isfinite(tensor.float()).all():
            raise MisshapenFileError(
                f"{path}: tensor {brief(key)} contains values that are not finite; download the file again"
            )
    return Decoder(card, build(card.kind, card.settings, state))


def write_decoder(path: Path, card: Card, state: Tensors) -> None:
    """Writes a decoder file, first under a temporary name, so that `path` is never half written.

    Raises:
        DecoderFileError: `path` does not have a safetensors suffix.
        OSError: the file cannot be written.
    """
    if path.suffix.lower() not in SAFETENSORS_SUFFIXES:
        raise DecoderFileError(f"{path}: expected an output file that ends in {' or '.join(SAFETENSORS_SUFFIXES)}")
    metadata = {"format": DECODER_FORMAT}
    metadata |= {key: value for key in CARD_TEXTS if (value := getattr(card, key)) is not None}
    metadata |= {key: json.dumps(dict(getattr(card, key)), sort_keys=True) for key in CARD_STRUCTURES}
    if card.image_ids is not None and len(card.image_ids) <= MAX_IMAGE_IDS:
        metadata[IMAGE_IDS] = " ".join(sorted(card.image_ids))
    if card.latent_space:
        metadata[SPACE_ROW] = json.dumps(card.latent_space.facts(), sort_keys=True)
    write_tensors(path, state, metadata)


def build(kind: str, settings: Mapping[str, Any], state: Tensors) -> Net:
    """Creates a net of this kind with these tensors; some kinds have none.

    Args:
        kind: name in `KINDS`.
        settings: arguments of the kind's class, and `output_range` if the weights output another range than 0..1.
        state: tensors by the keys of the kind's class.

    Raises:
        ValueError: as for `blank`.
        RuntimeError: the tensors do not fit the kind and its settings.
    """
    # Leaves the caller's inference mode, because tensors from it could not be used outside.
    with torch.inference_mode(False):
        net = blank(kind, settings)
        net.load_state_dict({key: tensor.float().clone() for key, tensor in state.items()}, assign=True)
        if "output_range" in settings:
            net.rescale(*settings["output_range"])
        return net


def blank(kind: str, settings: Mapping[str, Any]) -> Net:
    """Creates a net of this kind whose tensors have shapes only, on the device "meta".

    Raises:
        ValueError: the kind is unknown, or the settings are invalid.
    """
    if kind not in KINDS:
        raise ValueError(f"expected a kind among {', '.join(KINDS)}, got {brief(kind)}; a newer Safelight may have it")
    # On "meta" no random weights are drawn, which would change the global random state of a run.
    with torch.device("meta"):
        net = KINDS[kind](**{key: value for key, value in settings.items() if key != "output_range"})
    if net.channels is not None and (type(net.channels) is not int or net.channels < 1):
        raise ValueError(f"expected channels as an integer of at least 1, got {brief(net.channels)}")
    if "output_range" in settings:
        black, white = settings["output_range"]
        if type(net).rescale is Net.rescale or not 0 < abs(white - black) < math.inf:
            raise ValueError(
                f"expected no output_range, or two different numbers, got {brief(settings['output_range'])}"
            )
    return net


def _read(path: Path, content: bytes | None, *, values: bool) -> tuple[Card, Tensors]:
    """Reads the card, and the tensors under the keys of the kind; without `values` these have only a shape."""
    return _described(path, *open_tensors(path, content, values=values))


def _described(path: PurePath, metadata: Metadata, tensors: Tensors) -> tuple[Card, Tensors]:
    """The card for the metadata and tensors of a file, and the tensors under the keys of the kind."""
    ours = metadata.get("format", "").startswith(DECODER_FORMAT_PREFIX)
    card, state = (_ours if ours else _theirs)(path, metadata, tensors)
    try:
        net = blank(card.kind, card.settings)
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise DecoderFileError(
            f"{path}: cannot create a decoder of kind {brief(card.kind)} with settings {brief(dict(card.settings))}: "
            f"{brief(error, 300)}"
        ) from None
    row = card.latent_space
    if row and net.channels not in (None, row.channels):
        raise DecoderFileError(
            f"{path}: decodes {net.channels} channels, but contains the row of a space of {row.channels}"
        )
    _expect_shapes(path, {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}, state)
    parameters = sum(tensor.numel() for tensor in state.values())
    return replace(card, channels=net.channels, scale=net.scale, parameters=parameters, cost=net.cost), state


def _ours(path: PurePath, metadata: Metadata, tensors: Tensors) -> tuple[Card, Tensors]:
    if metadata["format"] != DECODER_FORMAT:
        raise DecoderFileError(
            f"{path}: expected format {DECODER_FORMAT}, got {brief(metadata['format'])}; a newer Safelight wrote it: "
            "update"
        )
    try:
        fields: dict[str, Any] = {key: metadata.get(key) for key in CARD_TEXTS}
        fields |= {key: metadata[key] for key in REQUIRED_CARD_TEXTS}
        _expect_texts(fields)
        fields |= {key: _structure(metadata[key]) for key in CARD_STRUCTURES}
        if IMAGE_IDS in metadata:
            fields[IMAGE_IDS] = _image_ids(metadata[IMAGE_IDS])
        if SPACE_ROW in metadata:
            fields[SPACE_ROW] = LatentSpace.from_facts(_structure(metadata[SPACE_ROW]))
            if fields[SPACE_ROW].name != fields["space"]:
                raise ValueError(f"its space is {fields['space']}, but it contains the row of {fields[SPACE_ROW].name}")
        return Card(**fields), tensors
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DecoderFileError(f"{path}: the card in its metadata cannot be read: {repr(error)[:300]}") from None


def _expect_texts(fields: Mapping[str, str | None]) -> None:
    """Raises `ValueError` for texts that cannot be displayed, because the file may come from anywhere."""
    for key, text in fields.items():
        if text is not None and len(text) > MAX_CARD_TEXT:
            raise ValueError(f"expected {key} of at most {MAX_CARD_TEXT:,} characters, got {len(text):,}")
    for key in ("name", "space"):
        text = fields[key]
        if text is not None and not (text.isprintable() and 0 < len(text) <= MAX_CARD_NAME):
            raise ValueError(f"expected {key} as one line of 1 to {MAX_CARD_NAME} characters, got {brief(text)}")


def _image_ids(text: str) -> frozenset[str]:
    ids = frozenset(text.split())
    if wrong := next((one for one in ids if not IMAGE_ID.fullmatch(one)), None):
        raise ValueError(f"expected ids of images with {IMAGE_ID_DIGITS} hexadecimal digits, got {brief(wrong)}")
    return ids


def _structure(text: str) -> dict[str, Any]:
    if len(text) > MAX_CARD_STRUCTURE:
        raise ValueError(f"expected structures of at most {MAX_CARD_STRUCTURE:,} characters, got {len(text):,}")
    structure = dict(json.loads(text))
    if not _is_shallow(structure, MAX_CARD_NESTING):
        raise ValueError(f"expected structures of at most {MAX_CARD_NESTING} levels")
    return structure


def _is_shallow(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    return levels > 0 and all(
        _is_shallow(item, levels - 1) for item in (value.values() if isinstance(value, dict) else value)
    )


def _theirs(path: PurePath, _: Metadata, tensors: Tensors) -> tuple[Card, Tensors]:
    kind, reason, found = DecoderFileError, "", None
    try:
        found = recognize(path.name, {key: tuple(tensor.shape) for key, tensor in tensors.items()})
    except ValueError as error:
        kind = EncoderFileError if isinstance(error, EncoderLayersError) else DecoderFileError
        reason = f" It looks like one, but {error}."
    if found is None:
        keys = ", ".join(map(brief, list(tensors)[:4])) or "none"
        raise kind(
            f"{path}: not a decoder that Safelight knows.{reason} Expected its own format, or {', '.join(TITLES)}; "
            f"found tensors {keys}; choose another file (an encoder is not a decoder)"
        )
    card = Card(
        name=path.name,
        space=found.space,
        kind=found.kind,
        settings=found.settings,
        source=f"user's file, recognized as {found.title}",
        recognized=True,
    )
    return card, {ours: found.reshape(tensors[theirs]) for theirs, ours in found.keys.items() if theirs in tensors}


def _expect_shapes(path: PurePath, expected: Mapping[str, tuple[int, ...]], state: Tensors) -> None:
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    if shapes != expected:
        wrong = sorted(key for key in shapes.keys() | expected.keys() if shapes.get(key) != expected.get(key))
        raise MisshapenFileError(
            f"{path}: tensor {brief(wrong[0])} should have shape {expected.get(wrong[0], 'none: it is not needed')}, "
            f"has {shapes.get(wrong[0], 'none: it is missing')} (and {len(wrong) - 1} more like it); "
            "download the file again"
        )
