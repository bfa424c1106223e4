"""What is measured at several sizes: runs, viewers and libraries. All costs are processor time, not waiting."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...hosts.saved_library import SavedLibrary
from ...preview.images.encode import ImageEncoding
from ...preview.output_folder import create_numbered_folder
from ...preview.picture import DecodedPicture
from ...preview.pipeline import Pipeline
from ...preview.run import Run
from ...preview.sinks.base import Sink
from ...preview.sinks.live_runs import LiveRuns
from ...preview.sinks.run_folder import RunFolder
from ...preview.sinks.step_files import StepFiles
from ...preview.step import Step, StepInfo
from ..encoders_and_decoders import picture_of_step
from ..latent_cases import CASES, Case, picture_like
from ..preview_methods import temporary_folder, watched
from .curve import Limit

SAMPLER, OTHERS, REQUEST = "sampler's thread, per step", "worker and encoders, per step", "answer to a request"
START = "start of a run"
SMALL = Case("sd1", (1, 4, 8, 8), CASES["SD1 64x64"].table)
VIDEO = Case("wan21", (1, 16, 1, 12, 20), CASES["Wan 2.1, 21 frames"].table)
WARM_UP_STEPS, STEPS, REQUESTS = 2, 6, 20
STEP_TIMEOUT_S = 60.0
MAX_FILE_BYTES = 1 << 24
Costs = Mapping[str, float]  # microseconds by part
Measure = Callable[[int], Costs]


class Line(NamedTuple):
    """Something that grows.

    Args:
        name: name of the line.
        sizes: sizes in ascending order.
        limits: steepest allowed growth of each part of the cost.
        begin: function that prepares the measurement in a folder and returns it.
    """

    name: str
    sizes: Sequence[int]
    limits: Mapping[str, Limit]
    begin: Callable[[Path], Measure]


class _Arrival(Sink):
    """Counts pictures, so that the sampler can wait for the worker after each step."""

    name = "arrival"

    def __init__(self) -> None:
        self._shown = threading.Semaphore(0)

    def show(self, picture: DecodedPicture) -> None:
        self._shown.release()

    def wait(self) -> None:
        """Waits for the next picture."""
        if not self._shown.acquire(timeout=STEP_TIMEOUT_S):
            raise RuntimeError(f"expected a picture within {STEP_TIMEOUT_S:.0f} s, but the worker showed none")


@contextmanager
def _watching(case: Case, folder: Path, count: int, **options: Any) -> Iterator[Callable[[int, int, Tensor], float]]:
    """Runs that watch one sampler, with screen and files. The function offers a step; it returns the sampler's time."""
    with ExitStack() as runs:
        arrivals = [_Arrival() for _ in range(count)]
        pipelines: list[Pipeline] = [
            runs.enter_context(watched(case, folder, screen=True, files=True, sinks=(arrival,), **options))[0]
            for arrival in arrivals
        ]

        def offer(index: int, total: int, x0: Tensor) -> float:
            began_s = time.thread_time()
            for pipeline in pipelines:
                pipeline.offer(Step(index=index, total=total, sigma=1.0, denoised=x0))
            seconds = time.thread_time() - began_s
            for arrival in arrivals:
                arrival.wait()
            return seconds

        yield offer


@torch.inference_mode()
def _run(case: Case, folder: Path, steps: int, count: int = 1, **options: Any) -> Costs:
    """The cost of a step in a run of `steps` steps, after a few that set up what is needed once."""
    x0, total, sampler_s = picture_like(case.shape), steps + WARM_UP_STEPS, 0.0
    with _watching(case, folder, count, **options) as offer:
        for index in range(1, WARM_UP_STEPS + 1):
            offer(index, total, x0)
        all_s, own_s = time.process_time(), time.thread_time()
        for index in range(WARM_UP_STEPS + 1, total + 1):
            sampler_s += offer(index, total, x0)
        others_s = time.process_time() - all_s - (time.thread_time() - own_s)
    return {SAMPLER: 1e6 * sampler_s / steps, OTHERS: 1e6 * others_s / steps}


def _of_steps(folder: Path) -> Measure:
    return lambda steps: _run(SMALL, folder, steps)


def _of_nodes(folder: Path) -> Measure:
    return lambda nodes: _run(SMALL, folder, STEPS, nodes)


def _of_batch(folder: Path) -> Measure:
    return lambda items: _run(SMALL._replace(shape=(items, 4, 16, 16)), folder, STEPS, batch="all files")


def _of_frames(folder: Path) -> Measure:
    return lambda frames: _run(
        VIDEO._replace(shape=(*VIDEO.shape[:2], frames, *VIDEO.shape[3:])), folder, STEPS, frames="animated"
    )


def _of_pixels(folder: Path) -> Measure:
    def measure(pixels: int) -> Costs:
        side = round((pixels / 64) ** 0.5)  # SD1's latents have one number for 8 x 8 pixels
        return _run(SMALL._replace(shape=(1, 4, side, side)), folder, STEPS)

    return measure


def _of_viewers(folder: Path) -> Measure:
    """Each viewer gets each picture of a live run, as ComfyUI's server answers it."""
    live, run = LiveRuns(), Run(space="sd1")
    shown = live.new(run, folder, "owner")
    _record(shown.folder, 1)
    (name,) = shown.folder.files()

    def measure(viewers: int) -> Costs:
        began_s = time.thread_time()
        for _ in range(viewers):
            if live.read(shown.address, name, MAX_FILE_BYTES) is None:
                raise RuntimeError("expected the picture of a live run, but there is none")
        return {REQUEST: 1e6 * (time.thread_time() - began_s)}

    return measure


def _of_long_runs(folder: Path) -> Measure:
    """Requests for pictures of a live run that has many steps."""
    live, prepared = LiveRuns(), dict[int, tuple[str, str]]()

    def measure(steps: int) -> Costs:
        if steps not in prepared:
            shown = live.new(Run(space="sd1"), folder, "owner")
            _record(shown.folder, steps)
            prepared[steps] = shown.address, "2.jpg"
        address, name = prepared[steps]
        began_s = time.thread_time()
        for _ in range(REQUESTS):
            if live.read(address, name, MAX_FILE_BYTES) is None:
                raise RuntimeError("expected the picture of a live run, but there is none")
        return {REQUEST: 1e6 * (time.thread_time() - began_s) / REQUESTS}

    return measure


def _of_stored_runs(folder: Path) -> Measure:
    """A library that asks what is new, and a new run in its folder."""
    libraries: dict[int, tuple[SavedLibrary, str]] = {}

    def measure(runs: int) -> Costs:
        root = folder / f"runs_{runs}"
        if runs not in libraries:
            for index in range(1, runs + 1):
                _store(root / f"steps_{index:05d}")
            library = SavedLibrary(root)
            libraries[runs] = library, library.changes(None, None)["version"]
        library, version = libraries[runs]
        began_s = time.thread_time()
        library.runs.runs()
        answer = library.changes(version, None)
        asked_s = time.thread_time()
        created = create_numbered_folder(root, "steps")
        created_s = time.thread_time()
        created.rmdir()
        if answer["total"] != runs:
            raise RuntimeError(f"expected {runs} runs in the library, got {answer['total']}")
        return {REQUEST: 1e6 * (asked_s - began_s), START: 1e6 * (created_s - asked_s)}

    return measure


def _record(folder: RunFolder, steps: int) -> None:
    """Records `steps` steps, whose pictures are one small file."""
    folder.open()
    files = StepFiles(folder, ImageEncoding(file_format="jpg"))
    files.open()
    picture = picture_of_step(1, torch.zeros(1, 1, 16, 16, 3, dtype=torch.uint8).numpy())
    files.show(picture)
    (name,) = folder.files()
    for index in range(1, steps + 1):
        folder.record(replace(picture, step=StepInfo(index=index, total=steps)), name if index == 1 else f"{index}.jpg")
    for index in range(2, steps + 1):  # all exist, as of a real run
        (folder.path / f"{index}.jpg").touch()


def _store(path: Path) -> None:
    folder = RunFolder(path, Run(space="sd1"))
    folder.open()
    folder.close("finished")


PER_STEP = {SAMPLER: Limit.LINEAR, OTHERS: Limit.LINEAR}
LINES = (
    Line("steps of a run", (10, 100, 1000, 3000), {SAMPLER: Limit.FLAT, OTHERS: Limit.FLAT}, _of_steps),
    Line("batch items", (1, 4, 16, 64), PER_STEP, _of_batch),
    Line("latent frames", (1, 4, 16, 64), PER_STEP, _of_frames),
    Line("pixels of a picture", (128**2, 256**2, 512**2, 1024**2, 2048**2), PER_STEP, _of_pixels),
    Line("watching nodes", (1, 3, 10, 30), PER_STEP, _of_nodes),
    Line("viewers of a step", (1, 10, 100, 1000), {REQUEST: Limit.LINEAR}, _of_viewers),
    Line("steps of a viewed run", (10, 100, 1000, 10_000), {REQUEST: Limit.FLAT}, _of_long_runs),
    Line("stored runs", (10, 100, 1000, 10_000), {REQUEST: Limit.LINEAR, START: Limit.LINEAR}, _of_stored_runs),
)


def measure_line(
    line: Line, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> dict[str, dict[int, float]]:
    """The least cost at each size, by part. Sizes alternate in rounds, so that all have the same load of the machine.

    Args:
        line: what grows.
        seconds: time after which no further round begins. The first round is always complete.
        clock: function that returns seconds.
    """
    least: dict[str, dict[int, float]] = {part: {} for part in line.limits}
    with temporary_folder() as folder:
        measure, began_s = line.begin(folder), clock()
        measure(line.sizes[0])  # sets up what is needed once in a process
        while True:
            for size in line.sizes:
                for part, cost in measure(size).items():
                    least[part][size] = min(cost, least[part].get(size, cost))
            if clock() - began_s > seconds:
                return least
