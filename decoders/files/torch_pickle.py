"""Reads state dicts that `torch.save` wrote, without unpickling them.

A pickle is a program. This module interprets only the few opcodes that a state dict of plain tensors needs. It never
imports a name from the pickle, but looks it up in `ALLOWED_CALLS` and `STORAGE_DTYPES`. `torch.load` is not used: even
with `weights_only=True` it ran code before torch 2.6 (CVE-2025-32434), trusted the stored lengths before 2.10
(CVE-2026-24747), and unpacks a compressed file to any size.

    since 1.6      a zip file: `<name>/data.pkl`, `<name>/data/<key>`, all uncompressed
    before         magic number, version, system facts, state dict, keys: one pickle each; then the values

Source: https://github.com/pytorch/pytorch/blob/v2.13.0/torch/serialization.py
"""

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
ZIP_START, PICKLE_START = b"PK\x03\x04", b"\x80"
ZIP_ENTRY_START = b"PK\x01\x02"  # start of an entry in the directory of a zip file
MAX_ZIP_ENTRIES = 20_000
MAX_PICKLE_BYTES, MAX_PICKLE_OPERATIONS = 4 << 20, 200_000  # a thousand tensors take 200 kB, 60,000 operations
MAX_TENSOR_NDIM, MAX_GLOBAL_NAME = 16, 200
# Raised by the readers of zip files and pickles for broken files.
PARSE_ERRORS = (zipfile.BadZipFile, EOFError, LookupError, OverflowError, RuntimeError, struct.error)
MAX_ELEMENTS = 1 << 60

STORAGE_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# Newer formats of numbers are stored as plain bytes. Only those of one byte are read.
BYTE_STORAGE = "torch.storage UntypedStorage"
BYTE_DTYPES = {f"torch {name}": getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2")}


class UnsupportedPickleError(Exception):
    """The file contains more than plain tensors; the message names the other object."""


class GlobalName(NamedTuple):
    """A name that a pickle would import."""

    path: str


class StorageRef(NamedTuple):
    """A block of values in the file: its dtype, its key and the number of its elements."""

    dtype: torch.dtype
    key: str
    elements: int


class TensorView(NamedTuple):
    """A tensor to create from a storage."""

    storage: StorageRef
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


def read_torch_pickle(content: bytes) -> Any:
    """Reads the object in the bytes of a file, normally a state dict. Its tensors are copies.

    Raises:
        UnsupportedPickleError: the file contains more than plain tensors.
        ValueError: it is not a complete file from `torch.save`.
    """
    read = _read_zip if content.startswith(ZIP_START) else _read_old
    try:
        return read(content)
    except PARSE_ERRORS as error:
        raise ValueError(f"{error}") from None


def _read_zip(content: bytes) -> Any:
    if content.count(ZIP_ENTRY_START) > MAX_ZIP_ENTRIES:
        raise ValueError(f"a zip of more than {MAX_ZIP_ENTRIES:,} files")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(entry.compress_type or entry.flag_bits & 1 for entry in archive.infolist()):
            raise ValueError("its entries are compressed, which torch.save never does")
        if sum(entry.file_size for entry in archive.infolist()) > len(content):
            raise ValueError("its entries are longer than the file")
        roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1 or roots[0].count("/") != 1:
            raise ValueError(f"expected one data.pkl in it, found {len(roots)}")
        if "big" in (archive.read(name).decode() for name in archive.namelist() if name == f"{roots[0]}byteorder"):
            raise ValueError("it was written on a machine with another byte order")
        pickled = archive.read(f"{roots[0]}data.pkl")
        if len(pickled) > MAX_PICKLE_BYTES:
            raise ValueError(f"its data.pkl has {len(pickled):,} bytes, expected less than 4 MB")
        found = _PickleReader().run(io.BytesIO(pickled))
        return _with_tensors(found, lambda storage: archive.read(f"{roots[0]}data/{storage.key}"))


def _read_old(content: bytes) -> Any:
    stream = io.BytesIO(content[:MAX_PICKLE_BYTES])
    if (magic := _PickleReader().run(stream)) != TORCH_MAGIC:
        raise ValueError(f"expected the magic number of torch.save, got {type(magic).__name__}")
    _, _ = _PickleReader().run(stream), _PickleReader().run(stream)  # version and system facts
    reader = _PickleReader()
    found, keys = reader.run(stream), _PickleReader().run(stream)
    values: dict[str, bytes] = {}
    at = stream.tell()
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str):
            raise ValueError("expected the keys of storages as texts")  # noqa: TRY004
        storage = reader.storages[key]
        count, at = int.from_bytes(content[at : at + 8], "little"), at + 8
        if count != storage.elements:
            raise ValueError(f"storage {key[:40]!r} has {count:,} elements, expected {storage.elements:,}")
        values[key] = content[at : (at := at + count * storage.dtype.itemsize)]
    return _with_tensors(found, lambda storage: values[storage.key])


def _with_tensors(found: Any, read: Callable[[StorageRef], bytes]) -> Any:
    """Replaces each `TensorView` in `found` by its tensor; `read` returns the bytes of a storage."""
    bases: dict[StorageRef, Tensor] = {}

    def base(storage: StorageRef) -> Tensor:
        if storage not in bases:
            content = read(storage)
            if len(content) != storage.elements * storage.dtype.itemsize:
                raise ValueError(
                    f"storage {storage.key[:40]!r} has {len(content):,} bytes for {storage.elements:,} elements"
                )
            empty = torch.empty(0, dtype=storage.dtype)
            bases[storage] = torch.frombuffer(bytearray(content), dtype=storage.dtype) if content else empty
        return bases[storage]

    def tensor_of(value: Any) -> Any:
        return (
            base(value.storage).as_strided(value.size, value.stride, value.offset).view(value.dtype)
            if type(value) is TensorView
            else value
        )

    return {key: tensor_of(value) for key, value in found.items()} if isinstance(found, dict) else tensor_of(found)


def _call_ordered_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments:
        raise UnsupportedPickleError("an OrderedDict with arguments")
    return {}


def _call_rebuild(arguments: tuple[Any, ...]) -> TensorView:
    storage, offset, size, stride = arguments[:4]
    if [type(part) for part in (storage, size, stride)] != [StorageRef, tuple, tuple] or len(size) != len(stride):
        raise ValueError("a tensor has no valid storage, size or stride")
    counts = (offset, *size, *stride)
    if len(size) > MAX_TENSOR_NDIM:
        raise ValueError(f"a tensor has {len(size):,} axes")
    if any(type(count) is not int or not 0 <= count < MAX_ELEMENTS for count in counts) or prod(size) > MAX_ELEMENTS:
        raise ValueError("a tensor has an invalid size")
    if prod(size) and offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= storage.elements:
        raise ValueError("a tensor is larger than its storage")
    return TensorView(storage, offset, tuple(size), tuple(stride), storage.dtype)


def _call_rebuild_bytes(arguments: tuple[Any, ...]) -> TensorView:
    view, name = _call_rebuild(arguments), arguments[6]
    if type(name) is not GlobalName or name.path not in BYTE_DTYPES or view.storage.dtype != torch.uint8:
        raise UnsupportedPickleError("a tensor of an unknown type")
    return view._replace(dtype=BYTE_DTYPES[name.path])


ALLOWED_CALLS: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections OrderedDict": _call_ordered_dict,
    "torch._utils _rebuild_tensor_v2": _call_rebuild,
    "torch._utils _rebuild_tensor": _call_rebuild,
    "torch._utils _rebuild_tensor_v3": _call_rebuild_bytes,
    "torch._utils _rebuild_parameter": lambda arguments: arguments[0],
}
STORAGES = {f"torch {name}": dtype for name, dtype in STORAGE_DTYPES.items()} | {BYTE_STORAGE: torch.uint8}
ALLOWED_GLOBALS = ALLOWED_CALLS.keys() | STORAGES.keys() | BYTE_DTYPES.keys()
CONSTANT_OPCODES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY_OPCODES: Mapping[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TEXT_OPCODES = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING")
NUMBER_OPCODES = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
VALUE_OPCODES = frozenset((*TEXT_OPCODES, *NUMBER_OPCODES))
OPCODES = {operation.code.encode("latin-1"): operation for operation in pickletools.opcodes}
TUPLE_OPCODES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MARK = object()


def _argument(operation: pickletools.OpcodeInfo, stream: io.BytesIO) -> Any:
    return operation.arg.reader(stream) if operation.arg else None


@final
@dataclass(eq=False)
class _PickleReader:
    """Interprets one pickle, opcode by opcode."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, StorageRef] = field(default_factory=dict)

    def run(self, stream: io.BytesIO) -> Any:
        """Returns the object of the pickle at the stream's position, and moves the stream to its end."""
        for _ in range(MAX_PICKLE_OPERATIONS):
            operation = OPCODES.get(stream.read(1))
            if operation is None:
                raise ValueError("it ends early, or is not a pickle")
            name = operation.name
            if name in VALUE_OPCODES:
                self.stack.append(_argument(operation, stream))
            elif name in CONSTANT_OPCODES:
                self.stack.append(CONSTANT_OPCODES[name])
            elif name in EMPTY_OPCODES:
                self.stack.append(EMPTY_OPCODES[name]())
            elif name in TUPLE_OPCODES:
                self.stack.append(tuple(self.pop(TUPLE_OPCODES[name])))
            elif name == "GLOBAL":  # not with `pickletools`, which decodes the name as source text
                self.name(" ".join(stream.readline(MAX_GLOBAL_NAME).decode().strip() for _ in range(2)))
            elif name == "STOP":
                return self.stack.pop()
            elif name in OPCODE_ACTIONS:
                OPCODE_ACTIONS[name](self, _argument(operation, stream))
            else:
                raise UnsupportedPickleError(name)
        raise ValueError(f"it has more than {MAX_PICKLE_OPERATIONS:,} operations")

    def since_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:  # from the end, so that the total work is at most the number of pushes
            at -= 1
            if at < 0:
                raise ValueError("it reads below its stack")
        since = self.stack[at + 1 :]
        del self.stack[at:]
        return since

    def put(self, at: int) -> None:
        self.memo[at] = self.stack[-1]

    def name(self, path: str) -> None:
        if path not in ALLOWED_GLOBALS:
            raise UnsupportedPickleError(path)
        self.stack.append(GlobalName(path))

    def name_of_two(self) -> None:
        names = self.pop(2)
        if not all(isinstance(name, str) for name in names):
            raise UnsupportedPickleError("a name that is not text")
        self.name(" ".join(names))

    def call(self) -> None:
        name, arguments = self.pop(2)
        if type(name) is not GlobalName or name.path not in ALLOWED_CALLS or type(arguments) is not tuple:
            raise UnsupportedPickleError("a call of another function")
        self.stack.append(ALLOWED_CALLS[name.path](arguments))

    def find_storage(self) -> None:
        facts = self.stack.pop()
        kind, name, key, _, count = facts[:5] if type(facts) is tuple and len(facts) > 4 else (None,) * 5
        dtype = STORAGES.get(name.path) if type(name) is GlobalName else None
        if kind != "storage" or dtype is None or type(key) is not str or type(count) is not int or count < 0:
            raise UnsupportedPickleError("a storage of an unknown type")
        self.stack.append(self.storages.setdefault(key, StorageRef(dtype, key, count)))

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(pairs) % 2:
            raise UnsupportedPickleError("items of an object that is not a dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # The hash of deeply nested tuples would exhaust the C stack.
            if type(key) not in (str, int):
                raise UnsupportedPickleError(f"a {type(key).__name__} as a key")
            target[key] = value

    def append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise UnsupportedPickleError("an append to an object that is not a list")
        self.stack[-1].extend(values)

    def drop(self) -> None:
        self.stack.pop()

    def pop(self, count: int = 1) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("it reads below its stack")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values


OPCODE_ACTIONS: Mapping[str, Callable[[_PickleReader, Any], None]] = {
    "MARK": lambda reader, _: reader.stack.append(MARK),
    "TUPLE": lambda reader, _: reader.stack.append(tuple(reader.since_mark())),
    "LIST": lambda reader, _: reader.stack.append(reader.since_mark()),
    "MEMOIZE": lambda reader, _: reader.put(len(reader.memo)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda reader, at: reader.put(at)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda reader, at: reader.stack.append(reader.memo[at])),
    **dict.fromkeys(("PROTO", "FRAME"), lambda *_: None),
    "STACK_GLOBAL": lambda reader, _: reader.name_of_two(),
    "REDUCE": lambda reader, _: reader.call(),
    "BINPERSID": lambda reader, _: reader.find_storage(),
    "SETITEM": lambda reader, _: reader.set_items(reader.pop(2)),
    "SETITEMS": lambda reader, _: reader.set_items(reader.since_mark()),
    "APPEND": lambda reader, _: reader.append(reader.pop()),
    "APPENDS": lambda reader, _: reader.append(reader.since_mark()),
    "BUILD": lambda reader, _: reader.drop(),  # the version numbers of a state dict's modules, which are not needed
}
