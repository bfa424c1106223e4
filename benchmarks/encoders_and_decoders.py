"""Measures choices of Safelight: how decoders run, and how pictures are encoded and written."""

import io
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..decoders.catalogue import Catalogue
from ..decoders.decoder import Card, Decoder, to_bytes
from ..decoders.latents.space_table import SPACES
from ..decoders.nets.base import Net
from ..fitting.procedural_images import generate_images
from ..preview.images.encode import SAVE_OPTIONS, ImageEncoding, LockReleasingFile
from ..preview.images.png import encode_png
from ..preview.picture import DecodedPicture
from ..preview.run import Run
from ..preview.sinks.run_folder import RunFolder
from ..preview.sinks.step_files import ENCODERS, StepFiles
from ..preview.step import StepInfo
from .timing import best_of_rounds

SIDE_PX = 1024
DECODER_SPACE, LATENT_SIDE = "flux2", 128  # latent pixels
DECODERS = ("flux2-affine", "flux2-affine-7x7", "flux2-conv-small", "flux2-conv-full")
PICTURES, WRITTEN_FILES = 4, 24
NAP_S, NAP_REPEATS = 0.0005, 3
PNG_SETTINGS = (
    (0, 0),
    (1, 0),
    (1, 2),
    (1, 3),
    (2, 0),
    (4, 0),
    (6, 0),
    (9, 0),
)  # zlib's strategies: 2 is Huffman, 3 runs
FORMATS = {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}
ENCODER_SETTINGS: Mapping[str, tuple[dict[str, Any], ...]] = {
    "png": tuple({"compress_level": level, "compress_type": kind} for level, kind in PNG_SETTINGS),
    "webp": tuple({"quality": 90, "method": method} for method in (0, 1, 2, 4, 6)),
    "jpg": ({"quality": 92, "subsampling": 0}, {"quality": 92, "subsampling": 2}),
}


def running(device: str) -> list[dict[str, Any]]:
    """Measures ways to run a decoder: milliseconds from 128 x 128 latent pixels to bytes, None if unsupported."""
    latents = torch.randn(
        1, SPACES[DECODER_SPACE].channels, LATENT_SIDE, LATENT_SIDE, generator=torch.Generator().manual_seed(0)
    ).to(device)
    candidates = {candidate.name: candidate for candidate in Catalogue().of(SPACES[DECODER_SPACE])}
    return [_running(candidates[name].open().to(device), latents) for name in DECODERS]


def _running(decoder: Decoder, latents: Tensor) -> dict[str, Any]:
    net = decoder.net
    ways: dict[str, Callable[[], Callable[[], object]]] = {
        "float32": lambda: lambda: to_bytes(decoder.decode(latents)).cpu(),
        "channels last": lambda: _run_net(net.to(memory_format=torch.channels_last), latents, torch.channels_last),  # pyright: ignore[reportCallIssue]
        "bfloat16": lambda: _run_net(net.to(torch.bfloat16), latents.bfloat16()),
        "half": lambda: _run_net(net.to(torch.float16), latents.half()),
        "compiled": lambda: _run_net(torch.compile(net.float(), dynamic=False), latents),
        "CUDA graph": lambda: _cuda_graph(net.float(), latents),
    }
    row: dict[str, Any] = {"decoder": decoder.name}
    for name, begin in ways.items():
        row[f"{name}, ms"] = None
        # A missing compiler and a device without this dtype raise different kinds of errors.
        with suppress(Exception), torch.inference_mode():
            row[f"{name}, ms"] = best_of_rounds({name: begin()})[name]
        net.to(torch.float32, memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    return row


def _run_net(
    net: Callable[[Tensor], Tensor], latents: Tensor, layout: torch.memory_format = torch.contiguous_format
) -> Callable[[], object]:
    net_input = latents.contiguous(memory_format=layout)
    return lambda: to_bytes(net(net_input).float().clamp(0, 1)).cpu()


def _cuda_graph(net: Net, latents: Tensor) -> Callable[[], object]:
    if not latents.is_cuda:
        raise RuntimeError("expected a CUDA device")
    to_bytes(net(latents).clamp(0, 1))  # sets up what is needed once
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        pixels = to_bytes(net(latents).clamp(0, 1))

    def replay() -> object:
        graph.replay()
        return pixels.cpu()

    return replay


def _is_chosen(name: str, settings: Mapping[str, Any], file: type) -> bool:
    """Whether Safelight saves like this. A JPEG needs a special file, so that other threads can run."""
    return settings in SAVE_OPTIONS.values() and (file is LockReleasingFile or "jpg" not in name)


def encoding() -> list[dict[str, Any]]:
    """Measures encoder settings: time and size of a picture of 1024 px, and the median delay of another thread.

    Safelight's settings are marked as chosen.
    """
    images = [Image.fromarray(pixels) for pixels in generate_images(PICTURES, SIDE_PX, seed=3)]
    cases: dict[str, tuple[dict[str, Any], type[io.BytesIO]]] = {
        f"{name}, {', '.join(f'{key} {value}' for key, value in settings.items())}": (
            {"format": FORMATS[name], **settings},
            LockReleasingFile if name == "jpg" else io.BytesIO,
        )
        for name, variants in ENCODER_SETTINGS.items()
        for settings in variants
    }
    cases["jpg as chosen, in one block"] = (SAVE_OPTIONS["jpg"], io.BytesIO)
    encoders: dict[str, Callable[[], list[int]]] = {
        "png, as chosen": lambda: [len(encode_png(np.asarray(image))) for image in images]
    }
    encoders |= {name: partial(_sizes, images, *case) for name, case in cases.items()}
    ms = best_of_rounds(encoders)
    return [
        {
            "setting": name,
            "ms": ms[name] / PICTURES,
            "kB": sum(encoders[name]()) / PICTURES / 1000,
            "other threads wait, ms": _delay_of_other_threads_ms(encoders[name]),
            "chosen": "yes" if name not in cases or _is_chosen(name, *cases[name]) else "",
        }
        for name in encoders
    ]


def _sizes(images: list[Image.Image], settings: Mapping[str, Any], kind: type[io.BytesIO]) -> list[int]:
    files = [kind() for _ in images]
    for image, file in zip(images, files, strict=True):
        image.save(file, **settings)
    return [file.tell() for file in files]


def _delay_of_other_threads_ms(action: Callable[[], object]) -> float:
    """Median delay of a thread that sleeps for half a millisecond repeatedly while `action` runs."""
    delays_s: list[float] = []
    ended = threading.Event()

    def nap() -> None:
        while not ended.is_set():
            began = time.perf_counter()
            time.sleep(NAP_S)
            delays_s.append(time.perf_counter() - began - NAP_S)

    other = threading.Thread(target=nap)
    other.start()
    for _ in range(NAP_REPEATS):
        action()
    ended.set()
    other.join()
    return statistics.median(delays_s) * 1e3


def writing() -> list[dict[str, Any]]:
    """Measures PNGs of 1024 px that are written per second, for each number of encoder threads."""
    images = [pixels[None, None] for pixels in generate_images(PICTURES, SIDE_PX, seed=3)]
    counts = sorted({0, 1, 2, ENCODERS, os.cpu_count() or 1})
    return [
        {"encoders": count, "pictures per second": _rate(count, images), "chosen": "yes" if count == ENCODERS else ""}
        for count in counts
    ]


def _rate(encoders: int, images: list[np.ndarray]) -> float:
    with tempfile.TemporaryDirectory() as temp:
        folder = RunFolder(Path(temp) / "run", Run())
        folder.open()
        files = StepFiles(folder, ImageEncoding(), encoders=encoders)
        files.open()
        began = time.perf_counter()
        for index in range(1, WRITTEN_FILES + 1):
            files.show(picture_of_step(index, images[index % len(images)]))
        files.close("finished")  # waits for the encoders
        seconds = time.perf_counter() - began
        folder.close("finished")
    return WRITTEN_FILES / seconds


def picture_of_step(index: int, pixels: np.ndarray) -> DecodedPicture:
    """A picture of a step, as a decoder would give it; `pixels` is `[B, T, H, W, 3]` uint8."""
    return DecodedPicture(
        step=StepInfo(index=index, total=WRITTEN_FILES, sigma=1.0),
        pixels=pixels,
        shown=(SIDE_PX, SIDE_PX),
        card=Card(name="none", space="flux2", kind="none"),
        decode_ms=0.0,
    )
