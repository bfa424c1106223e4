"""Reads and writes files of tensors, without running code from them.

A file is read once, into memory. With a memory map, a truncated file would crash the process, and an overwritten one
would change tensors in use.
"""

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from ...errors import DecoderFileError, MisshapenFileError, PickledFileError, brief
from .contained_file import open_below, write_below
from .regular_file import NotRegularFileError, TooLargeError, open_regular_file, read_regular_file
from .torch_pickle import MAX_TENSOR_NDIM, PICKLE_START, ZIP_START, UnsupportedPickleError, read_torch_pickle

MAX_DECODER_BYTES = 1 << 30  # twenty times the largest published tiny decoder
MAX_SAFETENSORS_HEADER_BYTES = 4 << 20  # enough for thirty thousand tensors
DECODER_LABEL = "a decoder for previews"
SAFETENSORS_SUFFIXES = (".safetensors", ".sft")
TORCH_SUFFIXES = (".pt", ".pth")
TENSOR_SUFFIXES = (*SAFETENSORS_SUFFIXES, *TORCH_SUFFIXES)
HEADER_LENGTH_BYTES = 8  # a safetensors file begins with the length of its header

# Bytes per element. Source: https://docs.rs/safetensors/latest/safetensors/tensor/enum.Dtype.html
DTYPE_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
DTYPE_BYTES |= {"C64": 8, **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1)}

Tensors = Mapping[str, Tensor]
Metadata = Mapping[str, str]


def open_tensors(
    path: Path,
    content: bytes | None = None,
    *,
    values: bool = True,
    label: str = DECODER_LABEL,
    max_bytes: int = MAX_DECODER_BYTES,
    max_header_bytes: int = MAX_SAFETENSORS_HEADER_BYTES,
    mapped: bool = False,
    root: Path | None = None,
) -> tuple[Metadata, Tensors]:
    """Reads the metadata and tensors of a file, on the CPU.

    Args:
        path: path of the file.
        content: bytes of a safetensors file, if already read; `path` then only appears in messages.
        values: whether tensors need values; if not, they may have only a shape, and only the header of a safetensors
            file is read.
        label: expected kind of file, for messages.
        max_bytes: limit for the size of the file, and of its tensors in float32.
        max_header_bytes: limit for the header of a safetensors file.
        mapped: whether to memory-map a safetensors file: for files that are larger than memory and that no process
            writes to.
        root: folder that a safetensors file is in: neither the file nor a folder between them may be a link. With None,
            links are followed.

    Raises:
        DecoderFileError: the file is missing, broken, too large, or has no tensors; some reasons have a subclass.
    """
    if content is not None:
        metadata, tensors = _parse_safe(path, content, max_header_bytes)
    elif path.suffix.lower() in TORCH_SUFFIXES:
        metadata, tensors = {}, _parse_pickled(path, _read(path, label, max_bytes))
    elif path.suffix.lower() not in SAFETENSORS_SUFFIXES:
        raise DecoderFileError(f"{path}: expected a file ending in {', '.join(TENSOR_SUFFIXES)}")
    elif not values:
        metadata, tensors = _read_header(path, label, max_bytes, max_header_bytes)
    elif mapped:
        metadata, tensors = _map_safe(path, label, max_bytes, max_header_bytes)
    else:
        metadata, tensors = _parse_safe(
            path, _read_safe(path, label, max_bytes, max_header_bytes, root), max_header_bytes
        )
    # A shape can be far larger than the file: in a .pth one number may be repeated a trillion times.
    if (size := 4 * sum(tensor.numel() for tensor in tensors.values())) > max_bytes:
        raise MisshapenFileError(f"{path}: tensors of {size:,} bytes; {label} has at most {max_bytes:,}")
    return metadata, tensors


def write_tensors(path: Path, tensors: Tensors, metadata: Metadata) -> None:
    """Writes a safetensors file, first under a temporary name, so that `path` is never half written.

    Raises:
        OSError: the file cannot be written.
    """
    content = save({key: tensor.contiguous() for key, tensor in tensors.items()}, dict(metadata))
    write_below(path.parent, PurePath(path.name), content)


@contextmanager
def _opening(path: Path, label: str, max_bytes: int) -> Iterator[None]:
    """Converts errors of opening a file to `DecoderFileError`."""
    try:
        yield
    except TooLargeError as error:
        raise DecoderFileError(f"{path}: {error.strerror}; {label} has at most {max_bytes:,}") from None
    except NotRegularFileError as error:
        raise DecoderFileError(f"{path}: {error.strerror}; choose a file") from None
    except OSError as error:
        raise DecoderFileError(f"{brief(path)}: cannot be read: {error.strerror or error}") from None


def _read(path: Path, label: str, max_bytes: int) -> bytes:
    with _opening(path, label, max_bytes):
        return read_regular_file(path, max_bytes)


def _read_safe(path: Path, label: str, max_bytes: int, max_header_bytes: int, root: Path | None) -> bytes:
    """Reads a safetensors file if its header describes it: a file of gigabytes may be one hole on the disk."""
    with _opening(path, label, max_bytes), _open(path, root) as file:
        _checked_header(path, file, max_bytes, max_header_bytes)
        file.seek(0)
        content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise TooLargeError(0, f"more than {max_bytes:,} bytes")
    return content


def _open(path: Path, root: Path | None) -> BinaryIO:
    return open_regular_file(path) if root is None else open_below(root, path.relative_to(root))


def _read_header(path: Path, label: str, max_bytes: int, max_header_bytes: int) -> tuple[Metadata, Tensors]:
    with _opening(path, label, max_bytes), open_regular_file(path) as file:
        header, tensors = _checked_header(path, file, max_bytes, max_header_bytes)
    return _metadata(path, header), tensors


def _checked_header(
    path: Path, file: BinaryIO, max_bytes: int, max_header_bytes: int
) -> tuple[Mapping[str, Any], Tensors]:
    """Reads the header and checks it against the size of the file. Returns it and tensors without values."""
    if (size := os.fstat(file.fileno()).st_size) > max_bytes:
        raise TooLargeError(0, f"{size:,} bytes")
    header = _header(path, file, max_header_bytes)
    try:
        shapes = _shapes(header, size - file.tell())
        return header, {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise DecoderFileError(f"{path}: not a whole safetensors file: {brief(error, 200)}") from None


def _map_safe(path: Path, label: str, max_bytes: int, max_header_bytes: int) -> tuple[Metadata, Tensors]:
    with _opening(path, label, max_bytes), open_regular_file(path) as file:
        header = _header(path, file, max_header_bytes)
    try:
        with safe_open(path, framework="pt") as mapped:
            return _metadata(path, header), {key: mapped.get_tensor(key) for key in mapped.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DecoderFileError(f"{path}: not a whole safetensors file: {brief(error, 200)}") from None


def _parse_safe(path: Path, content: bytes, max_header_bytes: int) -> tuple[Metadata, Tensors]:
    """Parses bytes in memory. The safetensors library returns no metadata for them, so this reads the header itself."""
    header = _header(path, io.BytesIO(content), max_header_bytes)
    try:
        tensors = load(content)
        return _metadata(path, header), {key: tensors[key] for key in header if key in tensors}
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise DecoderFileError(f"{path}: not a whole safetensors file: {brief(error, 200)}") from None


def _header(path: Path, file: BinaryIO, max_header_bytes: int) -> Mapping[str, Any]:
    """Reads the header. Eight bytes, little-endian, give the length of the JSON that follows; then come the values.

    Source: https://huggingface.co/docs/safetensors/index#format
    """
    length = int.from_bytes(start := file.read(HEADER_LENGTH_BYTES), "little")
    try:
        if len(start) < HEADER_LENGTH_BYTES:
            raise ValueError("it ends before its header begins")
        if length > max_header_bytes:
            raise ValueError(f"a header of {length:,} bytes, expected {max_header_bytes:,} at most")
        if len(text := file.read(length)) < length:
            raise ValueError("it ends within its header")
        header = json.loads(text)
        if not isinstance(header, dict) or not text.startswith(b"{"):
            raise ValueError("its header is not a JSON object")
    except (ValueError, RecursionError) as error:
        raise DecoderFileError(f"{path}: not a whole safetensors file: {brief(error, 200)}") from None
    return header


def _metadata(path: Path, header: Mapping[str, Any]) -> Metadata:
    metadata = header.get("__metadata__") or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise DecoderFileError(f"{path}: not a whole safetensors file: expected its metadata as texts by name")
    return metadata


def _shapes(header: Mapping[str, Any], value_bytes: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of tensors that fill `value_bytes` without a gap, as the safetensors library checks it."""
    tensors = {key: facts for key, facts in header.items() if key != "__metadata__"}
    end = 0
    for key, facts in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        shape, (first, last) = facts["shape"], facts["data_offsets"]
        if not isinstance(shape, list) or len(shape) > MAX_TENSOR_NDIM:
            raise ValueError(f"tensor {key[:80]!r} has an invalid shape")
        if any(type(number) is not int or not 0 <= number < 1 << 62 for number in (*shape, first, last)):
            raise ValueError(f"tensor {key[:80]!r} has an invalid shape")
        if first != end or last - first != prod(shape) * DTYPE_BYTES[facts["dtype"]]:
            raise ValueError(f"tensor {key[:80]!r} has not the place or length that its header gives")
        end = last
    if end != value_bytes:
        raise ValueError(f"its header describes {end:,} bytes of values, but it has {value_bytes:,}")
    return {key: tuple(facts["shape"]) for key, facts in tensors.items()}


def _parse_pickled(path: Path, content: bytes) -> Tensors:
    # No warning about code for a web page or a Git LFS pointer that was saved under this name.
    if not content.startswith((ZIP_START, PICKLE_START)):
        raise DecoderFileError(
            f"{path}: not a whole PyTorch file: it begins like another format; download the file again"
        )
    try:
        state = read_torch_pickle(content)
    except UnsupportedPickleError as error:
        raise PickledFileError(
            f"{path}: contains Python objects besides tensors ({brief(error)}), and opening them would run code; "
            "ask for a safetensors file, or save only its state dict"
        ) from None
    except ValueError as error:
        raise DecoderFileError(f"{path}: not a whole PyTorch file: {brief(error, 200)}") from None
    if not isinstance(state, Mapping):
        raise DecoderFileError(f"{path}: expected a state dict of tensors, got a {type(state).__name__}")
    for key, value in state.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise DecoderFileError(
                f"{path}: expected a state dict of tensors, got {brief(key)}: {type(value).__name__} in it; "
                "save only the decoder's state dict"
            )
    return state
