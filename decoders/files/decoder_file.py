"""Decoder files, read without running any code that is in them.

Ours are safetensors whose metadata is the decoder's card: texts as they are, structures as JSON, and `format`.
What others publish is told by `foreign`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...errors import DecoderFileError, MisshapenFileError, brief
from ..decoder import Card, Decoder
from ..latents.space import LatentSpace
from ..nets.base import Net
from ..nets.registry import KINDS
from .published_formats import PUBLISHED_FORMATS, recognize_format
from .tensor_file import SAFE, Metadata, Tensors, open_tensors, write_tensors

FAMILY = "safelight.decoder/"
FORMAT = f"{FAMILY}1"

TEXTS = ("name", "space", "kind", "source", "fitted_on", "licence", "notes")
REQUIRED = ("name", "kind", "source")
STRUCTURES = ("settings", "metrics")
ROW = "latent_space"
MAX_NAME, MAX_TEXT = 200, 20_000  # characters: a name stands in lists and captions, of the others pages are written
MAX_NESTING = 8  # of a structure: whoever compares, copies or prints it need not fear for the stack


def read_card(path: Path, content: bytes | None = None) -> Card:
    """The card of a decoder file; of a safetensors file only the header is read.

    Args:
        path: the file.
        content: the bytes of a safetensors file that was read already; nothing is read then, `path` is only told.

    Raises:
        DecoderFileError: the file is missing, broken, too large, or no decoder; with a subclass for each reason.
    """
    return _read(path, content, values=False)[0]


def read_decoder(path: Path, content: bytes | None = None) -> Decoder:
    """The decoder in a file, on the CPU, in float32; arguments as of `read_card`.

    Raises:
        DecoderFileError: as `read_card`; or a tensor holds values that are not finite numbers.
    """
    card, state = _read(path, content, values=True)
    for key, tensor in state.items():
        if not tensor.is_floating_point():
            raise MisshapenFileError(
                f"{path}: tensor {brief(key)} should hold floating point numbers, holds {tensor.dtype}; "
                "get the file anew"
            )
        if not torch.isfinite(tensor.float()).all():
            raise MisshapenFileError(f"{path}: tensor {brief(key)} holds values that are not finite; get the file anew")
    return Decoder(card, build(card.kind, card.settings, state))


def write_decoder(path: Path, card: Card, state: Tensors) -> None:
    """Writes a decoder file, beside its place first: no half-written file ever has its name.

    Raises:
        DecoderFileError: `path` does not end as a safetensors file does.
        OSError: it cannot be written.
    """
    if path.suffix.lower() not in SAFE:
        raise DecoderFileError(f"{path}: expected a file to write that ends in {' or '.join(SAFE)}")
    metadata = {"format": FORMAT}
    metadata |= {key: value for key in TEXTS if (value := getattr(card, key)) is not None}
    metadata |= {key: json.dumps(dict(getattr(card, key)), sort_keys=True) for key in STRUCTURES}
    if card.latent_space:
        metadata[ROW] = json.dumps(card.latent_space.facts(), sort_keys=True)
    write_tensors(path, state, metadata)


def build(kind: str, settings: Mapping[str, Any], state: Tensors) -> Net:
    """A net of this kind with these tensors (none, for a kind that has none).

    `settings` are the kind's own, and for numbers that give something other than 0..1, `output_range`.
    """
    # Also in somebody's inference mode: what is made in it would not serve outside of it.
    with torch.inference_mode(False):
        net = blank(kind, settings)
        net.load_state_dict({key: tensor.float().clone() for key, tensor in state.items()}, assign=True)
        if "output_range" in settings:
            net.rescale(*settings["output_range"])
        return net


def blank(kind: str, settings: Mapping[str, Any]) -> Net:
    """A net of this kind with shapes, and no numbers in them.

    Raises:
        ValueError: there is no such kind, or no such net of it.
    """
    if kind not in KINDS:
        raise ValueError(f"expected a kind among {', '.join(KINDS)}, got {brief(kind)}; a newer Safelight may have it")
    # On "meta" nothing is drawn: initialising weights would move the global random state of somebody's run.
    with torch.device("meta"):
        net = KINDS[kind](**{key: value for key, value in settings.items() if key != "output_range"})
    if net.channels is not None and (type(net.channels) is not int or net.channels < 1):
        raise ValueError(f"expected channels to be a whole number from 1 up, got {brief(net.channels)}")
    if "output_range" in settings:
        black, white = settings["output_range"]
        if type(net).rescale is Net.rescale or not 0 < abs(white - black) < math.inf:
            raise ValueError(
                f"expected no output_range, or two different numbers, got {brief(settings['output_range'])}"
            )
    return net


def _read(path: Path, content: bytes | None, *, values: bool) -> tuple[Card, Tensors]:
    """The card, and the tensors in the kind's own names; without `values` they have a shape only."""
    metadata, tensors = open_tensors(path, content, values=values)
    ours = metadata.get("format", "").startswith(FAMILY)
    card, state = (_ours if ours else _theirs)(path, metadata, tensors)
    try:
        net = blank(card.kind, card.settings)
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise DecoderFileError(
            f"{path}: no decoder can be made of kind {brief(card.kind)} with settings {brief(dict(card.settings))}: "
            f"{brief(error, 300)}"
        ) from None
    row = card.latent_space
    if row and net.channels not in (None, row.channels):
        raise DecoderFileError(
            f"{path}: decodes {net.channels} channels, but brings the row of a latent space of {row.channels}"
        )
    _expect_shapes(path, {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}, state)
    parameters = sum(tensor.numel() for tensor in state.values())
    return replace(card, channels=net.channels, scale=net.scale, parameters=parameters, cost=net.cost), state


def _ours(path: Path, metadata: Metadata, tensors: Tensors) -> tuple[Card, Tensors]:
    if metadata["format"] != FORMAT:
        raise DecoderFileError(
            f"{path}: expected format {FORMAT}, got {brief(metadata['format'])}; it was made by a newer Safelight: "
            "update"
        )
    try:
        fields: dict[str, Any] = {key: metadata.get(key) for key in TEXTS}
        fields |= {key: metadata[key] for key in REQUIRED}
        _expect_texts(fields)
        fields |= {key: _structure(metadata[key]) for key in STRUCTURES}
        if ROW in metadata:
            fields[ROW] = LatentSpace.from_facts(json.loads(metadata[ROW]))
            if fields[ROW].name != fields["space"]:
                raise ValueError(f"it is of {fields['space']}, but brings the row of {fields[ROW].name}")
        return Card(**fields), tensors
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DecoderFileError(f"{path}: the card in its metadata cannot be read: {repr(error)[:300]}") from None


def _expect_texts(fields: Mapping[str, str | None]) -> None:
    """Raises `ValueError` for a text that nobody could have written to be read: it may come from anywhere."""
    for key, text in fields.items():
        if text is not None and len(text) > MAX_TEXT:
            raise ValueError(f"expected {key} of at most {MAX_TEXT:,} characters, got {len(text):,}")
    for key in ("name", "space"):
        text = fields[key]
        if text is not None and not (text.isprintable() and 0 < len(text) <= MAX_NAME):
            raise ValueError(f"expected {key} as one line of 1 to {MAX_NAME} characters, got {brief(text)}")


def _structure(text: str) -> dict[str, Any]:
    structure = dict(json.loads(text))
    if not _is_shallow(structure, MAX_NESTING):
        raise ValueError(f"expected structures of at most {MAX_NESTING} levels")
    return structure


def _is_shallow(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    return levels > 0 and all(
        _is_shallow(item, levels - 1) for item in (value.values() if isinstance(value, dict) else value)
    )


def _theirs(path: Path, _: Metadata, tensors: Tensors) -> tuple[Card, Tensors]:
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    foreign = recognize_format(shapes)
    if foreign is None:
        known = ", ".join(dict.fromkeys(row.title for row in PUBLISHED_FORMATS))
        found = ", ".join(map(brief, list(tensors)[:4])) or "none at all"
        raise DecoderFileError(
            f"{path}: not a decoder that Safelight knows. Expected one of its own, or {known}; found tensors {found}; "
            "choose another file (an encoder will not do)"
        )
    card = Card(
        name=path.name,
        space=foreign.space,
        kind=foreign.kind,
        settings=foreign.settings_of(path.name, shapes),
        source=f"user's file, recognised as {foreign.title}",
    )
    return card, {
        ours: foreign.reshape(tensors[theirs]) for theirs, ours in foreign.keys(shapes).items() if theirs in tensors
    }


def _expect_shapes(path: Path, expected: Mapping[str, tuple[int, ...]], state: Tensors) -> None:
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    if shapes != expected:
        wrong = sorted(key for key in shapes.keys() | expected.keys() if shapes.get(key) != expected.get(key))
        raise MisshapenFileError(
            f"{path}: tensor {brief(wrong[0])} should have shape {expected.get(wrong[0], 'none: it is not needed')}, "
            f"has {shapes.get(wrong[0], 'none: it is missing')} (and {len(wrong) - 1} more like it); get the file anew"
        )
