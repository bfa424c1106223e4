"""Watching a pipeline's sampler calls: with it as it is, and as it was when the watched has ended."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from ...preview.picture import DecodedPicture
from ..hook import Hook
from .call_arguments import call_arguments
from .facts import evidence_of, space_or_unknown
from .options import Options, PathLike_
from .pipeline_families import family_of
from .progress_bar import WatchedProgressBar
from .sampling_loop import INTERRUPT, SamplingLoop
from .watched_run import WatchedRun

KEPT_IN_MEMORY = 8  # sampler calls whose pictures stay

log = logging.getLogger("safelight.diffusers")


@contextmanager
def watch(pipeline: Any, out: PathLike_ | None = None, **options: Any) -> "Iterator[WatchedPipeline]":
    """Watches the sampler calls of `pipeline` in the block.

        with watch(pipe, out="runs", show="denoised") as run:
            image = pipe("a lighthouse").images[0]
        run.folder, run.pictures

    The pipeline's result is the same to the last bit, its own callbacks go on. When the block ends, all files are there
    and nothing of the pipeline is changed, whatever was raised.

    Args:
        pipeline: a `DiffusionPipeline` of diffusers.
        out: the folder of runs: every sampler call makes a numbered folder in it. None: nothing is written.
        options: see `Options`.

    Raises:
        TypeError: it is no pipeline, or there is no such option.
        ValueError: there is no such choice.
        SafelightError: there is no such decoder or space.
    """
    watched = WatchedPipeline(pipeline, Options.of(out, **options))
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
    """The sampler calls of a pipeline, while it is watched and afterwards.

    Args:
        pipeline: of diffusers.
        options: the user's.
        waits: whether a step is shown only when `confirm` comes after it.

    Attributes:
        runs: all sampler calls so far. A pipeline that samples in several loops makes several.
    """

    def __init__(self, pipeline: Any, options: Options, *, waits: bool = False) -> None:
        expect_pipeline(pipeline)
        _check(pipeline, options)
        self._pipeline, self._options, self._waits = pipeline, options, waits
        self.runs: list[WatchedRun] = []
        self._hook: Hook | None = None
        self._loop: SamplingLoop | None = None
        self._stopped = False

    @property
    def pictures(self) -> Sequence[DecodedPicture]:
        """The newest pictures of the newest sampler call, in order. Once it has ended, all of them."""
        return self.runs[-1].pictures if self.runs else []

    @property
    def folder(self) -> Path | None:
        """Of the newest sampler call; None where nothing is written."""
        return self.runs[-1].folder if self.runs else None

    @property
    def notes(self) -> list[str]:
        """What the user should know of the newest sampler call."""
        return self.runs[-1].notes if self.runs else []

    @property
    def sampling(self) -> bool:
        """Whether a loop goes on now."""
        return self._loop is not None and not self._loop.ended

    def manifest(self) -> dict[str, Any] | None:
        """`run.json` of the newest sampler call; None where nothing is written."""
        return self.runs[-1].manifest() if self.runs else None

    def stop(self) -> bool:
        """Ends the loop that goes on before its next step; the pipeline goes on with what is there. From any thread.

        Returns:
            Whether there was one.

        Raises:
            RunError: this pipeline cannot be stopped.
        """
        return self._loop is not None and self._loop.stop()

    def open(self) -> None:
        """Begins to watch."""
        if self._hook is None:
            self._hook = Hook(self._pipeline, "progress_bar", self._show_bar)

    def confirm(self) -> None:
        """The step that was heard last is one to be shown."""
        if self._loop is not None and not self._loop.ended:
            self._loop.confirm()

    def close(self, error: BaseException | None = None) -> None:
        """Leaves the pipeline as it was, and waits, for a bounded time, until all files are there."""
        hook, self._hook = self._hook, None
        if hook is not None:
            hook.end()
        if self._loop is not None:
            self._loop.end(error)
            self._stopped |= self._loop.stopped
        if self._stopped and getattr(self._pipeline, INTERRUPT, None) is True:
            setattr(self._pipeline, INTERRUPT, False)
        self._stopped = False
        for sampling in self.runs:
            sampling.settle()

    def _show_bar(self, progress_bar: Any, *args: Any, **kwargs: Any) -> Any:
        """In place of the pipeline's own method: a loop begins."""
        bar = progress_bar(*args, **kwargs)
        try:
            return self._watch_loop(bar)
        except Exception:
            log.warning("this loop goes on without previews", exc_info=True)
            return bar

    def _watch_loop(self, bar: Any) -> Any:
        if self._loop is not None:
            self._loop.end()  # of a bar that nobody closed
            self._stopped |= self._loop.stopped
        gone_through = getattr(bar, "iterable", None)
        length = len(gone_through) if gone_through is not None and hasattr(gone_through, "__len__") else None
        loop = self._loop = SamplingLoop(
            self._pipeline,
            self._options,
            call_arguments(self._pipeline),
            length,
            getattr(bar, "total", None),
            self._begun,
            waits=self._waits,
        )
        return WatchedProgressBar(bar, loop.end, lambda: loop.stopped)

    def _begun(self, sampling: WatchedRun) -> None:
        self.runs.append(sampling)
        for old in self.runs[:-KEPT_IN_MEMORY]:
            old.forget_pictures()


def expect_pipeline(pipeline: Any) -> None:
    """Raises `TypeError` for what is no pipeline of diffusers."""
    missing = [name for name in ("scheduler", "progress_bar") if not hasattr(pipeline, name)]
    if missing or isinstance(pipeline, type):
        raise TypeError(
            f"expected a pipeline of diffusers, such as StableDiffusionPipeline.from_pretrained(...), got "
            f"{type(pipeline).__name__} without {' and '.join(missing) or 'being made'}; "
            "if diffusers is not installed: pip install diffusers transformers"
        )


def _check(pipeline: Any, options: Options) -> None:
    """Raises for a decoder or a space that there is not, before anything is sampled."""
    decoders = options.catalogue()
    spaces = decoders.spaces()
    if options.space is None:
        family = family_of(type(pipeline).__name__)
        space, _ = space_or_unknown(pipeline, family, evidence_of(pipeline, spaces), spaces)
    else:
        space = spaces[options.space] if isinstance(options.space, str) else options.space
    decoders.candidates(space, options.run.step_decoder)
