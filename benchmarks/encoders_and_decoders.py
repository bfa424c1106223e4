"""What was chosen by measurement, measured again: how decoders run, how pictures are encoded and written."""

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
from ..preview.picture import DecodedPicture
from ..preview.run import Run
from ..preview.sinks.run_folder import RunFolder
from ..preview.sinks.step_files import ENCODERS, StepFiles
from ..preview.step import StepInfo
from .timing import best_of_rounds

SIDE_PX = 1024
SPACE, SIDE = "flux2", 128  # latent pixels
SOME = ("flux2-affine", "flux2-affine-7x7", "flux2-conv-small", "flux2-conv-full")
PICTURES, TURNS = 4, 24
LOOK_S, LOOKED_AT = 0.0005, 3
PNG = ((0, 0), (1, 0), (1, 2), (1, 3), (2, 0), (4, 0), (6, 0), (9, 0))  # zlib's strategies: 2 is Huffman, 3 runs
TRIED: Mapping[str, tuple[dict[str, Any], ...]] = {
    "png": tuple({"compress_level": level, "compress_type": kind} for level, kind in PNG),
    "webp": tuple({"quality": 90, "method": method} for method in (0, 1, 2, 4, 6)),
    "jpg": ({"quality": 92, "subsampling": 0}, {"quality": 92, "subsampling": 2}),
}


def running(device: str) -> list[dict[str, Any]]:
    """Milliseconds to bytes of 128 x 128 latent pixels, each way to run a decoder; None where it does not run so."""
    latents = torch.randn(1, SPACES[SPACE].channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(device)
    found = {candidate.name: candidate for candidate in Catalogue().of(SPACES[SPACE])}
    return [_running(found[name].open().to(device), latents) for name in SOME]


def _running(decoder: Decoder, latents: Tensor) -> dict[str, Any]:
    net = decoder.net
    ways: dict[str, Callable[[], Callable[[], object]]] = {
        "as it is": lambda: lambda: to_bytes(decoder.decode(latents)).cpu(),
        "channels last": lambda: _with(net.to(memory_format=torch.channels_last), latents, torch.channels_last),  # pyright: ignore[reportCallIssue]
        "bfloat16": lambda: _with(net.to(torch.bfloat16), latents.bfloat16()),
        "half": lambda: _with(net.to(torch.float16), latents.half()),
        "compiled": lambda: _with(torch.compile(net.float(), dynamic=False), latents),
        "CUDA graph": lambda: _captured(net.float(), latents),
    }
    row: dict[str, Any] = {"decoder": decoder.name}
    for name, begin in ways.items():
        row[f"{name}, ms"] = None
        # What a compiler that is missing, or a device without such numbers, raises is not one kind of error.
        with suppress(Exception), torch.inference_mode():
            row[f"{name}, ms"] = best_of_rounds({name: begin()})[name]
        net.to(torch.float32, memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    return row


def _with(
    net: Callable[[Tensor], Tensor], latents: Tensor, layout: torch.memory_format = torch.contiguous_format
) -> Callable[[], object]:
    given = latents.contiguous(memory_format=layout)
    return lambda: to_bytes(net(given).float().clamp(0, 1)).cpu()


def _captured(net: Net, latents: Tensor) -> Callable[[], object]:
    if not latents.is_cuda:
        raise RuntimeError("expected a CUDA device")
    to_bytes(net(latents).clamp(0, 1))  # whatever is set up once
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        pixels = to_bytes(net(latents).clamp(0, 1))

    def replay() -> object:
        graph.replay()
        return pixels.cpu()

    return replay


def _releases_lock(name: str, file: type) -> bool:
    """Whether others can run while this is encoded: only JPEG needs its own kind of file for that."""
    return file is LockReleasingFile or "jpg" not in name


def encoding() -> list[dict[str, Any]]:
    """Milliseconds and bytes of a picture of 1024 px, each setting that was tried; the chosen ones are marked.

    And how long another thread that wants the interpreter waits meanwhile, the median.
    """
    images = [Image.fromarray(one) for one in generate_images(PICTURES, SIDE_PX, seed=3)]
    tried: dict[str, tuple[dict[str, Any], type[io.BytesIO]]] = {
        f"{name}, {', '.join(f'{key} {value}' for key, value in settings.items())}": (
            {**SAVE_OPTIONS[name], **settings},
            LockReleasingFile if name == "jpg" else io.BytesIO,
        )
        for name, some in TRIED.items()
        for settings in some
    }
    tried["jpg as chosen, all at once"] = (SAVE_OPTIONS["jpg"], io.BytesIO)
    acts = {name: partial(_sizes, images, *how) for name, how in tried.items()}
    ms = best_of_rounds(acts)
    return [
        {
            "setting": name,
            "ms": ms[name] / PICTURES,
            "kB": sum(acts[name]()) / PICTURES / 1000,
            "others wait, ms": _others_wait_ms(acts[name]),
            "chosen": "yes" if settings in SAVE_OPTIONS.values() and _releases_lock(name, file) else "",
        }
        for name, (settings, file) in tried.items()
    ]


def _sizes(images: list[Image.Image], settings: Mapping[str, Any], kind: type[io.BytesIO]) -> list[int]:
    files = [kind() for _ in images]
    for image, file in zip(images, files, strict=True):
        image.save(file, **settings)
    return [file.tell() for file in files]


def _others_wait_ms(act: Callable[[], object]) -> float:
    """By how much a thread that sleeps for half a millisecond again and again wakes too late while `act` runs."""
    late_s: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            began = time.perf_counter()
            time.sleep(LOOK_S)
            late_s.append(time.perf_counter() - began - LOOK_S)

    other = threading.Thread(target=look)
    other.start()
    for _ in range(LOOKED_AT):
        act()
    over.set()
    other.join()
    return statistics.median(late_s) * 1e3


def writing() -> list[dict[str, Any]]:
    """PNGs of 1024 px that are written in a second, by so many threads that encode."""
    some = [one[None, None] for one in generate_images(PICTURES, SIDE_PX, seed=3)]
    counts = sorted({0, 1, 2, ENCODERS, os.cpu_count() or 1})
    return [
        {"encoders": count, "pictures a second": _rate(count, some), "chosen": "yes" if count == ENCODERS else ""}
        for count in counts
    ]


def _rate(encoders: int, some: list[np.ndarray]) -> float:
    with tempfile.TemporaryDirectory() as temp:
        folder = RunFolder(Path(temp) / "run", Run())
        folder.open()
        files = StepFiles(folder, ImageEncoding(), encoders=encoders)
        files.open()
        began = time.perf_counter()
        for index in range(1, TURNS + 1):
            files.show(_picture(index, some[index % len(some)]))
        files.close("finished")  # waits for the encoders
        seconds = time.perf_counter() - began
        folder.close("finished")
    return TURNS / seconds


def _picture(index: int, pixels: np.ndarray) -> DecodedPicture:
    return DecodedPicture(
        step=StepInfo(index=index, total=TURNS, sigma=1.0),
        pixels=pixels,
        shown=(SIDE_PX, SIDE_PX),
        card=Card(name="none", space="flux2", kind="none"),
        decode_ms=0.0,
    )
