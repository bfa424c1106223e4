"""Runs without any host: a sampler of your own, a folder with everything in it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..decoders.catalogue import AUTO, Catalogue
from ..decoders.latents.space import LatentSpace
from ..errors import SinkError
from ..preview.cadence import Cadence
from ..preview.decode.run_decoder import DecodeWorker
from ..preview.images.encode import ImageEncoding
from ..preview.pipeline import Pipeline, SinkSchedule
from ..preview.run import Run, State
from ..preview.sinks.animation import Animation
from ..preview.sinks.base import Sink
from ..preview.sinks.contact_sheet import ContactSheet
from ..preview.sinks.page import Page
from ..preview.sinks.run_folder import RunFolder
from ..preview.sinks.step_files import ENCODERS, StepFiles
from ..preview.step import Show

HOST = {"name": "headless"}


@contextmanager
def recording(
    folder: Path,
    space: LatentSpace,
    *,
    decoder: str = AUTO,
    catalogue: Catalogue | None = None,
    show: Show = "denoised",
    every_n_steps: int = 1,
    encoding: ImageEncoding | None = None,
    sampler: Mapping[str, Any] | None = None,
    sinks: Sequence[Sink] = (),
) -> Iterator[tuple[Pipeline, RunFolder]]:
    """Records a run into `folder`: a picture for each step, `run.json`, a contact sheet, an animation, a page.

        with recording(Path("runs/one"), SPACES["flux2"]) as (pipeline, folder):
            for index, sigma in ...:
                pipeline.offer(Step(index=index, total=20, sigma=sigma, denoised=x0))

    When the block ends, all files are there; `folder.manifest()` lists them.

    Args:
        folder: is made; must not exist, or be empty.
        space: of the latents that will be offered.
        decoder: one of `catalogue.names()`.
        catalogue: of decoders; those that ship if None.
        show: what of a step is looked at.
        every_n_steps: the last step is always recorded.
        encoding: of the step files; PNG at the decoder's size if None.
        sampler: facts for `run.json`.
        sinks: besides.

    Raises:
        SinkError: `folder` cannot be made, or has something in it.
        UnknownDecoderError: there is no such decoder for this space.
    """
    # Asked for here, so that a wrong name is an error now and not a note in a finished run.
    candidates = (catalogue or Catalogue()).candidates(space, decoder)
    _make_empty(folder)
    run = Run(host=HOST, space=space.name, sampler=sampler or {})
    kept = RunFolder(folder, run)
    files = StepFiles(kept, encoding or ImageEncoding(), encoders=ENCODERS)
    recorders = [kept, Page(kept), files, ContactSheet(kept), Animation(kept), *sinks]
    cadence = Cadence(every_n_steps)
    outlets = [SinkSchedule(sink, cadence) for sink in recorders]
    pipeline = Pipeline(run, DecodeWorker(space, lambda: candidates, run.note), outlets, show=show)
    state: State = "failed"
    try:
        yield pipeline, kept
        state = "finished"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        pipeline.close(state)


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        crowded = any(folder.iterdir())
    except OSError as error:
        raise SinkError(f"{folder}: expected a folder to write a run into: {error.strerror}") from None
    if crowded:
        raise SinkError(f"{folder}: expected an empty folder for a run, found files in it; name another")
