"""Decoder files, read without running any code that is in them.

Ours are safetensors whose metadata is the decoder's card: texts as they are, structures as JSON, and `format`.
What others publish is told by `foreign`.
"""

import json
import math
import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn

from .decoder import Card, Decoder
from .errors import DecoderFileError, MisshapenFileError, PickledFileError
from .foreign import FOREIGN, recognise
from .kinds import KINDS

FAMILY = "safelight.decoder/"
FORMAT = f"{FAMILY}1"
MAX_BYTES = 1 << 30  # twenty times the largest published tiny decoder
PICKLED = (".pt", ".pth")
SUFFIXES = (".safetensors", ".sft", *PICKLED)

TEXTS = ("name", "space", "kind", "source", "fitted_on", "licence", "notes")
REQUIRED = ("name", "kind", "source")
STRUCTURES = ("settings", "metrics")

Tensors = Mapping[str, Tensor]


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
                f"{path}: tensor {key!r} should hold floating point numbers, holds {tensor.dtype}; get the file anew"
            )
        if not torch.isfinite(tensor.float()).all():
            raise MisshapenFileError(f"{path}: tensor {key!r} holds values that are not finite; get the file anew")
    return Decoder(card, build(card.kind, card.settings, state))


def read_metadata(path: Path, content: bytes) -> Mapping[str, str]:
    """The metadata of a safetensors file's bytes; what it has no `format` of ours in is not one of our decoders.

    Raises:
        DecoderFileError: these are not the bytes of a safetensors file.
    """
    return _parse_header(path, content)[0]


def write_decoder(path: Path, card: Card, state: Tensors) -> None:
    """Writes a decoder file, beside its place first: no half-written file ever has its name."""
    metadata = {"format": FORMAT}
    metadata |= {key: value for key in TEXTS if (value := getattr(card, key)) is not None}
    metadata |= {key: json.dumps(dict(getattr(card, key)), sort_keys=True) for key in STRUCTURES}
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    beside.write_bytes(save({key: tensor.contiguous() for key, tensor in state.items()}, metadata))
    beside.replace(path)


def build(kind: str, settings: Mapping[str, Any], state: Tensors) -> nn.Module:
    """A net of this kind with these tensors (none, for a kind that has none).

    `settings` are the kind's own, and for numbers that give something other than 0..1, `output_range`.
    """
    net = _blank(kind, settings)
    net.load_state_dict({key: tensor.float().clone() for key, tensor in state.items()}, assign=True)
    if "output_range" in settings:
        net.rescale(*settings["output_range"])
    return net


def _blank(kind: str, settings: Mapping[str, Any]) -> nn.Module:
    if kind not in KINDS:
        raise ValueError(f"expected a kind among {', '.join(KINDS)}, got {kind!r}; a newer Safelight may have it")
    # On "meta" nothing is drawn: initialising weights would move the global random state of somebody's run.
    with torch.device("meta"):
        net = KINDS[kind](**{key: value for key, value in settings.items() if key != "output_range"})
    if net.channels is not None and (type(net.channels) is not int or net.channels < 1):
        raise ValueError(f"expected channels to be a whole number from 1 up, got {net.channels!r}")
    if "output_range" in settings:
        black, white = settings["output_range"]
        if not hasattr(net, "rescale") or not 0 < abs(white - black) < math.inf:
            raise ValueError(f"expected no output_range, or two different numbers, got {settings['output_range']}")
    return net


def _read(path: Path, content: bytes | None, *, values: bool) -> tuple[Card, Tensors]:
    """The card, and the tensors in the kind's own names; without `values` they have a shape only."""
    metadata, tensors = _open(path, values=values) if content is None else _parse(path, content, values=values)
    ours = metadata.get("format", "").startswith(FAMILY)
    # A shape can promise far more than the file holds: a .pth may say that one number stands for a trillion.
    if (size := 4 * sum(tensor.numel() for tensor in tensors.values())) > MAX_BYTES:
        raise MisshapenFileError(f"{path}: tensors of {size:,} bytes; a decoder for previews has at most {MAX_BYTES:,}")
    card, state = (_ours if ours else _theirs)(path, metadata, tensors)
    try:
        net = _blank(card.kind, card.settings)
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise DecoderFileError(
            f"{path}: no decoder can be made of kind {card.kind!r} with settings {card.settings}: {error}"
        ) from None
    _expect_shapes(path, {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}, state)
    parameters = sum(tensor.numel() for tensor in state.values())
    return replace(card, scale=net.scale, parameters=parameters), state


def _ours(path: Path, metadata: Mapping[str, str], tensors: Tensors) -> tuple[Card, Tensors]:
    if metadata["format"] != FORMAT:
        raise DecoderFileError(
            f"{path}: expected format {FORMAT}, got {metadata['format']!r}; it was made by a newer Safelight: update"
        )
    try:
        texts = {key: metadata.get(key) for key in TEXTS} | {key: metadata[key] for key in REQUIRED}
        structures = {key: dict(json.loads(metadata[key])) for key in STRUCTURES}
        return Card(**texts, **structures), tensors
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DecoderFileError(f"{path}: the card in its metadata cannot be read: {error!r}") from None


def _theirs(path: Path, _: Mapping[str, str], tensors: Tensors) -> tuple[Card, Tensors]:
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    foreign = recognise(shapes)
    if foreign is None:
        known = ", ".join(dict.fromkeys(row.title for row in FOREIGN))
        found = ", ".join(map(repr, list(tensors)[:4])) or "none at all"
        raise DecoderFileError(
            f"{path}: not a decoder that Safelight knows. Expected one of its own, or {known}; found tensors {found}; "
            "choose another file (an encoder will not do)"
        )
    card = Card(
        name=path.name,
        space=foreign.space,
        kind=foreign.kind,
        settings=foreign.settings(shapes),
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
            f"{path}: tensor {wrong[0]!r} should have shape {expected.get(wrong[0], 'none: it is not needed')}, "
            f"has {shapes.get(wrong[0], 'none: it is missing')} (and {len(wrong) - 1} more like it); get the file anew"
        )


def _open(path: Path, *, values: bool) -> tuple[Mapping[str, str], Tensors]:
    """Metadata and tensors of any file we may open."""
    if path.suffix.lower() not in SUFFIXES:
        raise DecoderFileError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DecoderFileError(f"{path}: cannot be read: {error.strerror}") from None
    if not path.is_file():
        raise DecoderFileError(f"{path}: expected a file, got a folder or a device; choose the file in it")
    if size > MAX_BYTES:
        raise DecoderFileError(f"{path}: {size:,} bytes; a decoder for previews has at most {MAX_BYTES:,}")
    if path.suffix.lower() in PICKLED:
        return {}, _open_pickled(path)
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            shapes = {key: file.get_slice(key).get_shape() for key in keys}
            tensors = {
                key: file.get_tensor(key) if values else torch.empty(shape, device="meta")
                for key, shape in shapes.items()
            }
            return file.metadata() or {}, tensors
    except (SafetensorError, OSError) as error:
        raise DecoderFileError(f"{path}: not a whole safetensors file: {error}") from None


def _parse(path: Path, content: bytes, *, values: bool) -> tuple[Mapping[str, str], Tensors]:
    """As `_open`, of a safetensors file's bytes."""
    metadata, shapes = _parse_header(path, content)
    if not values:
        return metadata, {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    try:
        return metadata, load(content)
    except SafetensorError as error:
        raise DecoderFileError(f"{path}: not a whole safetensors file: {error}") from None


def _parse_header(path: Path, content: bytes) -> tuple[Mapping[str, str], Mapping[str, list[int]]]:
    """Metadata and shapes: eight bytes, little-endian, give the length of the JSON behind them.

    Source: https://huggingface.co/docs/safetensors/index#format
    """
    length = int.from_bytes(content[:8], "little")
    try:
        if length > len(content) - 8:
            raise ValueError(f"its header should have {length:,} bytes, the whole file has {len(content):,}")
        header = json.loads(content[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        return metadata, {key: tensor["shape"] for key, tensor in header.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise DecoderFileError(f"{path}: not a whole safetensors file: {error}") from None


def _open_pickled(path: Path) -> Tensors:
    try:
        with path.open("rb") as file:
            # A web page or a pointer to a large file, saved under this name, is no reason to warn of code.
            if not file.read(4).startswith((b"PK\x03\x04", b"\x80")):
                raise ValueError("it begins like something else; get the file anew")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise PickledFileError(
            f"{path}: holds Python objects besides tensors, and opening them would run code; "
            "ask for a safetensors file, or save its state dict alone"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DecoderFileError(f"{path}: not a whole PyTorch file: {error}") from None
    if not isinstance(content, Mapping):
        raise DecoderFileError(f"{path}: expected a state dict of tensors, got a {type(content).__name__}")
    for key, value in content.items():
        if not (isinstance(key, str) and isinstance(value, Tensor) and value.layout is torch.strided):
            raise DecoderFileError(
                f"{path}: expected a state dict of tensors, got {key!r}: {type(value).__name__} in it; "
                "save the decoder's state dict alone"
            )
        if value.is_meta:
            raise DecoderFileError(f"{path}: expected numbers, tensor {key!r} has none; get the file anew")
    return content
