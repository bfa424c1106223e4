"""Watches the sampler calls of a pipeline, and restores the pipeline afterwards."""

import logging
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, final

from ...errors import UnknownDecoderError
from ...preview.picture import DecodedPicture
from ..hook import Hook
from .call_arguments import call_arguments, caller_with
from .facts import evidence_of, space_or_unknown
from .options import StrPath, WatchOptions
from .pipeline_families import family_of
from .progress_bar import WatchedProgressBar
from .sampling_loop import SamplingLoop
from .show import newest
from .watched_run import WatchedRun

PROGRESS_BAR = "progress_bar"  # method of pipelines
RUNS_IN_MEMORY = 8  # sampler calls whose pictures stay in memory

log = logging.getLogger("safelight.diffusers")


@contextmanager
def watch(pipeline: Any, out: StrPath | None = None, **options: Any) -> "Iterator[WatchedPipeline]":
    """Watches the sampler calls of `pipeline` in the block.

        with watch(pipe, out="runs", show="denoised") as run:
            image = pipe("a lighthouse").images[0]
        run.folder, run.pictures

    The pipeline's result is bit-identical, and its own callbacks are still called. When the block ends, also by an
    exception, all files are written and the pipeline is restored. If no sampler call was seen, a warning says what to
    watch.

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
        self._hooks: list[Hook] = []
        self._loops: list[SamplingLoop] = []
        self._copies: list[weakref.ref[Any]] = []  # copies of the pipeline that sampled
        self._opened = False
        self._name = type(pipeline).__name__
        self._notes: list[str] = []
        self._silence = (
            f"no sampler call of {type(pipeline).__name__} was seen in this block, so there is no run. Safelight "
            "follows the pipeline, the pipelines in it, and copies that are created in the block. If another pipeline "
            "sampled, such as an older copy or one of from_pipe(), watch that one"
        )

    def __repr__(self) -> str:
        count = len(self.runs)
        runs = f"{count} run{'s' * (count != 1)}, the newest {self.runs[-1]!r}" if count else "no run yet"
        return f"<WatchedPipeline {self._name}: {runs}>"

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
        """Messages about the newest sampler call, for the user. If there was none: why, when the block has ended."""
        return self.runs[-1].notes if self.runs else list(self._notes)

    @property
    def sampling(self) -> bool:
        """Whether a sampling loop is running."""
        return any(not loop.ended for loop in self._loops)

    def manifest(self) -> dict[str, Any] | None:
        """Returns `run.json` of the newest sampler call; None if no files are written."""
        return self.runs[-1].manifest() if self.runs else None

    def show(self) -> None:
        """Shows the newest run in the notebook's cell, in a browser or in the terminal.

        Raises:
            GoneError: there is no run, or no picture.
        """
        newest(self.runs).show()

    def stop(self) -> bool:
        """Ends the running loops before their next step. Can be called from any thread.

        The pipeline continues with the latents that it has.

        Returns:
            Whether a loop was running.

        Raises:
            RunError: this pipeline cannot be stopped.
        """
        stopped = [loop.stop() for loop in self._loops]
        return any(stopped)

    def open(self) -> None:
        """Begins to watch the pipeline and the pipelines in it."""
        if self._opened:
            return
        self._opened = True
        self._hooks = [
            Hook(each, PROGRESS_BAR, partial(self._new_bar, each), partial(_BarOfCopy, self, type(each)))
            for each in pipelines_in(self._pipeline)
        ]

    def confirm(self) -> None:
        """Shows the step that the scheduler took last in this thread."""
        for loop in self._loops:
            if not loop.ended and loop.thread == threading.get_ident():
                loop.confirm()

    def close(self, error: BaseException | None = None) -> None:
        """Restores the pipeline. Waits until all files are written, for a limited time.

        If no sampler call was seen, the user gets a warning.

        Args:
            error: exception that ended the sampling; None if there was none.
        """
        if not self._opened:
            return
        self._opened = False
        for hook in self._hooks:
            hook.end()
        for copied in filter(None, (reference() for reference in self._copies)):
            if isinstance(vars(copied).get(PROGRESS_BAR), _BarOfCopy):
                del vars(copied)[PROGRESS_BAR]
        for loop in self._loops:
            loop.end(error)
            loop.release()
        failed = error is not None or any(loop.failed for loop in self._loops)
        self._pipeline, self._hooks, self._loops = None, [], []
        if not self.runs and not failed:
            self._notes.append(self._silence)
            log.warning(self._silence)
        for run in self.runs:
            run.settle()

    def _new_bar(self, pipeline: Any, progress_bar: Any, *args: Any, **kwargs: Any) -> Any:
        """Replaces the `progress_bar` of a pipeline, which it calls when a loop begins."""
        return self.watch_loop(pipeline, progress_bar(*args, **kwargs))

    def watch_loop(self, pipeline: Any, bar: Any) -> Any:
        """Returns the bar of a loop that begins, watched."""
        if bar is None or not self._opened:  # a pipeline of pipelines has no bar of its own
            return bar
        try:
            return self._watch_loop(pipeline, bar)
        except Exception:
            log.warning("this loop continues without previews", exc_info=True)
            return bar

    def _watch_loop(self, pipeline: Any, bar: Any) -> Any:
        if all(pipeline is not hook.owner for hook in self._hooks):
            self._copies.append(weakref.ref(pipeline))
        for old in self._loops:
            if old.shares(pipeline):
                old.end()  # its bar was never closed
        for old in [old for old in self._loops if old.ended and not (old.stopped or old.failed)]:
            self._loops.remove(old)
            old.release()
        iterable = getattr(bar, "iterable", None)
        loop = SamplingLoop(
            pipeline,
            self._options,
            call_arguments(pipeline),
            len(iterable) if iterable is not None and hasattr(iterable, "__len__") else None,
            getattr(bar, "total", None),
            self._add_run,
            waits_for_callback=self._waits_for_callback,
        )
        self._loops.append(loop)
        return WatchedProgressBar(bar, partial(self._end_loop, loop, type(pipeline).__name__), lambda: loop.stopped)

    def _end_loop(self, loop: SamplingLoop, pipeline: str, error: BaseException | None) -> None:
        try:
            loop.end(error)
        except Exception:
            log.warning("the end of this loop is not recorded", exc_info=True)
        if not loop.heard:
            self._silence = (
                f"{pipeline} sampled, but did not call its own scheduler, so there is no run: some loops use copies of "
                "it. To see the steps, pass the pipeline a callback_on_step_end that offers its latents to "
                "safelight.recording"
            )
        elif self._waits_for_callback:
            self._silence = f"{pipeline} sampled, but the callback was not called: pass it as callback_on_step_end"

    def _add_run(self, run: WatchedRun) -> None:
        self.runs.append(run)
        for old in self.runs[:-RUNS_IN_MEMORY]:
            old.forget_pictures()


@final
class _BarOfCopy:
    """The method `progress_bar` in a copy of a watched pipeline, which learns from its caller whose it is.

    It has no reference to the watched pipeline, because a copy may live longer.

    Args:
        watched: watched pipeline.
        kind: class of the copy.
    """

    def __init__(self, watched: WatchedPipeline | None, kind: type) -> None:
        self._watched = (lambda: None) if watched is None else weakref.ref(watched)
        self._kind = kind

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        copied = caller_with(PROGRESS_BAR, self)
        bar = self._kind.progress_bar(SimpleNamespace() if copied is None else copied, *args, **kwargs)
        watched = self._watched()
        return bar if watched is None or copied is None else watched.watch_loop(copied, bar)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_BarOfCopy":
        return self

    def __reduce__(self) -> Any:
        return _BarOfCopy, (None, self._kind)


def pipelines_in(pipeline: Any) -> list[Any]:
    """Returns `pipeline` and the pipelines that it consists of, such as the prior and the decoder of a combined one."""
    found = [pipeline]
    for each in found:  # grows meanwhile
        found += [
            part
            for part in vars(each).values()
            if hasattr(type(part), PROGRESS_BAR)
            and hasattr(part, "scheduler")
            and all(part is not one for one in found)
        ]
    return found


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
    if options.space is not None:
        chosen = [spaces[options.space] if isinstance(options.space, str) else options.space]
    else:
        chosen = [
            space_or_unknown(each, family_of(type(each).__name__), evidence_of(each, spaces), spaces)[0]
            for each in pipelines_in(pipeline)
        ]
    *others, last = chosen
    for space in others:
        with suppress(UnknownDecoderError):
            decoders.candidates(space, options.run.step_decoder)
            return
    decoders.candidates(last, options.run.step_decoder)
