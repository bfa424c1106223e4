"""Previews beside a host's own use of the device: graph captures, and memory that is nearly full."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ...preview.decode.memory_budget import MB
from ...preview.step import Step
from ..latent_cases import CASES, Case
from ..preview_methods import temporary_folder, watched
from .device import ConvolutionLoad, Device
from .rows import Row, equal

CAPTURE, FULL = "capture", "low memory"
MODES = ("thread_local", "global", "relaxed")  # of cudaStreamBeginCapture; ComfyUI uses the first, PyTorch the second
CASE = "FLUX.2 128x128"
CAPTURES, CAPTURE_STEPS, REPLAYS, PASSES = 36, 12, 4, 8
FREE_BYTES = 32 * MB


@torch.inference_mode()
def capture_rows(device: Device) -> Iterator[Row]:
    """Records the sampler's forward again and again, while the worker decodes, encodes and writes."""
    load = ConvolutionLoad(device)
    for mode in MODES:
        alone = _replayed(device, load, mode)
        broken, other = 0, 0
        with temporary_folder() as folder, watched(CASES[CASE], folder, screen=True, files=True) as (pipeline, run):
            x0 = device.put(CASES[CASE].latents("cpu"))
            for index in range(CAPTURES):
                if index % (CAPTURES // CAPTURE_STEPS) == 0:
                    step = 1 + index // (CAPTURES // CAPTURE_STEPS)
                    pipeline.offer(Step(index=step, total=CAPTURE_STEPS, sigma=1.0, denoised=x0))
                try:
                    other += _replayed(device, load, mode) != alone
                except RuntimeError:
                    broken += 1
            pipeline.close("finished")
            written = _pictures(folder / run.id)
        yield equal(CAPTURE, f"{mode}: captures that broke, of {CAPTURES}", broken, 0)
        yield equal(CAPTURE, f"{mode}: replayed results that differ", other, 0)
        yield equal(CAPTURE, f"{mode}: pictures of {CAPTURE_STEPS} steps beside the captures", written, CAPTURE_STEPS)
        yield equal(CAPTURE, f"{mode}: notes of the run", "; ".join(map(str, run.notes)) or "none", "none")
    yield _step_inside(device, load)


def _replayed(device: Device, load: ConvolutionLoad, mode: str) -> str:
    """Records a few passes, replays them, and returns the digest of the result."""
    graph, stream = device.api.CUDAGraph(), device.api.Stream()
    values = load.input.clone()
    stream.wait_stream(device.api.current_stream())
    with device.api.stream(stream):  # libraries set themselves up before a capture, on its stream
        load.forward(values)
    device.api.current_stream().wait_stream(stream)
    with device.api.graph(graph, stream=stream, capture_error_mode=mode):
        result = values
        for _ in range(PASSES):
            result = load.forward(result)
    for _ in range(REPLAYS):
        graph.replay()
        values.copy_(result)
    device.api.synchronize()
    return digest(result)


def _step_inside(device: Device, load: ConvolutionLoad) -> Row:
    """A host that captures the preview's callback as well: the step is refused, the capture goes on."""
    with temporary_folder() as folder, watched(CASES[CASE], folder, screen=False, files=True) as (pipeline, run):
        x0 = device.put(CASES[CASE].latents("cpu"))
        stream = device.api.Stream()
        with device.api.stream(stream):  # libraries set themselves up before the capture
            load.forward(load.input)
        with device.api.graph(device.api.CUDAGraph(), stream=stream):
            load.forward(load.input)
            pipeline.offer(Step(index=1, total=2, sigma=1.0, denoised=x0))
        pipeline.offer(Step(index=2, total=2, sigma=1.0, denoised=x0))
        pipeline.close("finished")
        return equal(
            CAPTURE, "pictures of 2 steps, one of them offered inside of a capture", _pictures(folder / run.id), 1
        )


@torch.inference_mode()
def full_rows(device: Device) -> Iterator[Row]:
    """Fills the device's memory: the preview goes on with less, and the sampler's result is the same."""
    load = ConvolutionLoad(device)
    expected, _, _ = _sampled(device, load)
    with _filled(device):
        free_mb = device.api.mem_get_info()[0] / MB
        result, pictures, notes = _sampled(device, load)
    yield Row(FULL, "MB that were free", free_mb)
    yield equal(FULL, "result of the sampler", "same" if result == expected else "another", "same")
    yield equal(FULL, f"pictures of {CAPTURE_STEPS} steps", pictures, CAPTURE_STEPS)
    yield Row(FULL, "what the run notes", notes)


def _sampled(device: Device, load: ConvolutionLoad) -> tuple[str, int, str]:
    """The digest of a sampler's result, the number of its pictures, and the notes of its run."""
    case: Case = CASES[CASE]
    with temporary_folder() as folder, watched(case, folder, screen=True, files=True) as (pipeline, run):
        x0, values = device.put(case.latents("cpu")), load.input.clone()
        for index in range(1, CAPTURE_STEPS + 1):
            values = load.forward(values)
            x0.mul_(0.99).add_(values.mean())
            pipeline.offer(Step(index=index, total=CAPTURE_STEPS, sigma=1.0, denoised=x0))
        pipeline.close("finished")
        return digest(x0), _pictures(folder / run.id), "; ".join(map(str, run.notes)) or "nothing"


@contextmanager
def _filled(device: Device) -> Iterator[None]:
    """A block in which all but `FREE_BYTES` of the device's free memory is in use. What PyTorch caches stays."""
    filler: list[Tensor] = []
    piece = device.api.mem_get_info()[0] - FREE_BYTES
    while piece >= MB and device.api.mem_get_info()[0] > FREE_BYTES + MB:
        try:
            filler.append(
                torch.empty(min(piece, device.api.mem_get_info()[0] - FREE_BYTES), dtype=torch.uint8, device="cuda")
            )
        except RuntimeError:  # in pieces, if the free memory is not in one
            piece //= 2
    try:
        yield
    finally:
        filler.clear()
        device.api.empty_cache()


def digest(values: Tensor) -> str:
    """The hash of a tensor's bytes."""
    return hashlib.sha256(values.detach().cpu().numpy().tobytes()).hexdigest()[:16]


def _pictures(folder: Path) -> int:
    return len(list(Path(folder, "saved").glob("*.png")))
