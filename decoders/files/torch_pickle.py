"""A state dict that `torch.save` wrote, had without unpickling it.

A pickle is a program. This reads the few of its operations that a state dict of plain tensors is written with, and
carries none of them out: a name in it is looked up in `CALLS` and `DTYPES`, never imported. `torch.load` is left out
of it: with `weights_only=True` it ran code before torch 2.6 (CVE-2025-32434), believed before 2.10 what a file says of
the length of its numbers (CVE-2026-24747), and unpacks as many gigabytes as a packed file promises.

    since 1.6      a zip file: `<name>/data.pkl`, `<name>/data/<key>`, none of it packed
    before         magic number, version, facts of the system, state dict, keys: a pickle each; then the numbers

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

MAGIC = 0x1950A86A20F9469CFC6C
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
ENTRY = b"PK\x01\x02"  # begins what a zip file says of one of the files in it
MAX_FILES = 20_000
MAX_PICKLE_BYTES, MAX_OPERATIONS = 4 << 20, 200_000  # a thousand tensors take 200 kB, 60,000 operations
MAX_NDIM, MAX_NAME = 16, 200
# What the readers of zip files and of pickles raise where those are broken.
UNREADABLE = (zipfile.BadZipFile, EOFError, LookupError, OverflowError, RuntimeError, struct.error)
MAX_NUMBERS = 1 << 60

DTYPES = {
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


class BeyondTensorsError(Exception):
    """The file holds something besides plain tensors; its text says what."""


class GlobalName(NamedTuple):
    """What a pickle would import."""

    path: str


class Storage(NamedTuple):
    """Numbers in the file: how many, of what type, under which key."""

    dtype: torch.dtype
    key: str
    numbers: int


class TensorPlan(NamedTuple):
    """A tensor that has not been made yet."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_torch_pickle(content: bytes) -> Any:
    """What the bytes of a file hold: a state dict, if all is well; its tensors are copies.

    Raises:
        BeyondTensorsError: not only plain tensors.
        ValueError: it is not a whole file of `torch.save`'s.
    """
    read = _read_zip if content.startswith(ZIP) else _read_old
    try:
        return read(content)
    except UNREADABLE as error:
        raise ValueError(f"{error}") from None


def _read_zip(content: bytes) -> Any:
    if content.count(ENTRY) > MAX_FILES:
        raise ValueError(f"a zip of more than {MAX_FILES:,} files")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if any(entry.compress_type or entry.flag_bits & 1 for entry in archive.infolist()):
            raise ValueError("its parts are packed, as torch.save does not pack them")
        if sum(entry.file_size for entry in archive.infolist()) > len(content):
            raise ValueError("its parts are longer than it is")
        roots = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(roots) != 1 or roots[0].count("/") != 1:
            raise ValueError(f"expected one data.pkl in it, found {len(roots)}")
        if "big" in (archive.read(name).decode() for name in archive.namelist() if name == f"{roots[0]}byteorder"):
            raise ValueError("it was written on a machine of another byte order")
        pickled = archive.read(f"{roots[0]}data.pkl")
        if len(pickled) > MAX_PICKLE_BYTES:
            raise ValueError(f"its data.pkl has {len(pickled):,} bytes; a state dict's has less than 4 MB")
        found = _Reading().run(io.BytesIO(pickled))
        return _made(found, lambda storage: archive.read(f"{roots[0]}data/{storage.key}"))


def _read_old(content: bytes) -> Any:
    stream = io.BytesIO(content[:MAX_PICKLE_BYTES])
    if (magic := _Reading().run(stream)) != MAGIC:
        raise ValueError(f"expected the number that a file of torch.save's begins with, got {type(magic).__name__}")
    _, _ = _Reading().run(stream), _Reading().run(stream)  # its version, and what it says of the system
    reading = _Reading()
    found, keys = reading.run(stream), _Reading().run(stream)
    numbers: dict[str, bytes] = {}
    at = stream.tell()
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str):
            raise ValueError("expected keys of numbers as texts")  # noqa: TRY004
        storage = reading.storages[key]
        count, at = int.from_bytes(content[at : at + 8], "little"), at + 8
        if count != storage.numbers:
            raise ValueError(f"storage {key[:40]!r} has {count:,} numbers; it is to have {storage.numbers:,}")
        numbers[key] = content[at : (at := at + count * storage.dtype.itemsize)]
    return _made(found, lambda storage: numbers[storage.key])


def _made(found: Any, numbers: Callable[[Storage], bytes]) -> Any:
    """What was read, with tensors in the place of plans."""
    bases: dict[Storage, Tensor] = {}

    def base(storage: Storage) -> Tensor:
        if storage not in bases:
            content = numbers(storage)
            if len(content) != storage.numbers * storage.dtype.itemsize:
                raise ValueError(
                    f"storage {storage.key[:40]!r} has {len(content):,} bytes; it needs {storage.numbers:,} numbers"
                )
            empty = torch.empty(0, dtype=storage.dtype)
            bases[storage] = torch.frombuffer(bytearray(content), dtype=storage.dtype) if content else empty
        return bases[storage]

    def make(value: Any) -> Any:
        return (
            base(value.storage).as_strided(value.size, value.stride, value.offset)
            if type(value) is TensorPlan
            else value
        )

    return {key: make(value) for key, value in found.items()} if isinstance(found, dict) else make(found)


def _call_ordered_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments:
        raise BeyondTensorsError("a dict that is made of something")
    return {}


def _call_rebuild(arguments: tuple[Any, ...]) -> TensorPlan:
    storage, offset, size, stride = arguments[:4]
    if [type(part) for part in (storage, size, stride)] != [Storage, tuple, tuple] or len(size) != len(stride):
        raise ValueError("a tensor is not made of numbers, size and stride")
    counts = (offset, *size, *stride)
    if len(size) > MAX_NDIM:
        raise ValueError(f"a tensor has {len(size):,} axes")
    if any(type(count) is not int or not 0 <= count < MAX_NUMBERS for count in counts) or prod(size) > MAX_NUMBERS:
        raise ValueError("a tensor has no possible size")
    if prod(size) and offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) >= storage.numbers:
        raise ValueError("a tensor is longer than its numbers")
    return TensorPlan(storage, offset, tuple(size), tuple(stride))


CALLS: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections OrderedDict": _call_ordered_dict,
    "torch._utils _rebuild_tensor_v2": _call_rebuild,
    "torch._utils _rebuild_tensor": _call_rebuild,
    "torch._utils _rebuild_parameter": lambda arguments: arguments[0],
}
KNOWN = CALLS.keys() | {f"torch {name}" for name in DTYPES}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: Mapping[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING", "BINSTRING")
NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
VALUES = frozenset((*TEXTS, *NUMBERS))
BY_CODE = {operation.code.encode("latin-1"): operation for operation in pickletools.opcodes}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
MARK = object()


def _argument(operation: pickletools.OpcodeInfo, stream: io.BytesIO) -> Any:
    return operation.arg.reader(stream) if operation.arg else None


@final
@dataclass(eq=False)
class _Reading:
    """One pickle, followed operation by operation."""

    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)

    def run(self, stream: io.BytesIO) -> Any:
        """What the pickle at the stream's place comes to; the stream is left behind it."""
        for _ in range(MAX_OPERATIONS):
            operation = BY_CODE.get(stream.read(1))
            if operation is None:
                raise ValueError("it ends early, or is no pickle")
            name = operation.name
            if name in VALUES:
                self.stack.append(_argument(operation, stream))
            elif name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in EMPTY:
                self.stack.append(EMPTY[name]())
            elif name in TUPLES:
                self.stack.append(tuple(self.pop(TUPLES[name])))
            elif name == "GLOBAL":  # read here: `pickletools` would take it for the text of a program
                self.name(" ".join(stream.readline(MAX_NAME).decode().strip() for _ in range(2)))
            elif name == "STOP":
                return self.stack.pop()
            elif name in OPERATIONS:
                OPERATIONS[name](self, _argument(operation, stream))
            else:
                raise BeyondTensorsError(name)
        raise ValueError("it goes on and on")

    def since_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not MARK:  # from its end: over all of them together, no more than was put there
            at -= 1
            if at < 0:
                raise ValueError("it takes more than it has")
        since = self.stack[at + 1 :]
        del self.stack[at:]
        return since

    def put(self, at: int) -> None:
        self.memo[at] = self.stack[-1]

    def name(self, path: str) -> None:
        if path not in KNOWN:
            raise BeyondTensorsError(path)
        self.stack.append(GlobalName(path))

    def name_of_two(self) -> None:
        names = self.pop(2)
        if not all(isinstance(name, str) for name in names):
            raise BeyondTensorsError("a name that is none")
        self.name(" ".join(names))

    def call(self) -> None:
        name, arguments = self.pop(2)
        if type(name) is not GlobalName or name.path not in CALLS or type(arguments) is not tuple:
            raise BeyondTensorsError("a call of what is no tensor")
        self.stack.append(CALLS[name.path](arguments))

    def find_storage(self) -> None:
        told = self.stack.pop()
        kind, name, key, _, count = told[:5] if type(told) is tuple and len(told) > 4 else (None,) * 5
        dtype = DTYPES.get(name.path.removeprefix("torch ")) if type(name) is GlobalName else None
        if kind != "storage" or dtype is None or type(key) is not str or type(count) is not int or count < 0:
            raise BeyondTensorsError("numbers of an unknown kind")
        self.stack.append(self.storages.setdefault(key, Storage(dtype, key, count)))

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(pairs) % 2:
            raise BeyondTensorsError("items of what is no dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # Of tuples in tuples in tuples the hash would need the whole stack of the machine.
            if type(key) not in (str, int):
                raise BeyondTensorsError(f"a {type(key).__name__} as the name of a value")
            target[key] = value

    def append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise BeyondTensorsError("a list that is none")
        self.stack[-1].extend(values)

    def drop(self) -> None:
        self.stack.pop()

    def pop(self, count: int = 1) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("it takes more than it has")
        values = self.stack[-count:]
        del self.stack[-count:]
        return values


OPERATIONS: Mapping[str, Callable[[_Reading, Any], None]] = {
    "MARK": lambda reading, _: reading.stack.append(MARK),
    "TUPLE": lambda reading, _: reading.stack.append(tuple(reading.since_mark())),
    "LIST": lambda reading, _: reading.stack.append(reading.since_mark()),
    "MEMOIZE": lambda reading, _: reading.put(len(reading.memo)),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), lambda reading, at: reading.put(at)),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), lambda reading, at: reading.stack.append(reading.memo[at])),
    **dict.fromkeys(("PROTO", "FRAME"), lambda *_: None),
    "STACK_GLOBAL": lambda reading, _: reading.name_of_two(),
    "REDUCE": lambda reading, _: reading.call(),
    "BINPERSID": lambda reading, _: reading.find_storage(),
    "SETITEM": lambda reading, _: reading.set_items(reading.pop(2)),
    "SETITEMS": lambda reading, _: reading.set_items(reading.since_mark()),
    "APPEND": lambda reading, _: reading.append(reading.pop()),
    "APPENDS": lambda reading, _: reading.append(reading.since_mark()),
    "BUILD": lambda reading, _: reading.drop(),  # the versions of a state dict's parts: nobody asks for them
}
