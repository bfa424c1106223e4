"""A device in the CPU's memory that records order: copies, events, waits and graph captures, by thread and stream."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor

from ...preview import snapshot
from .device import Device

LOAD_CHANNELS, LOAD_SIDE = 4, 8
FREE_BYTES, TOTAL_BYTES = 1 << 25, 1 << 34
DEFAULT_STREAM = "default stream"
WAITS = ("synchronize stream", "synchronize event", "synchronize device", "read")
FORBIDDEN_IN_GLOBAL_CAPTURES = (*WAITS, "allocate", "pin")  # to all threads, unless they ignore the captures of others
READS = (Tensor.item, Tensor.cpu, Tensor.numpy, Tensor.tolist, Tensor.__bool__, Tensor.__float__, Tensor.__int__)


class Operation(NamedTuple):
    """Something that a thread did with the device: `name`, on which stream, and with what."""

    thread: int
    stream: str
    name: str
    what: str = ""


class FakeStream:
    """A stream of a fake device: it only has a name."""

    device = torch.device("cpu")

    def __init__(self, fake: "FakeDevice", *_: object) -> None:
        self._fake, self.name = fake, fake.name("stream")

    def wait_event(self, event: "FakeEvent") -> None:
        """Notes that what follows on this stream waits for an event."""
        self._fake.note("wait", event.name, self.name)

    def wait_stream(self, other: "FakeStream") -> None:
        """Notes that what follows on this stream waits for another one."""
        self._fake.note("wait for stream", other.name, self.name)

    def synchronize(self) -> None:
        """Notes that the calling thread waits for this stream."""
        self._fake.note("synchronize stream", stream=self.name)


class FakeEvent:
    """An event of a fake device: it has a name and the time of its record."""

    def __init__(self, fake: "FakeDevice", *, enable_timing: bool = False, blocking: bool = False) -> None:
        del enable_timing, blocking  # as of torch.cuda.Event
        self._fake, self.name, self.at_s = fake, fake.name("event"), 0.0

    def record(self, stream: FakeStream | None = None) -> None:
        """Notes the event's place in a stream, by default the current one."""
        self.at_s = perf_counter()
        self._fake.note("record", self.name, None if stream is None else stream.name)

    def synchronize(self) -> None:
        """Notes that the calling thread waits for this event."""
        self._fake.note("synchronize event", self.name)

    def elapsed_time(self, end: "FakeEvent") -> float:
        """Milliseconds from this record to that of `end`."""
        return (end.at_s - self.at_s) * 1e3


def tensor_class_of(fake: "FakeDevice") -> type[Tensor]:
    """The class of a fake device's tensors: they claim not to be on the CPU, and note copies and reads."""

    class OnDevice(Tensor):
        is_cpu = property(lambda _: False)  # pyright: ignore[reportAssignmentType]

        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            options = kwargs or {}
            if func is Tensor.new_empty and options.get("pin_memory"):
                return fake.pin(args[0])
            if func is Tensor.copy_ and isinstance(args[1], cls):
                fake.note_copy(args[0], on_device=isinstance(args[0], cls))
            elif func in READS:
                fake.note("read")
            return super().__torch_function__(func, types, args, options)

    return OnDevice


class FakeDevice:
    """The record of one fake device, and its parts for `torch`.

    Attributes:
        operations: what happened, in order.
    """

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._lock = threading.Lock()
        self._threads = threading.local()
        self._names: dict[str, int] = {}
        self._ignoring: set[int] = set()  # threads that ignore the captures of others
        self._capture: dict[str, Any] | None = None
        self._pinned: set[int] = set()
        self.default = FakeStream(self)
        self.default.name = DEFAULT_STREAM
        self.tensor_class = tensor_class_of(self)

    def note(self, name: str, what: str = "", stream: str | None = None) -> None:
        """Adds an operation of the calling thread. In a global capture of another thread, a forbidden one breaks it."""
        thread = threading.get_ident()
        with self._lock:
            self.operations.append(Operation(thread, stream or self.current, name, what))
            capture = self._capture
            if capture is None or name not in FORBIDDEN_IN_GLOBAL_CAPTURES:
                return
            elsewhere = capture["mode"] == "global" and thread not in self._ignoring
            if thread == capture["thread"] or elsewhere:
                capture["broken_by"] = name

    def name(self, kind: str) -> str:
        """A new name, such as `event 3`."""
        with self._lock:
            self._names[kind] = self._names.get(kind, 0) + 1
            return f"{kind} {self._names[kind]}"

    @property
    def current(self) -> str:
        """The name of the calling thread's current stream."""
        return self._stack[-1].name if self._stack else DEFAULT_STREAM

    @property
    def _stack(self) -> list[Any]:
        if not hasattr(self._threads, "streams"):
            self._threads.streams = []
        return self._threads.streams

    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        """A block in which `stream` is the calling thread's current stream."""
        self._stack.append(stream)
        try:
            yield
        finally:
            self._stack.pop()

    def current_stream(self, _: object = None) -> Any:
        """The calling thread's current stream."""
        return self._stack[-1] if self._stack else self.default

    def ignore_captures(self, _: str = "") -> None:
        """What `ignore_captures_of_other_threads` does on a real device."""
        self._ignoring.add(threading.get_ident())

    def is_capturing(self) -> bool:
        """Whether the calling thread captures a graph."""
        return self._capture is not None and self._capture["thread"] == threading.get_ident()

    @contextmanager
    def capturing(self, _: object, *, stream: Any = None, capture_error_mode: str = "global") -> Iterator[None]:
        """Captures what the block queues; raises at its end if an operation broke the capture."""
        self._capture = {"mode": capture_error_mode, "thread": threading.get_ident(), "broken_by": ""}
        self.note("capture begins", capture_error_mode)
        try:
            with self.on(stream or self.default):
                yield
        finally:
            capture, self._capture = self._capture, None
            self.note("capture ends", capture["broken_by"])
        if capture["broken_by"]:
            raise RuntimeError(f"operation failed due to a previous error during capture: {capture['broken_by']}")

    def waits(self, action: Callable[[], object]) -> int:
        """Runs an action and returns how often the calling thread waited for the device."""
        before = len(self.operations)
        action()
        thread = threading.get_ident()
        return sum(each.thread == thread and each.name in WAITS for each in self.operations[before:])

    def empty(self, real_empty: Callable[..., Tensor], tensor_class: type[Tensor]) -> Callable[..., Tensor]:
        """`torch.empty`, with memory of this device where the CPU is asked for by name."""

        def allocate(*size: Any, **options: Any) -> Tensor:
            memory = real_empty(*size, **options)
            if options.get("device") != torch.device("cpu"):
                return memory
            self.note("allocate", f"{memory.nbytes} bytes")
            return memory.as_subclass(tensor_class)

        return allocate

    def pin(self, pixels: Tensor) -> Tensor:
        """Pinned memory of the CPU for a copy of `pixels`."""
        memory = torch.empty(pixels.shape, dtype=pixels.dtype)
        self.note("pin", f"{memory.nbytes} bytes")
        self._pinned.add(memory.data_ptr())
        return memory

    def note_copy(self, target: Tensor, *, on_device: bool) -> None:
        """Notes a copy from the device, to itself or to the CPU."""
        if on_device:
            self.note("copy", hex(target.data_ptr()))
        else:
            self.note("copy to host", "pinned" if target.data_ptr() in self._pinned else "pageable")

    def api(self) -> Any:
        """The part of `torch.cuda` that the measurements use."""
        return SimpleNamespace(
            Stream=partial(FakeStream, self),
            Event=partial(FakeEvent, self),
            stream=self.on,
            current_stream=self.current_stream,
            synchronize=lambda: self.note("synchronize device"),
            is_current_stream_capturing=self.is_capturing,
            CUDAGraph=lambda: SimpleNamespace(replay=lambda: self.note("replay")),
            graph=self.capturing,
            set_sync_debug_mode=lambda _: None,
            reset_peak_memory_stats=lambda: None,
            max_memory_allocated=lambda: 0,
            memory_allocated=lambda: 0,
            mem_get_info=lambda *_: (FREE_BYTES, TOTAL_BYTES),
            get_device_properties=lambda _: SimpleNamespace(
                name="fake device in the CPU's memory", total_memory=TOTAL_BYTES, multi_processor_count=0
            ),
            device_count=lambda: 1,
            empty_cache=lambda: None,
        )


@contextmanager
def fake_device() -> Iterator[tuple[Device, FakeDevice]]:
    """A block in which the CPU's memory stands for a device: `torch.cpu` has its streams and events."""
    fake = FakeDevice()
    api = fake.api()
    parts = {name: getattr(api, name) for name in ("Stream", "Event", "stream", "current_stream")}
    parts["is_current_stream_capturing"] = api.is_current_stream_capturing
    with (
        mock.patch.multiple(torch.cpu, create=True, **parts),
        mock.patch.object(torch, "empty", fake.empty(torch.empty, fake.tensor_class)),
        mock.patch.object(snapshot, "ignore_captures_of_other_threads", fake.ignore_captures),
    ):
        yield (
            Device(
                api, lambda tensor: tensor.clone().as_subclass(fake.tensor_class), fake.waits, LOAD_CHANNELS, LOAD_SIDE
            ),
            fake,
        )
