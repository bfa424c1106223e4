"""Faults that a test can cause in one sampler call of a server."""

import ctypes
import errno
import itertools
import pathlib
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, BinaryIO

import comfy.model_management
import comfy.patcher_extension
import torch
from aiohttp import web
from server import PromptServer

RELEASED = threading.Event()  # functions hang until this is set, by `POST /lab/release`
HANGS_AT_MOST_S = 150.0
PNG = b"\x89PNG"


def ours(name: str) -> ModuleType:
    """A module of the pack under test, for any name of its folder."""
    return next(module for key, module in sys.modules.items() if key.endswith(f".{name}"))


@contextmanager
def instead(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class Turn:
    """Returns for each call whether it fails: `times` calls from call `at` on; 0 for all."""

    def __init__(self, at: int, times: int) -> None:
        self._calls, self._at, self._times = itertools.count(1), at, times

    def __call__(self) -> bool:
        call = next(self._calls)
        return call >= self._at and (not self._times or call < self._at + self._times)


def no_memory() -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB, as the lab was asked to.")


def raising(module: str, owner: str | None, name: str, error: Callable[[], BaseException]) -> Callable[[Turn], Any]:
    """Makes a function of our pack raise."""

    def fault(turn: Turn) -> Any:
        place = getattr(ours(module), owner) if owner else ours(module)
        before = vars(place)[name]

        def function(*args: Any, **kwargs: Any) -> Any:
            if turn():
                raise error()
            return before(*args, **kwargs)

        return instead(place, name, function)

    return fault


def making(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Turn], Any]:
    """Changes the output of a decoder's net."""

    def fault(turn: Turn) -> Any:
        decoder = ours("decoders.decoder").Decoder
        before = vars(decoder)["_visible"]
        return instead(decoder, "_visible", lambda self, rgb, of: before(self, change(rgb) if turn() else rgb, of))

    return fault


def hanging(module: str, owner: str, name: str) -> Callable[[Turn], Any]:
    """Makes a function of our pack hang until it is released."""

    @contextmanager
    def fault(turn: Turn) -> Iterator[None]:
        place = getattr(ours(module), owner)
        before = vars(place)[name]

        def function(*args: Any, **kwargs: Any) -> Any:
            if turn():
                RELEASED.wait(HANGS_AT_MOST_S)
            return before(*args, **kwargs)

        RELEASED.clear()
        with instead(place, name, function):
            yield

    return fault


@contextmanager
def half_written(turn: Turn) -> Iterator[None]:
    """Writes half of a file, and the rest after a release."""
    module = ours("decoders.files.contained_file")

    def fill(file: BinaryIO, content: bytes) -> None:
        half = len(content) // 2
        file.write(content[:half])
        if content.startswith(PNG) and turn():
            file.flush()
            RELEASED.wait(HANGS_AT_MOST_S)
        file.write(content[half:])

    RELEASED.clear()
    with instead(module, "fill", fill):
        yield


def failing() -> RuntimeError:
    return RuntimeError("the lab's decoder fails here, as it was asked to")


def every_other(rgb: torch.Tensor, value: float) -> torch.Tensor:
    """Sets every second column to a value."""
    return torch.where(torch.arange(rgb.shape[-1], device=rgb.device) % 2 == 1, value, rgb)


class StrangeError(Exception):
    """An exception whose text cannot be read."""

    def __str__(self) -> str:
        raise ValueError("no words")


FAULTS: dict[str, Callable[[Turn], Any]] = {
    "decoder raises": raising("decoders.decoder", "Decoder", "frames", failing),
    "decoder raises what cannot be printed": raising("decoders.decoder", "Decoder", "frames", StrangeError),
    "decoder asks the interpreter to exit": raising("decoders.decoder", "Decoder", "frames", SystemExit),
    "decoder gives NaN": making(lambda rgb: rgb * torch.nan),
    "decoder gives infinities": making(lambda rgb: rgb / 0.0),
    "decoder gives some NaN": making(lambda rgb: every_other(rgb, torch.nan)),
    "decoder gives some infinities": making(lambda rgb: every_other(rgb, torch.inf)),
    "decoder gives two colors": making(lambda rgb: rgb[:, :2]),
    "decoder gives another size": making(lambda rgb: rgb[:, :, ::2, ::2]),
    "decoder gives no pixels": making(lambda rgb: rgb[:, :, :0]),
    "no memory to load": raising("preview.decode.decoder_cache", "DecoderCache", "take", no_memory),
    "no memory to decode": raising("decoders.decoder", "Decoder", "frames", no_memory),
    "no memory to copy": raising("preview.snapshot", "Snapshots", "take", no_memory),
    "no memory for pixels": raising("preview.decode.run_decoder", None, "to_host", no_memory),
    "disk fails": raising(
        "preview.sinks.run_folder", "RunFolder", "write", lambda: OSError(errno.EIO, "Input/output error")
    ),
    "encoder fails": raising("preview.images.encode", "ImageEncoding", "save", failing),
    "viewer cannot be told": raising("preview.sinks.live_view", "LiveView", "show", failing),
    "nothing can be looked up": raising("decoders.catalogue", "Catalogue", "candidates", failing),
    "files hang": hanging("preview.sinks.step_files", "StepFiles", "show"),
    "decoder hangs": hanging("decoders.decoder", "Decoder", "frames"),
    "half a file": half_written,
}


def kill_worker(_: str) -> None:
    """Raises an exception in the worker, wherever it is: the nearest to killing a thread."""
    for thread in threading.enumerate():
        if thread.name.startswith("safelight-") and "encoder" not in thread.name:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


def remove(path: str) -> None:
    """Deletes a folder while another thread writes into it."""
    for _ in range(1000):
        shutil.rmtree(path, ignore_errors=True)
        if not pathlib.Path(path).exists():
            return
    raise OSError(f"{path}: cannot be removed")


ACTIONS: dict[str, Callable[[str], object]] = {
    "cancel": lambda _: comfy.model_management.interrupt_current_processing(),
    "worker is killed": kill_worker,
    "folder is removed": remove,
    "file is put there": lambda path: pathlib.Path(path).write_bytes(b"another program's"),
    "folder is put there": lambda path: pathlib.Path(path).mkdir(),
}
WHEN = ("before the host's callback", "after the host's callback")


class LabTrouble:
    """Causes faults in everything after it on the model line, while a sampler runs. Put it first.

    A fault of FAULTS begins with call `at`, for `times` calls or all; an action of ACTIONS is done at step `at`.
    With `close_s`, the end of a run waits at most so many seconds.
    """

    RETURN_TYPES = ("MODEL",)
    FUNCTION, CATEGORY = "make", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {
            "required": {
                "model": ("MODEL",),
                "what": ([*FAULTS, *ACTIONS],),
                "at": ("INT", {"default": 1}),
                "times": ("INT", {"default": 0}),
                "path": ("STRING", {"default": ""}),
                "when": (WHEN,),
                "close_s": ("FLOAT", {"default": 0.0}),
            }
        }

    def make(self, model, what, at, times, path, when, close_s):
        def wrapper(executor, noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs):
            def watched(step, x0, x, total):
                due = what in ACTIONS and step + 1 == at
                if due and when == WHEN[0]:
                    ACTIONS[what](path)
                if callback is not None:
                    callback(step, x0, x, total)
                if due and when == WHEN[1]:
                    ACTIONS[what](path)

            with FAULTS[what](Turn(at, times)) if what in FAULTS else patience(0), patience(close_s):
                return executor(noise, latent_image, sampler, sigmas, denoise_mask, watched, *args, **kwargs)

        troubled = model.clone()
        troubled.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, f"lab {what} {at}", wrapper)
        return (troubled,)


@contextmanager
def patience(close_s: float) -> Iterator[None]:
    """Limits how long the end of a run and a full mailbox delay the sampler; 0 for no change."""
    if not close_s:
        yield
        return
    close, mailbox = ours("preview.pipeline").Pipeline.close, ours("preview.mailbox").Mailbox.__init__
    before = close.__defaults__, mailbox.__kwdefaults__
    close.__defaults__, mailbox.__kwdefaults__ = (close_s,), {**before[1], "patience_s": close_s}
    try:
        yield
    finally:
        close.__defaults__, mailbox.__kwdefaults__ = before


@PromptServer.instance.routes.post("/lab/release")
async def release(_: web.Request) -> web.Response:
    RELEASED.set()
    return web.json_response({})
