"""Watches the sampler calls of a pipeline, and restores the pipeline afterwards."""

import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any, final

from torch import Tensor

from ...errors import UnknownDecoderError
from ...preview.picture import DecodedPicture
from ..hook import Hook
from ..x0 import SchedulerCall, listen
from .call_arguments import call_arguments, components_of_block, is_in_call
from .copies import PROGRESS_BAR, BarOfCopy, frame_schedulers, older_copies, pipelines_in, schedulers_of
from .facts import evidence_of, space_or_unknown
from .learning import PipelineLearning
from .modular_blocks import LOOP_STEP
from .options import StrPath, WatchOptions
from .own_loop import OwnLoop, name_of_pipeline
from .pipeline_families import family_of_pipeline
from .progress_bar import WatchedProgressBar
from .refined_runs import RefinedRuns
from .sampling_loop import Bar, SamplingLoop
from .show import newest
from .vae_decodes import VaeDecodes
from .watched_kinds import MODULAR, PIPELINE, as_pipeline, kind_of
from .watched_run import WatchedRun

RUNS_IN_MEMORY = 8  # sampler calls whose pictures stay in memory

# Marks of the blocks in which the code runs. New threads are outside, and so are the tasks of other requests.
_blocks: ContextVar[frozenset[object]] = ContextVar("safelight_blocks", default=frozenset())

log = logging.getLogger("safelight.diffusers")


@contextmanager
def watch(pipeline: Any, out: StrPath | None = None, **options: Any) -> "Iterator[WatchedPipeline]":
    """Watches the sampler calls of `pipeline` in the block. It may also be the scheduler of a loop of your own.

    Of a list of pipelines, all are watched. If one continues the latents of another (`denoising_start`), the two runs
    share a folder and a page.

        with watch(pipe, out="runs", show="denoised") as run:
            image = pipe("a lighthouse").images[0]
        run.folder, run.pictures

        with watch(scheduler, space="flux1", out="runs") as run:
            for t in scheduler.timesteps:
                latents = scheduler.step(model(latents, t), t, latents).prev_sample

    The result is bit-identical, and the pipeline's own callbacks are still called. When the block ends, also by an
    exception, all files are written and the pipeline is restored. If no sampler call was seen, a warning says what to
    watch.

    Of a scheduler, every `step` is a step, from any thread. A run ends with the last timestep, and a new one begins
    when the timesteps start over. Its latent space follows from `space`, from `vae`, or from a shape that only one
    space has.

    Args:
        pipeline: a `DiffusionPipeline`, a list of them or a `ModularPipeline` of diffusers, or a scheduler.
        out: folder of runs; every sampler call creates a numbered folder in it. None: no files are written. An address
            such as `s3://bucket/runs`: every sampler call is copied there while it samples. Store errors end no run.
        options: fields of `WatchOptions` (screen, space, vae, decoder_folder, memory, device_mb, learn), and of
            `RunOptions` in `safelight.preview.options` (decoder, show, every_n_steps, file_format, sheet, animation
            ...), except `write_intermediates`, which follows from `out`.

    Raises:
        TypeError: `pipeline` is neither a pipeline, a list of them nor a scheduler, or there is no such option.
        OptionError: an option has a value that is not allowed; also a ValueError.
        UnknownDecoderError: there is no such decoder for the pipeline's latent space.
        UnknownSpaceError: there is no such latent space.
        SinkError: the animation needs PyAV, which is not installed.
        StoreError: the packages for an address in `out` are not installed.
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
        pipeline: pipeline of diffusers, a list of them, or a scheduler.
        options: the user's options.
        waits_for_callback: whether a step is shown only when `confirm` is called after it.

    Attributes:
        runs: all sampler calls so far. A pipeline with several sampling loops adds several.

    Raises:
        TypeError: `pipeline` cannot be watched, or its loop has no callback and `waits_for_callback` is set.
        UnknownDecoderError: there is no such decoder for the pipeline's latent space.
        UnknownSpaceError: there is no such latent space.
    """

    def __init__(self, pipeline: Any, options: WatchOptions, *, waits_for_callback: bool = False) -> None:
        pipeline = as_pipeline(pipeline, options)
        self._kind = kind_of(pipeline)
        if waits_for_callback and not self._kind.has_callback:
            raise TypeError(
                f"Previews: expected a pipeline that calls a callback after each step, got a "
                f"{name_of_pipeline(pipeline)}; use `with watch(...)`, which needs no callback"
            )
        _expect_decoder(pipeline, options)
        self._pipeline, self._options, self._waits_for_callback = pipeline, options, waits_for_callback
        self.runs: list[WatchedRun] = []
        self._hooks: list[Hook] = []
        self._heard: dict[int, Callable[[], None]] = {}  # schedulers by id, each with a function that stops listening
        self._block = object()  # marks the context of the block
        self._loops: list[SamplingLoop] = []
        self._decodes = VaeDecodes(self._samples_here, self._hear_decode)
        self._learning = PipelineLearning(options) if options.learn else None
        self._refined = RefinedRuns()
        self._copies: list[weakref.ref[Any]] = []  # copies of the pipeline that sampled
        self._opened = False
        self._name = name_of_pipeline(pipeline)
        self._notes: list[str] = []
        self._silence = (
            f"no {'step' if self._kind.is_loop else 'sampler call'} of {self._name} was seen in this block, so there "
            f"is no run. {self._kind.advice}"
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
    def address(self) -> str | None:
        """Address of the newest sampler call in a store; None if it is in no store."""
        return self.runs[-1].address if self.runs else None

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

    def stop(self, *, keep: bool = False) -> bool:
        """Ends the running loops before their next step. Can be called from any thread.

        The pipeline continues with the latents that it has.

        Args:
            keep: whether it continues with the model's estimate of the final latents instead: that of the step that is
                running, or between two steps, that of the next one. So the image is finished, with less detail.

        Returns:
            Whether a loop was running.

        Raises:
            RunError: this pipeline cannot be stopped, or no estimate can be its result.
        """
        stopped = [loop.stop(keep=keep) for loop in self._loops]
        return any(stopped)

    def open(self) -> None:
        """Begins to watch the pipeline, the pipelines in it, and the copies of them that exist."""
        if self._opened:
            return
        self._opened = True
        _blocks.set(_blocks.get() | {self._block})
        own = pipelines_in(self._pipeline)
        self._hooks = [hook for each in own for hook in self._hooks_of(each)]
        if self._waits_for_callback:  # the callback says which pipeline samples
            return
        if self._kind is PIPELINE:
            self._hooks += [self._hook(each, self.watch_loop_of_older_copy) for each in older_copies(own)]
        for each in own:
            for scheduler in schedulers_of(each):
                if id(scheduler) not in self._heard:
                    self._heard[id(scheduler)] = listen(scheduler, partial(self._take, each, scheduler))

    def _hooks_of(self, pipeline: Any) -> list[Hook]:
        """Replaces the methods that a pipeline calls when a loop begins, and where a loop of blocks can end."""
        hooks = [self._hook(pipeline, self.watch_loop)] if self._kind is PIPELINE else []
        for block in self._kind.loops(pipeline):
            hooks.append(Hook(block, PROGRESS_BAR, partial(self._watch_loop_of_block, pipeline, block)))
            if hasattr(block, LOOP_STEP):
                hooks.append(Hook(block, LOOP_STEP, partial(self._unless_stopped, pipeline)))
        return hooks

    def _hook(self, pipeline: Any, watch_loop: Callable[[Any, Any], Any]) -> Hook:
        """Replaces the `progress_bar` of a pipeline, which it calls when a loop begins; that of its copies as well."""

        def new_bar(progress_bar: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return watch_loop(pipeline, progress_bar(*args, **kwargs))

        return Hook(pipeline, PROGRESS_BAR, new_bar, partial(BarOfCopy, watch_loop, type(pipeline)))

    def confirm(self, pipeline: Any, latents: Any) -> None:
        """Shows the newest step of `pipeline` in this thread, after which it calls the callback. Never raises.

        Args:
            pipeline: pipeline that called.
            latents: noisy latents after the step; None if they are unknown.
        """
        here = [loop for loop in self._loops if not loop.ended and loop.thread == threading.get_ident()]
        if not here:
            loop = self._begin_safely(pipeline, None)
            here = [] if loop is None else [loop]
        for loop in here:
            loop.confirm(latents)

    def close(self, error: BaseException | None = None) -> None:
        """Restores the pipeline. Waits until all files are written, for a limited time.

        If no sampler call was seen, the user gets a warning.

        Args:
            error: exception that ended the sampling; None if there was none.
        """
        if not self._opened:
            return
        self._opened = False
        _blocks.set(_blocks.get() - {self._block})
        for hook in self._hooks:
            hook.end()
        for stop_listening in self._heard.values():
            stop_listening()
        for copied in filter(None, (reference() for reference in self._copies)):
            if isinstance(vars(copied).get(PROGRESS_BAR), BarOfCopy):
                del vars(copied)[PROGRESS_BAR]
        for loop in self._loops:
            loop.end(error)
            loop.release()
        failed = error is not None or any(loop.failed for loop in self._loops)
        self._decodes.close()
        self._refined.forget()
        untaught = None if self._learning is None else self._learning.why_nothing()
        self._pipeline, self._hooks, self._loops, self._heard = None, [], [], {}
        if not self.runs and not failed:
            self._notes.append(self._silence)
            log.warning(self._silence)
        self._settle(None if failed else untaught)

    def _settle(self, untaught: str | None) -> None:
        """Waits for the files of all runs, then for their copies.

        Args:
            untaught: why nothing was learned, for the user; None for no message.
        """
        for run in self.runs:
            run.settle()
        if self.runs and untaught is not None:
            self.runs[-1].note_afterwards(untaught)
        for run in self.runs:
            run.settle_copy()

    def _samples_here(self) -> bool:
        """Whether a sampling loop is running in this thread."""
        return any(not loop.ended and loop.thread == threading.get_ident() for loop in self._loops)

    def watch_loop(self, pipeline: Any, bar: Any) -> Any:
        """Returns the bar of a loop that begins, watched."""
        if bar is None or not self._opened:  # a pipeline of pipelines has no bar of its own
            return bar
        iterable = getattr(bar, "iterable", None)
        length = len(iterable) if iterable is not None and hasattr(iterable, "__len__") else None
        loop = self._begin_safely(pipeline, Bar(length, getattr(bar, "total", None)))
        return bar if loop is None else WatchedProgressBar(bar, loop)

    def watch_loop_of_older_copy(self, pipeline: Any, bar: Any) -> Any:
        """As `watch_loop`, but only in the context of the block.

        Other threads and tasks may serve other users, with other copies of the same pipeline.
        """
        if self._block in _blocks.get():
            return self.watch_loop(pipeline, bar)
        if self._opened:
            self._silence = (
                f"only a copy of {self._name} that is older than this block sampled, in another thread or task, so "
                "there is no run: pass that copy to watch(), or copy the pipeline in the block"
            )
        return bar

    def _watch_loop_of_block(
        self, pipeline: Any, block: Any, progress_bar: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Returns the watched bar of a loop among the blocks of a modular pipeline; its copies have the same blocks."""
        return self.watch_loop(components_of_block(block) or pipeline, progress_bar(*args, **kwargs))

    def _unless_stopped(
        self, pipeline: Any, loop_step: Callable[..., Any], components: Any, state: Any, **kwargs: Any
    ) -> Any:
        """Runs a step of a loop of blocks, or leaves it out: such a loop cannot be ended from outside."""
        if any(loop.stopped and not loop.ended and loop.shares(pipeline) for loop in self._loops):
            return components, state
        return loop_step(components, state, **kwargs)

    def _take(self, pipeline: Any, scheduler: Any, call: SchedulerCall) -> None:
        """Takes a call of a scheduler, after it. Never raises."""
        loops = [loop for loop in self._loops if loop.follows(scheduler)]
        here = next((loop for loop in loops if loop.thread == threading.get_ident()), next(iter(loops), None))
        if here is not None and self._kind.is_loop and here.starts_over(call):
            here.finish(None)
            here = None
        if here is None and self._opened and self._is_ours(pipeline):
            here = self._begin_safely(pipeline, None)  # a loop of the user, or one without a progress bar
        if here is not None:
            here.take(scheduler, call)

    def _is_ours(self, pipeline: Any) -> bool:
        """Whether a loop without a progress bar that has called a scheduler is one that the user watches."""
        if self._kind.is_loop or self._block in _blocks.get():
            return True
        return self._kind is MODULAR and is_in_call(pipeline)

    def _begin_safely(self, pipeline: Any, bar: Bar | None) -> SamplingLoop | None:
        """Begins to follow a loop; returns None if that fails."""
        try:
            return self._begin(pipeline, bar)
        except Exception:
            log.warning("this loop continues without previews", exc_info=True)
            return None

    def _begin(self, pipeline: Any, bar: Bar | None) -> SamplingLoop:
        if all(pipeline is not hook.owner for hook in self._hooks):
            self._copies.append(weakref.ref(pipeline))
        for old in self._loops:
            if old.shares(pipeline):
                old.end()  # its bar was never closed
        for old in [old for old in self._loops if old.ended and not (old.stopped or old.failed)]:
            self._loops.remove(old)
            old.release()
        schedulers, of_frames = schedulers_of(pipeline), frame_schedulers(pipeline)
        hooks = ExitStack()
        with ExitStack() as failing:
            failing.callback(hooks.close)
            for scheduler in (*schedulers, *of_frames):
                if id(scheduler) not in self._heard:
                    hooks.callback(listen(scheduler, partial(self._take, pipeline, scheduler)))
            loop = SamplingLoop(
                pipeline,
                schedulers,
                of_frames,
                self._options,
                call_arguments(pipeline),
                bar,
                self._add_run,
                partial(self._end, stop_listening=hooks.close),
                self._refined,
                waits_for_callback=self._waits_for_callback,
            )
            failing.pop_all()
        self._loops.append(loop)
        self._decodes.follow(pipeline)
        return loop

    def _hear_decode(self, pipeline: Any, vae: Any, latents: Tensor, images: Tensor) -> None:
        here = [run for run in self.runs if run.thread == threading.get_ident()]
        if here:
            here[-1].judge(images)
        if self._learning is not None:
            self._learning.offer(pipeline, vae, latents, images)

    def _end(self, loop: SamplingLoop, stop_listening: Callable[[], None]) -> None:
        stop_listening()
        self._silence = self._silence_after(loop)

    def _silence_after(self, loop: SamplingLoop) -> str:
        """The warning about a block without a run, in which this loop was the last."""
        if not loop.heard:
            return (
                f"{loop.pipeline_name} sampled, but did not call its own scheduler and has no variable `latents`, so "
                "there is no run. To see the steps, pass the pipeline a callback_on_step_end that offers its latents "
                "to safelight.recording"
            )
        if self._waits_for_callback:
            return f"{loop.pipeline_name} sampled, but the callback was not called: pass it as callback_on_step_end"
        return f"{loop.pipeline_name} sampled no latents of a picture but tokens or embeddings, so there is no run"

    def _add_run(self, run: WatchedRun) -> None:
        self.runs.append(run)
        for old in self.runs[:-RUNS_IN_MEMORY]:
            old.forget_pictures()


def _expect_decoder(pipeline: Any, options: WatchOptions) -> None:
    """Raises before sampling if there is no such space, or no such decoder for it."""
    if isinstance(pipeline, OwnLoop) and options.space is None and options.vae is None:
        return  # the shape of its latents may say the space
    decoders = options.catalogue()
    spaces = decoders.spaces()
    chosen = [
        options.chosen_space(spaces)
        or space_or_unknown(each, family_of_pipeline(each), evidence_of(each, spaces), spaces)[0]
        for each in pipelines_in(pipeline)
    ]
    *others, last = chosen
    for space in others:
        with suppress(UnknownDecoderError):
            decoders.candidates(space, options.run.step_decoder)
            return
    decoders.candidates(last, options.run.step_decoder)
