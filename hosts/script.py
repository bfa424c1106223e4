"""Records a run of any sampler, without a host."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..decoders.catalogue import AUTO, Catalogue
from ..decoders.latents.space import LatentSpace
from ..errors import SinkError
from ..preview.decode.decoder_trial import DecoderTrial
from ..preview.options import RunOptions
from ..preview.output_folder import absolute_path
from ..preview.pipeline import Pipeline
from ..preview.run import Run, State
from ..preview.sinks.base import Sink
from ..preview.sinks.run_folder import RunFolder
from ..preview.start import Outputs, start
from ..preview.step import Show

HOST = {"name": "headless"}
DEFAULTS = RunOptions(write_intermediates=True, max_side_px=0, batch="first", sheet=True, animation="webp")


@contextmanager
def recording(
    folder: Path,
    space: LatentSpace,
    *,
    decoder: str = AUTO,
    catalogue: Catalogue | None = None,
    show: Show = "denoised",
    every_n_steps: int = 1,
    options: RunOptions = DEFAULTS,
    sampler: Mapping[str, Any] | None = None,
    sinks: Sequence[Sink] = (),
) -> Iterator[tuple[Pipeline, RunFolder]]:
    """Records a run into `folder`: a picture for each step, `run.json`, a contact sheet, an animation, a page.

        with recording(Path("runs/one"), SPACES["flux2"]) as (pipeline, folder):
            for index, sigma in ...:
                pipeline.offer(Step(index=index, total=20, sigma=sigma, denoised=x0))

    After the block all files are written; `folder.manifest()` lists them.

    Args:
        folder: folder of the run. It is created; if it exists, it must be empty.
        space: latent space of the offered latents.
        decoder: name of the decoder, one of `catalogue.names()`.
        catalogue: available decoders; None for those that Safelight ships.
        show: tensor of a step that is shown.
        every_n_steps: distance between recorded steps; the last step is always recorded.
        options: further options, such as the format of the files; `decoder`, `show` and `every_n_steps` replace theirs.
        sampler: facts about the sampler for `run.json`.
        sinks: further sinks, such as a screen.

    Yields:
        The pipeline, to which steps are offered, and the folder of the run.

    Raises:
        SinkError: `folder` cannot be created, or is not empty.
        UnknownDecoderError: there is no such decoder for this space.
        OptionError: an option has a value that is not allowed.
    """
    folder = absolute_path(folder)  # the code in the block may change the current folder
    # Before the run, so that a wrong name is an error and not a note in the run.
    catalogue = catalogue or Catalogue()
    candidates = catalogue.candidates(space, decoder)
    options = replace(options, decoder=decoder, show=show, every_n_steps=every_n_steps)
    _expect_empty(folder)
    run = Run(host=HOST, space=space.name, sampler=sampler or {})
    run_folder = RunFolder(folder, run)
    outputs = Outputs(folder=run_folder, sinks=sinks)
    trial = DecoderTrial(catalogue, space, run.note) if catalogue.folders else None
    pipeline = start(run, space, options, outputs, candidates=lambda: candidates, trial=trial)
    state: State = "failed"
    try:
        yield pipeline, run_folder
        state = "finished"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        pipeline.close(state)


def _expect_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise SinkError(f"{folder}: expected a folder for the run: {error.strerror}; choose another") from None
    if not is_empty:
        raise SinkError(f"{folder}: expected an empty folder for the run, found files in it; choose another")
