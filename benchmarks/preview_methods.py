"""Methods to show a step: none, the hosts' table, Safelight's."""

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..decoders.catalogue import Catalogue
from ..decoders.files.shipped import open_shipped
from ..preview.images.encode import ImageEncoding
from ..preview.options import RunOptions
from ..preview.pipeline import Pipeline
from ..preview.run import Run
from ..preview.sinks.base import Sink
from ..preview.sinks.live_view import LiveView
from ..preview.sinks.run_folder import RunFolder
from ..preview.sinks.step_files import StepFiles
from ..preview.start import Outputs, start
from ..preview.step import Step
from .latent_cases import Case

Callback = Callable[[int, int, Tensor], object]


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is deleted after all workers have ended: the end of a run does not wait for the screen."""
    with tempfile.TemporaryDirectory() as temp:
        yield Path(temp)
        for thread in threading.enumerate():
            if thread.name.startswith("safelight"):
                thread.join()


@contextmanager
def no_preview(_: Case, __: Path) -> Iterator[Callback]:
    """No preview."""
    yield lambda *_: None


@contextmanager
def host_table(case: Case, _: Path) -> Iterator[Callback]:
    """Multiplies with the table and copies the picture to the CPU while the sampler waits, as hosts do.

    Hosts show the first picture and the first frame of a video; FLUX.2's 2x2 patches are unpacked.
    """
    tensors = open_shipped(case.table).net.state_dict()
    table, bias = tensors["weight"][:, :, 0, 0], tensors.get("bias")

    def show(*step: Any) -> None:
        x0: Tensor = step[-1]
        first = case.row.unpack(x0[:1])[0, :, 0]
        rgb = torch.nn.functional.linear(first.movedim(0, -1).float(), table.to(x0.device), bias)
        pixels = rgb.clamp(0, 1).mul(255).to(torch.uint8).cpu()
        Image.fromarray(pixels.numpy())

    yield show


@contextmanager
def watched(
    case: Case, folder: Path, *, screen: bool, files: bool, sinks: Sequence[Sink] = (), **options: Any
) -> Iterator[tuple[Pipeline, Run]]:
    """A run of Safelight with the sinks of ComfyUI's node, which write into `folder / run.id`, with its pipeline.

    `sinks` are further ones, `options` those of the run.
    """
    run = Run(space=case.space)
    live = None
    if screen:
        live_folder = RunFolder(folder / run.id / "live", run)
        encoding = ImageEncoding(file_format="jpg", max_side_px=1024)
        live = LiveView(StepFiles(live_folder, encoding), lambda *_: None, {})
    pipeline = start(
        run,
        case.row,
        RunOptions(write_intermediates=files, **{"batch": "first", "max_side_px": 0, **options}),
        Outputs(folder=RunFolder(folder / run.id / "saved", run) if files else None, live=live, sinks=sinks),
        candidates=lambda: Catalogue().candidates(case.row),
    )
    try:
        yield pipeline, run
    finally:
        pipeline.close("finished")


@contextmanager
def safelight(case: Case, folder: Path, *, screen: bool, files: bool) -> Iterator[Callback]:
    """Safelight with the sinks of ComfyUI's node, which write into a new folder in `folder`."""
    with watched(case, folder, screen=screen, files=files) as (pipeline, _):
        yield lambda index, total, x0: pipeline.offer(Step(index=index, total=total, sigma=1.0, denoised=x0))


@contextmanager
def idle(case: Case, folder: Path) -> Iterator[Callback]:
    """Safelight without a screen or files."""
    with safelight(case, folder, screen=False, files=False) as callback:
        yield callback


@contextmanager
def to_screen(case: Case, folder: Path) -> Iterator[Callback]:
    """Safelight with the node's viewer."""
    with safelight(case, folder, screen=True, files=False) as callback:
        yield callback


@contextmanager
def to_screen_and_files(case: Case, folder: Path) -> Iterator[Callback]:
    """Safelight with the node's viewer and a PNG for every step."""
    with safelight(case, folder, screen=True, files=True) as callback:
        yield callback


PreviewMethod = Callable[[Case, Path], AbstractContextManager[Callback]]

METHODS: Mapping[str, PreviewMethod] = {
    "no preview": no_preview,
    "table": host_table,
    "idle": idle,
    "screen": to_screen,
    "screen and files": to_screen_and_files,
}
