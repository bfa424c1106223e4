"""The tensors of a file, had without running any code that is in it."""

import json
import pickle
import uuid
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from .errors import DecoderFileError, MisshapenFileError, PickledFileError

MAX_BYTES = 1 << 30  # twenty times the largest published tiny decoder
DECODER = "a decoder for previews"
SAFE = (".safetensors", ".sft")
PICKLED = (".pt", ".pth")
SUFFIXES = (*SAFE, *PICKLED)

Tensors = Mapping[str, Tensor]
Metadata = Mapping[str, str]


def open_tensors(
    path: Path, content: bytes | None = None, *, values: bool = True, what: str = DECODER, max_bytes: int = MAX_BYTES
) -> tuple[Metadata, Tensors]:
    """Metadata and tensors of a file, on the CPU.

    Args:
        path: the file.
        content: the bytes of a safetensors file that were read already; `path` is then only told.
        values: without them tensors may have a shape only; of a safetensors file only the header is read.
        what: the file should be, as an error says it.
        max_bytes: that it may have.

    Raises:
        DecoderFileError: the file is missing, broken, too large, or holds no tensors; with a subclass for each.
    """
    if content is not None:
        metadata, tensors = _parse_safe(path, content)
    else:
        _expect_file(path, what, max_bytes)
        pickled = path.suffix.lower() in PICKLED
        metadata, tensors = ({}, _load_pickled(path)) if pickled else _open_safe(path, values=values)
    # A shape can promise far more than the file holds: a .pth may say that one number stands for a trillion.
    if (size := 4 * sum(tensor.numel() for tensor in tensors.values())) > max_bytes:
        raise MisshapenFileError(f"{path}: tensors of {size:,} bytes; {what} has at most {max_bytes:,}")
    return metadata, tensors


def write_tensors(path: Path, tensors: Tensors, metadata: Metadata) -> None:
    """Writes safetensors, beside their place first: no half-written file ever has its name.

    Raises:
        OSError: it cannot be written.
    """
    content = save({key: tensor.contiguous() for key, tensor in tensors.items()}, dict(metadata))
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        beside.write_bytes(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _expect_file(path: Path, what: str, max_bytes: int) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise DecoderFileError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}")
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DecoderFileError(f"{path}: cannot be read: {error.strerror}") from None
    if not path.is_file():
        raise DecoderFileError(f"{path}: expected a file, got a folder or a device; choose the file in it")
    if size > max_bytes:
        raise DecoderFileError(f"{path}: {size:,} bytes; {what} has at most {max_bytes:,}")


def _open_safe(path: Path, *, values: bool) -> tuple[Metadata, Tensors]:
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


def _parse_safe(path: Path, content: bytes) -> tuple[Metadata, Tensors]:
    """Eight bytes, little-endian, give the length of the JSON behind them; the numbers follow.

    The library gives tensors but no metadata for bytes in memory, so that is read here.

    Source: https://huggingface.co/docs/safetensors/index#format
    """
    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        return header.get("__metadata__", {}), tensors
    except (SafetensorError, ValueError) as error:
        raise DecoderFileError(f"{path}: not a whole safetensors file: {error}") from None


def _load_pickled(path: Path) -> Tensors:
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
