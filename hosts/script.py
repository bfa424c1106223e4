"""Records a run of any sampler, without a host."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..decoders.catalogue import AUTO, Catalogue
from ..decoders.latents.space import LatentSpace
from ..decoders.latents.tokens import ImageSize
from ..errors import SinkError, StoreError
from ..preview.decode.decoder_trial import DecoderTrial
from ..preview.options import RunOptions
from ..preview.output_folder import absolute_path
from ..preview.remote.address import checked_address, is_address
from ..preview.remote.remote_copy import RemoteCopy
from ..preview.remote.scratch import remove_when_unused, scratch_folder, scratch_run
from ..preview.remote.store import Store
from ..preview.run import Run, State
from ..preview.sinks.base import Sink
from ..preview.sinks.run_folder import RunFolder
from ..preview.start import Outputs, start
from ..preview.step import ShowChoice
from .recorded_steps import Recording

HOST = {"name": "headless"}
DEFAULTS = RunOptions(write_intermediates=True, max_side_px=0, batch="first", sheet=True, animation="webp")


@contextmanager
def recording(
    folder: str | Path,
    space: str | LatentSpace,
    *,
    decoder: str = AUTO,
    catalogue: Catalogue | None = None,
    show: ShowChoice = "denoised",
    every_n_steps: int = 1,
    options: RunOptions = DEFAULTS,
    sampler: Mapping[str, Any] | None = None,
    sinks: Sequence[Sink] = (),
    steps: int | None = None,
    size: ImageSize | None = None,
) -> Iterator[Recording]:
    """Records a run into `folder`: a picture for each step, `run.json`, a contact sheet, an animation, a page.

    The folder may be an address that fsspec can open, such as `s3://bucket/runs/one`. The run is then written into a
    temporary folder, and copied while it goes on. What the store does not take is named in a note, and stays there.

        with recording("runs/one", "flux2", steps=20) as run:
            for x, x0, sigma in my_sampler():
                run.offer(x0, sigma=sigma)

    The arrays may be of NumPy, torch, JAX, MLX, or any package with DLPack. After the block all files are written.

    Args:
        folder: folder of the run, or its address. It is created; if it exists, it must be empty.
        space: latent space of the offered latents, or its name.
        decoder: name of the decoder, one of `catalogue.names()`.
        catalogue: available decoders; None for those that Safelight ships.
        show: latents of a step that are shown.
        every_n_steps: distance between recorded steps; the last step is always recorded.
        options: further options, such as the format of the files; `decoder`, `show` and `every_n_steps` replace theirs.
        sampler: facts about the sampler for `run.json`.
        sinks: further sinks, such as a screen.
        steps: number of steps of the sampler; None for the one in `sampler`, or if it is unknown.
        size: width and height of the final image, in pixels, to which tokens `[B, N, C]` are arranged.

    Yields:
        The recording, to which steps are offered. It can also be unpacked to the pipeline, which takes a `Step`, and
        the folder of the run.

    Raises:
        SinkError: `folder` cannot be created, or is not empty.
        StoreError: the packages for this kind of address are not installed.
        UnknownSpaceError: there is no such latent space.
        UnknownDecoderError: there is no such decoder for this space.
        OptionError: an option has a value that is not allowed, or there is a rule to stop, which your loop cannot obey.
    """
    options.expect_no_rule()
    address = checked_address(folder, "folder") if isinstance(folder, str) and is_address(folder) else ""
    if address:
        _expect_empty_store(address)
    # Before the run, so that a wrong name is an error and not a note in the run.
    catalogue = catalogue or Catalogue()
    space = catalogue.spaces()[space] if isinstance(space, str) else space
    candidates = catalogue.candidates(space, decoder)
    options = replace(options, decoder=decoder, show=show, every_n_steps=every_n_steps)
    # The code in the block may change the current folder.
    path = scratch_folder() / "run" if address else absolute_path(folder)
    _expect_empty(path)
    facts = {"steps": steps, **(sampler or {})} if steps is not None else sampler or {}
    run = Run(host=HOST, space=space.name, sampler=facts)
    run_folder = scratch_run(path, run) if address else RunFolder(path, run)
    copy = RemoteCopy(run_folder, address) if address else None
    outputs = Outputs(folder=run_folder, copy=copy, sinks=sinks)
    trial = DecoderTrial(catalogue, space, run.note) if catalogue.folders else None
    pipeline = start(run, space, options, outputs, candidates=lambda: candidates, trial=trial)
    recorded = Recording(pipeline, run_folder, space, facts.get("steps"), size, copy)
    state: State = "failed"
    try:
        yield recorded
        state = "finished"
    except KeyboardInterrupt:
        state = "interrupted"
        raise
    finally:
        recorded.show_last()
        pipeline.close(state)
        if copy is not None:
            remove_when_unused(run_folder, copy)
            copy.wait()


def _expect_empty_store(address: str) -> None:
    """Checks the place of a run in a store. A store that is away now may be there when the first file is copied.

    Raises:
        StoreError: the packages for this kind of address are not installed.
        SinkError: the place has files.
    """
    store = Store.open(address)
    with suppress(StoreError):
        if not store.is_empty():
            raise SinkError(f"{address}: expected an empty place for the run, found files in it; choose another")


def _expect_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_empty = not any(folder.iterdir())
    except OSError as error:
        raise SinkError(f"{folder}: expected a folder for the run: {error.strerror}; choose another") from None
    if not is_empty:
        raise SinkError(f"{folder}: expected an empty folder for the run, found files in it; choose another")
