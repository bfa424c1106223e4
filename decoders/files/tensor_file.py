"""The tensors of a file, had without running any code that is in it.

What is read is read once, into memory: a file that is mapped and then cut short ends the whole process, and one that
is written over changes the numbers that somebody works with.
"""

import io
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from ...errors import DecoderFileError, MisshapenFileError, PickledFileError, brief
from .regular_file import NotRegularFileError, TooLargeError, open_regular_file, read_regular_file
from .torch_pickle import MAX_NDIM, PICKLE, ZIP, BeyondTensorsError, read_torch_pickle

MAX_BYTES = 1 << 30  # twenty times the largest published tiny decoder
MAX_HEADER_BYTES = 4 << 20  # of safetensors: thirty thousand tensors
DECODER = "a decoder for previews"
SAFE = (".safetensors", ".sft")
PICKLED = (".pt", ".pth")
SUFFIXES = (*SAFE, *PICKLED)
LENGTH_BYTES = 8  # of the length of a safetensors header, which comes first

# Bytes of a number. Source: https://docs.rs/safetensors/latest/safetensors/tensor/enum.Dtype.html
SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
SIZES |= {"C64": 8, **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1)}

Tensors = Mapping[str, Tensor]
Metadata = Mapping[str, str]


def open_tensors(
    path: Path,
    content: bytes | None = None,
    *,
    values: bool = True,
    what: str = DECODER,
    max_bytes: int = MAX_BYTES,
    max_header_bytes: int = MAX_HEADER_BYTES,
    mapped: bool = False,
) -> tuple[Metadata, Tensors]:
    """Metadata and tensors of a file, on the CPU.

    Args:
        path: the file.
        content: the bytes of a safetensors file that were read already; `path` is then only told.
        values: without them tensors may have a shape only; of a safetensors file only the header is read.
        what: the file should be, as an error says it.
        max_bytes: that it may have.
        max_header_bytes: of them, what a safetensors file says of itself.
        mapped: whether its numbers are read only when somebody looks at them: for files that no memory would hold, and
            that nobody writes to meanwhile.

    Raises:
        DecoderFileError: the file is missing, broken, too large, or holds no tensors; with a subclass for each.
    """
    if content is not None:
        metadata, tensors = _parse_safe(path, content, max_header_bytes)
    elif path.suffix.lower() in PICKLED:
        metadata, tensors = {}, _parse_pickled(path, _read(path, what, max_bytes))
    elif path.suffix.lower() not in SAFE:
        raise DecoderFileError(f"{path}: expected a file ending in {', '.join(SUFFIXES)}")
    elif not values:
        metadata, tensors = _read_header(path, what, max_bytes, max_header_bytes)
    elif mapped:
        metadata, tensors = _map_safe(path, what, max_bytes, max_header_bytes)
    else:
        metadata, tensors = _parse_safe(path, _read(path, what, max_bytes), max_header_bytes)
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


@contextmanager
def _opening(path: Path, what: str, max_bytes: int) -> Iterator[None]:
    """Puts in words why a file cannot be read."""
    try:
        yield
    except TooLargeError as error:
        raise DecoderFileError(f"{path}: {error.strerror}; {what} has at most {max_bytes:,}") from None
    except NotRegularFileError:
        raise DecoderFileError(f"{path}: expected a file, got a folder or a device; choose the file in it") from None
    except OSError as error:
        raise DecoderFileError(f"{brief(path)}: cannot be read: {error.strerror or error}") from None


def _read(path: Path, what: str, max_bytes: int) -> bytes:
    with _opening(path, what, max_bytes):
        return read_regular_file(path, max_bytes)


def _read_header(path: Path, what: str, max_bytes: int, max_header_bytes: int) -> tuple[Metadata, Tensors]:
    with _opening(path, what, max_bytes), open_regular_file(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > max_bytes:
            raise TooLargeError(0, f"{size:,} bytes")
        header = _header(path, file, max_header_bytes)
        held = size - file.tell()
    try:
        shapes = _shapes(header, held)
        tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise DecoderFileError(f"{path}: not a whole safetensors file: {brief(error, 200)}") from None
    return _metadata(path, header), tensors


def _map_safe(path: Path, what: str, max_bytes: int, max_header_bytes: int) -> tuple[Metadata, Tensors]:
    with _opening(path, what, max_bytes), open_regular_file(path) as file:
        header = _header(path, file, max_header_bytes)
    try:
        with safe_open(path, framework="pt") as mapped:
            return _metadata(path, header), {key: mapped.get_tensor(key) for key in mapped.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DecoderFileError(f"{path}: not a whole safetensors file: {brief(error, 200)}") from None


def _parse_safe(path: Path, content: bytes, max_header_bytes: int) -> tuple[Metadata, Tensors]:
    """The library gives tensors but no metadata for bytes in memory, so that is read here."""
    header = _header(path, io.BytesIO(content), max_header_bytes)
    try:
        tensors = load(content)
        return _metadata(path, header), {key: tensors[key] for key in header if key in tensors}
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise DecoderFileError(f"{path}: not a whole safetensors file: {brief(error, 200)}") from None


def _header(path: Path, file: BinaryIO, max_header_bytes: int) -> Mapping[str, Any]:
    """Eight bytes, little-endian, give the length of the JSON behind them; the numbers follow.

    Source: https://huggingface.co/docs/safetensors/index#format
    """
    length = int.from_bytes(told := file.read(LENGTH_BYTES), "little")
    try:
        if len(told) < LENGTH_BYTES:
            raise ValueError("it ends before its header begins")
        if length > max_header_bytes:
            raise ValueError(f"a header of {length:,} bytes, expected {max_header_bytes:,} at most")
        if len(text := file.read(length)) < length:
            raise ValueError("it ends within its header")
        header = json.loads(text)
        if not isinstance(header, dict) or not text.startswith(b"{"):
            raise ValueError("its header is no object")
    except (ValueError, RecursionError) as error:
        raise DecoderFileError(f"{path}: not a whole safetensors file: {brief(error, 200)}") from None
    return header


def _metadata(path: Path, header: Mapping[str, Any]) -> Metadata:
    metadata = header.get("__metadata__") or {}
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise DecoderFileError(f"{path}: not a whole safetensors file: its metadata should be texts by name")
    return metadata


def _shapes(header: Mapping[str, Any], held: int) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors that fill `held` bytes without a gap, as the library checks it on opening the file."""
    tensors = {key: facts for key, facts in header.items() if key != "__metadata__"}
    end = 0
    for key, facts in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        shape, (first, last) = facts["shape"], facts["data_offsets"]
        if not isinstance(shape, list) or len(shape) > MAX_NDIM:
            raise ValueError(f"tensor {key[:80]!r} has no possible shape")
        if any(type(number) is not int or not 0 <= number < 1 << 62 for number in (*shape, first, last)):
            raise ValueError(f"tensor {key[:80]!r} has no possible shape")
        if first != end or last - first != prod(shape) * SIZES[facts["dtype"]]:
            raise ValueError(f"tensor {key[:80]!r} is not where, or not as long, as its header says")
        end = last
    if end != held:
        raise ValueError(f"its header tells of {end:,} bytes, it has {held:,}")
    return {key: tuple(facts["shape"]) for key, facts in tensors.items()}


def _parse_pickled(path: Path, content: bytes) -> Tensors:
    # A web page or a pointer to a large file, saved under this name, is no reason to warn of code.
    if not content.startswith((ZIP, PICKLE)):
        raise DecoderFileError(f"{path}: not a whole PyTorch file: it begins like something else; get the file anew")
    try:
        state = read_torch_pickle(content)
    except BeyondTensorsError as error:
        raise PickledFileError(
            f"{path}: holds Python objects besides tensors ({brief(error)}), and opening them would run code; "
            "ask for a safetensors file, or save its state dict alone"
        ) from None
    except ValueError as error:
        raise DecoderFileError(f"{path}: not a whole PyTorch file: {brief(error, 200)}") from None
    if not isinstance(state, Mapping):
        raise DecoderFileError(f"{path}: expected a state dict of tensors, got a {type(state).__name__}")
    for key, value in state.items():
        if not (isinstance(key, str) and isinstance(value, Tensor)):
            raise DecoderFileError(
                f"{path}: expected a state dict of tensors, got {brief(key)}: {type(value).__name__} in it; "
                "save the decoder's state dict alone"
            )
    return state
