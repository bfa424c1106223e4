"""Watches the sampler calls of a pipeline, and restores the pipeline afterwards."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from ...preview.picture import DecodedPicture
from ..hook import Hook
from .call_arguments import call_arguments
from .facts import evidence_of, space_or_unknown
from .options import StrPath, WatchOptions
from .pipeline_families import family_of
from .progress_bar import WatchedProgressBar
from .sampling_loop import INTERRUPT, SamplingLoop
from .watched_run import WatchedRun

RUNS_IN_MEMORY = 8  # sampler calls whose pictures stay in memory

log = logging.getLogger("safelight.diffusers")


@contextmanager
def watch(pipeline: Any, out: StrPath | None = None, **options: Any) -> "Iterator[WatchedPipeline]":
    """Watches the sampler calls of `pipeline` in the block.

        with watch(pipe, out="runs", show="denoised") as run:
            image = pipe("a lighthouse").images[0]
        run.folder, run.pictures

    The pipeline's result is bit-identical, and its own callbacks are still called. When the block ends, also by an
    exception, all files are written and the pipeline is restored.

    Args:
        pipeline: a `DiffusionPipeline` of diffusers.
        out: folder of runs; every sampler call creates a numbered folder in it. None: no files are written.
        options: fields of `WatchOptions` (screen, space, decoder_folder, memory, device_mb), and of `RunOptions` in
            `safelight.preview.options` (decoder, show, every_n_steps, file_format, sheet, animation ...), except
            `write_intermediates`, which follows from `out`.

    Raises:
        TypeError: `pipeline` is not a pipeline, or there is no such option.
        OptionError: an option has a value that is not allowed; also a ValueError.
        UnknownDecoderError: there is no such decoder for the pipeline's latent space.
        UnknownSpaceError: there is no such latent space.
        SinkError: the animation needs PyAV, which is not installed.
    """
    watched = WatchedPipeline(pipeline, WatchOptions.of(out, **options))
    watched.open()
    try:
        yield watched
    except BaseException as error:
        watched.close(error)
        raise
    else:
        watched.close()


@final
class WatchedPipeline:
    """A pipeline that is watched, and the runs of its sampler calls. The runs stay readable afterwards.

    Args:
        pipeline: pipeline of diffusers.
        options: the user's options.
        waits_for_callback: whether a step is shown only when `confirm` is called after it.

    Attributes:
        runs: all sampler calls so far. A pipeline with several sampling loops adds several.

    Raises:
        TypeError: `pipeline` is not a pipeline.
        UnknownDecoderError: there is no such decoder for the pipeline's latent space.
        UnknownSpaceError: there is no such latent space.
    """

    def __init__(self, pipeline: Any, options: WatchOptions, *, waits_for_callback: bool = False) -> None:
        expect_pipeline(pipeline)
        _expect_decoder(pipeline, options)
        self._pipeline, self._options, self._waits_for_callback = pipeline, options, waits_for_callback
        self.runs: list[WatchedRun] = []
        self._hook: Hook | None = None
        self._loop: SamplingLoop | None = None
        self._stopped = False

    @property
    def pictures(self) -> Sequence[DecodedPicture]:
        """The newest pictures of the newest sampler call, in order. Waits for the last ones once it has ended."""
        return self.runs[-1].pictures if self.runs else []

    @property
    def folder(self) -> Path | None:
        """Folder of the newest sampler call; None if no files are written."""
        return self.runs[-1].folder if self.runs else None

    @property
    def notes(self) -> list[str]:
        """Messages about the newest sampler call, for the user."""
        return self.runs[-1].notes if self.runs else []

    @property
    def sampling(self) -> bool:
        """Whether a sampling loop is running."""
        return self._loop is not None and not self._loop.ended

    def manifest(self) -> dict[str, Any] | None:
        """Returns `run.json` of the newest sampler call; None if no files are written."""
        return self.runs[-1].manifest() if self.runs else None

    def stop(self) -> bool:
        """Ends the running loop before its next step. Can be called from any thread.

        The pipeline continues with the latents that it has.

        Returns:
            Whether a loop was running.

        Raises:
            RunError: this pipeline cannot be stopped.
        """
        return self._loop is not None and self._loop.stop()

    def open(self) -> None:
        """Begins to watch."""
        if self._hook is None:
            self._hook = Hook(self._pipeline, "progress_bar", self._new_bar)

    def confirm(self) -> None:
        """Shows the step that the scheduler took last."""
        if self._loop is not None and not self._loop.ended:
            self._loop.confirm()

    def close(self, error: BaseException | None = None) -> None:
        """Restores the pipeline. Waits until all files are written, for a limited time.

        Args:
            error: exception that ended the sampling; None if there was none.
        """
        hook, self._hook = self._hook, None
        if hook is not None:
            hook.end()
        if self._loop is not None:
            self._loop.end(error)
            self._stopped |= self._loop.stopped
        if self._stopped and getattr(self._pipeline, INTERRUPT, None) is True:
            setattr(self._pipeline, INTERRUPT, False)
        self._stopped = False
        for run in self.runs:
            run.settle()

    def _new_bar(self, progress_bar: Any, *args: Any, **kwargs: Any) -> Any:
        """Replaces the pipeline's `progress_bar`, which it calls when a loop begins."""
        bar = progress_bar(*args, **kwargs)
        try:
            return self._watch_loop(bar)
        except Exception:
            log.warning("this loop continues without previews", exc_info=True)
            return bar

    def _watch_loop(self, bar: Any) -> Any:
        if self._loop is not None:
            self._loop.end()  # its bar was never closed
            self._stopped |= self._loop.stopped
        iterable = getattr(bar, "iterable", None)
        loop = self._loop = SamplingLoop(
            self._pipeline,
            self._options,
            call_arguments(self._pipeline),
            len(iterable) if iterable is not None and hasattr(iterable, "__len__") else None,
            getattr(bar, "total", None),
            self._add_run,
            waits_for_callback=self._waits_for_callback,
        )
        return WatchedProgressBar(bar, loop.end, lambda: loop.stopped)

    def _add_run(self, run: WatchedRun) -> None:
        self.runs.append(run)
        for old in self.runs[:-RUNS_IN_MEMORY]:
            old.forget_pictures()


def expect_pipeline(pipeline: Any) -> None:
    """Raises `TypeError` unless `pipeline` is a pipeline of diffusers."""
    missing = [name for name in ("scheduler", "progress_bar") if not hasattr(pipeline, name)]
    is_class = isinstance(pipeline, type)
    if missing or is_class:
        found = f"the class {pipeline.__name__}" if is_class else f"{type(pipeline).__name__}"
        found += f" without {' and '.join(missing)}" if missing else ""
        raise TypeError(
            f"expected a pipeline of diffusers, such as StableDiffusionPipeline.from_pretrained(...), got {found}; "
            "if diffusers is not installed: pip install diffusers transformers"
        )


def _expect_decoder(pipeline: Any, options: WatchOptions) -> None:
    """Raises before sampling if there is no such space, or no such decoder for it."""
    decoders = options.catalogue()
    spaces = decoders.spaces()
    if options.space is None:
        family = family_of(type(pipeline).__name__)
        space, _ = space_or_unknown(pipeline, family, evidence_of(pipeline, spaces), spaces)
    else:
        space = spaces[options.space] if isinstance(options.space, str) else options.space
    decoders.candidates(space, options.run.step_decoder)
