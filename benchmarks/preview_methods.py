"""Ways to show a step: nobody's, the textbook's, ours."""

import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
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
from ..preview.run import Run
from ..preview.sinks.live_view import LiveView
from ..preview.sinks.run_folder import RunFolder
from ..preview.sinks.step_files import StepFiles
from ..preview.start import Outputs, start
from ..preview.step import Step
from .latent_cases import Case

Callback = Callable[[int, int, Tensor], object]


@contextmanager
def a_place() -> Iterator[Path]:
    """A folder that goes when nobody writes to it any more: the screen is not waited for when a run ends."""
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)
        for thread in threading.enumerate():
            if thread.name.startswith("safelight"):
                thread.join()


@contextmanager
def nothing(_: Case, __: Path) -> Iterator[Callback]:
    """No preview."""
    yield lambda *_: None


@contextmanager
def textbook(case: Case, _: Path) -> Iterator[Callback]:
    """Multiply with the table, to the CPU, a picture: while the sampler waits, as hosts do it.

    Hosts show the first picture, of a video the first frame; of FLUX.2's 2x2, the unpacked one.
    """
    tensors = open_shipped(case.textbook).net.state_dict()
    table, bias = tensors["weight"][:, :, 0, 0], tensors.get("bias")

    def show(*step: Any) -> None:
        x0: Tensor = step[-1]
        first = case.row.unpack(x0[:1])[0, :, 0]
        rgb = torch.nn.functional.linear(first.movedim(0, -1).float(), table.to(x0.device), bias)
        pixels = rgb.clamp(0, 1).mul(255).to(torch.uint8).cpu()
        Image.fromarray(pixels.numpy())

    yield show


@contextmanager
def ours(case: Case, place: Path, *, screen: bool, files: bool) -> Iterator[Callback]:
    """Safelight, with the sinks that ComfyUI's node has, in a folder of its own in `place`."""
    run = Run(space=case.space)
    live = None
    if screen:
        folder = RunFolder(place / run.id / "live", run)
        encoding = ImageEncoding(file_format="jpg", max_side_px=1024)
        live = LiveView(StepFiles(folder, encoding), lambda *_: None, {})
    pipeline = start(
        run,
        case.row,
        RunOptions(write_intermediates=files, batch="first", max_side_px=0),
        Outputs(folder=RunFolder(place / run.id / "kept", run) if files else None, live=live),
        candidates=lambda: Catalogue().candidates(case.row),
    )
    try:
        yield lambda index, total, x0: pipeline.offer(Step(index=index, total=total, sigma=1.0, denoised=x0))
    finally:
        pipeline.close("finished")


@contextmanager
def idle(case: Case, place: Path) -> Iterator[Callback]:
    """Safelight with nobody watching and nothing written."""
    with ours(case, place, screen=False, files=False) as callback:
        yield callback


@contextmanager
def to_screen(case: Case, place: Path) -> Iterator[Callback]:
    """Safelight on the node."""
    with ours(case, place, screen=True, files=False) as callback:
        yield callback


@contextmanager
def to_screen_and_files(case: Case, place: Path) -> Iterator[Callback]:
    """Safelight on the node, and a PNG for every step."""
    with ours(case, place, screen=True, files=True) as callback:
        yield callback


Way = Callable[[Case, Path], AbstractContextManager[Callback]]

WAYS: Mapping[str, Way] = {
    "nothing": nothing,
    "textbook": textbook,
    "idle": idle,
    "screen": to_screen,
    "screen and files": to_screen_and_files,
}
