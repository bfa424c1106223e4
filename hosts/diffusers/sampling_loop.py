"""Follows a pipeline's sampling loop: counts its steps, and shows one picture of each."""

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, final

from torch import Tensor

from ...errors import RunError
from ...preview.run import FULL, Run, State
from ...preview.run_control import EarlyEnd
from ..crops import Crops, is_crop
from ..noise_levels import Tables, order_of, planned_sigmas
from ..x0 import SchedulerCall, X0Estimate, estimate_x0, result_of
from .call_arguments import CallArguments, latents_of_loop, x0_of_loop
from .facts import host_facts, sampler_facts
from .interrupt import INTERRUPT, reads_interrupt
from .latent_layout import channel_axis, layouts_of, part_axes
from .model_calls import ModelCalls, first_position
from .modular_blocks import is_modular
from .options import WatchOptions
from .own_loop import OwnLoop, name_of_pipeline
from .pipeline_families import family_of_pipeline
from .refined_runs import RefinedRuns
from .watched_run import SchedulerStep, WatchedRun

INPAINT = "Inpaint"  # in the names of pipelines that put the given image around the mask after each step
FEWEST_AXES = 3  # of latents: prompts, embeddings of images and tokens of text have fewer

log = logging.getLogger("safelight.diffusers")


class Bar(NamedTuple):
    """What a pipeline's progress bar says about its loop: the length of what it iterates over, and its total."""

    length: int | None
    total: int | None


@final
class SamplingLoop:
    """One sampling loop, whose scheduler calls it gets. The first step begins a run.

    Args:
        pipeline: pipeline of diffusers.
        schedulers: schedulers of the pipeline; the first one that is called is the loop's.
        of_frames: copies of a scheduler, one for each frame of a video.
        options: the user's options.
        call: arguments of the pipeline's call.
        bar: the pipeline's progress bar; None for a loop without one, which ends with its last step.
        on_run: function that receives the run when it begins.
        on_end: function that is called, once, when the loop has ended.
        refined: runs before it whose latents it may continue.
        waits_for_callback: whether a step is shown only when `confirm` is called after it.

    Attributes:
        stopped: whether the loop must end before its next step.
        ended: whether the loop has ended.
        failed: whether an exception ended it.
        thread: identifier of the thread in which it began.
    """

    def __init__(
        self,
        pipeline: Any,
        schedulers: list[Any],
        of_frames: list[Any],
        options: WatchOptions,
        call: CallArguments,
        bar: Bar | None,
        on_run: Callable[[WatchedRun], None],
        on_end: Callable[["SamplingLoop"], None],
        refined: RefinedRuns,
        *,
        waits_for_callback: bool = False,
    ) -> None:
        self._pipeline, self._options, self._call = pipeline, options, call
        self._schedulers, self._of_frames = schedulers, of_frames
        self._bar, self._on_run, self._on_end, self._refined = bar, on_run, on_end, refined
        self._sampled: Any = None  # result of the newest step, for a refiner
        self._waits_for_callback = waits_for_callback
        self._subject = "the loop" if isinstance(pipeline, OwnLoop) else "the pipeline"
        self._family = family_of_pipeline(pipeline)
        # Steps that are not shown at the scheduler's call: their picture may be another call's.
        self._waits = waits_for_callback or self._family.shows_last_call
        self._needs_x0 = options.run.needs_denoised or options.run.keep_latents
        self._scheduler: Any = None
        self._order, self._total = 1, call.timesteps if bar is None else bar.total
        self._calls, self._tables = ModelCalls(), Tables()
        self._unheard = 0  # steps before the first call of a scheduler
        self._estimates = False  # whether a loop without a scheduler has estimates of its own
        self._shown = 0  # number of the newest step
        self._crops: Crops | None = None
        # None: not known yet. In a function of the user, the variable `latents` may be anything.
        self._is_cropped: bool | None = False if isinstance(pipeline, OwnLoop) else None
        self._notes = [self._family.part] if self._family.part else []
        self._pending: SchedulerStep | None = None
        self._run: WatchedRun | None = None
        self._keeps, self._kept = False, False  # whether the estimate of the next step becomes the result, and did
        self._by_rule = False  # whether the user's rule asked for it
        self.stopped = self.ended = self.failed = False
        self.thread = threading.get_ident()

    @property
    def pipeline_name(self) -> str:
        """Name of the pipeline's class."""
        return name_of_pipeline(self._pipeline)

    @property
    def heard(self) -> bool:
        """Whether a scheduler was called."""
        return self._calls.count > 0

    def follows(self, scheduler: Any) -> bool:
        """Whether `scheduler` is one of the pipeline's or of its frames, and the loop has not ended."""
        return not self.ended and any(scheduler is each for each in (*self._schedulers, *self._of_frames))

    def starts_over(self, call: SchedulerCall) -> bool:
        """Whether a call of its scheduler, after it, is the first one of another loop."""
        return self._calls.starts_over(self._scheduler, call.timestep)

    def shares(self, pipeline: Any) -> bool:
        """Whether `pipeline` is the pipeline of this loop, or has its scheduler."""
        return pipeline is self._pipeline or any(getattr(pipeline, "scheduler", None) is s for s in self._schedulers)

    def release(self) -> None:
        """Ends the loop, restores a pipeline that was stopped, and drops the references to it."""
        self.end()
        if self.stopped and getattr(self._pipeline, INTERRUPT, None) is True:
            setattr(self._pipeline, INTERRUPT, False)
        self._pipeline = self._scheduler = None
        self._schedulers, self._of_frames = [], []

    @property
    def can_stop(self) -> bool:
        """Whether the loop can end before its next step: the pipeline checks it, or its blocks can be left out."""
        has_bar = self._bar is not None
        iterates = self._bar is not None and self._bar.length is not None
        return iterates or reads_interrupt(self._pipeline) or (has_bar and is_modular(self._pipeline))

    def stop(self, *, keep: bool = False) -> bool:
        """Ends the loop before its next step; the pipeline continues with the latents that it has.

        Args:
            keep: whether the pipeline continues with the model's estimate instead: that of the step that is running, or
                between two steps, that of the next one.

        Returns:
            Whether the loop was running.

        Raises:
            RunError: this pipeline cannot be stopped, or no estimate can be its result.
        """
        if self.ended:
            return False
        if isinstance(self._pipeline, OwnLoop):
            raise RunError(
                f"the loop over {self.pipeline_name} cannot be stopped from outside: expected a pipeline, got a loop "
                "of your own; leave it with break, and the pictures so far are saved"
            )
        if not self.can_stop:
            raise RunError(
                f"{self.pipeline_name} cannot be stopped: expected a pipeline whose loop reads "
                f"`{INTERRUPT}`, but this one does not; wait for it, or press Ctrl+C: the pictures so far are saved"
            )
        if keep:
            self._expect_estimates()
            self._keeps = True
            return True
        self.stopped = True
        if hasattr(self._pipeline, INTERRUPT):
            setattr(self._pipeline, INTERRUPT, True)
        return True

    def stop_by_rule(self) -> None:
        """As `stop` with `keep`, for the user's rule, unless the loop was stopped before. The worker calls it.

        Raises:
            RunError: as for `stop`.
        """
        if not (self.stopped or self._keeps):
            self._by_rule = True
            self.stop(keep=True)

    def _expect_estimates(self) -> None:
        """Refuses to keep an estimate where it would not be the pipeline's result."""
        if INPAINT in self.pipeline_name:
            reason = "it adds noise to the given image after each step; stop it without keep"
        elif self._is_cropped or self._of_frames:
            reason = "it samples parts of the image one after another; stop it without keep"
        elif self._unheard and not self.heard:
            reason = "it does not call its scheduler, so no estimate can take its place; stop it without keep"
        else:
            return
        raise RunError(f"no estimate of {self.pipeline_name} can be kept: {reason}")

    def take(self, scheduler: Any, call: SchedulerCall) -> None:
        """Takes a call of a scheduler, after it. Never raises."""
        if self.ended or (self._run is not None and self._run.broken):
            return
        try:
            self._take(scheduler, call)
        except Exception:  # must not stop the sampler
            log.warning("a step is not shown", exc_info=True)

    def advance(self) -> None:
        """Shows a step that is complete, because the progress bar moves on. Never raises."""
        if self.ended or self._waits_for_callback:
            return
        try:
            if self.heard:
                self._show_pending()
            else:
                self._show_unheard(latents_of_loop(self._pipeline), x0_of_loop(self._pipeline))
        except Exception:
            log.warning("a step is not shown", exc_info=True)

    def confirm(self, latents: Any) -> None:
        """Shows the newest step, because the pipeline has called the callback after it. Never raises.

        Args:
            latents: noisy latents after the step, as the callback gets them.
        """
        try:
            if self.heard:
                self._show_pending()
            else:
                self._show_unheard(latents)
        except Exception:
            log.warning("a step is not shown", exc_info=True)

    def finish(self, error: BaseException | None) -> None:
        """As `end`, but never raises."""
        try:
            self.end(error)
        except Exception:
            log.warning("the end of this loop is not recorded", exc_info=True)

    def end(self, error: BaseException | None = None) -> None:
        """Ends the run. Only the first call has an effect."""
        if self.ended:
            return
        self.ended, self.failed = True, error is not None
        self._on_end(self)
        if error is None and not self._waits_for_callback:
            self._show_pending()
        self._pending = self._crops = None
        if self._run is not None:
            self._run.end(self._state(error), error, self._sampled)
        self._sampled = None

    def _state(self, error: BaseException | None) -> State:
        if self._kept and error is None:
            return "stopped"
        if self.stopped or isinstance(error, KeyboardInterrupt | GeneratorExit):
            return "interrupted"
        if error is not None:
            return "failed"
        if isinstance(self._pipeline, OwnLoop) and self._shown < (self._total or 0):
            return "interrupted"  # by the user's own code: the scheduler has more timesteps
        return "interrupted" if getattr(self._pipeline, "interrupt", False) is True else "finished"

    def _take(self, scheduler: Any, call: SchedulerCall) -> None:
        if self._scheduler is None:
            self._follow(scheduler, call.timestep)
        if any(self._scheduler is each for each in self._of_frames):
            self._take_frame(scheduler, call)
            return
        if scheduler is not self._scheduler:  # of the sound of a video, for example
            return
        if self._call.denoising_end is not None:
            self._sampled = result_of(call)
        step = self._step(call)
        if step is None:
            return
        if not self._waits:
            self._show(step)
        else:
            self._wait_for(step)
        if self._keeps:
            self._keep(call, step.index)

    def _wait_for(self, step: SchedulerStep) -> None:
        """Shows a step when its picture is known, and now the one before it."""
        if self._pending is not None and self._pending.index != step.index and not self._waits_for_callback:
            self._show(self._pending)
        self._pending = step

    def _keep(self, call: SchedulerCall, index: int) -> None:
        """Ends the loop with the estimate of this step in place of the sample that the scheduler returns."""
        self._keeps = False
        if self._by_rule and index >= (self._total or index):  # it ends anyway
            return
        returned = call.result[0] if isinstance(call.result, tuple) else getattr(call.result, "prev_sample", None)
        x0 = estimate_x0(self._scheduler, call, self._tables).x0
        if x0 is None or not isinstance(returned, Tensor) or returned.shape != x0.shape:
            self._note(f"step {index} could not be kept, so the run goes on: its estimate is not known")
            return
        returned.copy_(x0)
        self.stop()
        self._kept = True
        if self._run is not None:
            self._run.run.keep_step(EarlyEnd(index, self._by_rule))

    def _take_frame(self, scheduler: Any, call: SchedulerCall) -> None:
        """Adds a call for one frame of a video; the step is complete when the progress bar moves on."""
        whole = self._latents(call.sample)
        axes = () if whole is None else self._part_axes(whole)
        if whole is None or len(axes) != 3:
            return
        estimate = estimate_x0(scheduler, call, self._tables, needs_x0=self._needs_x0)
        if self._crops is None:
            self._calls.add_whole(scheduler, call.timestep)
            self._crops = Crops(whole, axes, self._index(), estimate.sigma, estimate.gain)
        elif self._crops.sigma != estimate.sigma:
            self._crops.sigma = None  # the frames have different noise levels
        x0 = estimate.x0 if self._needs_x0 else call.sample
        if x0 is not None:
            self._crops.add(call.sample.unsqueeze(axes[0]), x0.unsqueeze(axes[0]))

    def _follow(self, scheduler: Any, timestep: Any) -> None:
        self._scheduler, self._order = scheduler, order_of(scheduler)
        calls = (self._bar and self._bar.length) or self._call.timesteps
        timesteps = getattr(scheduler, "timesteps", None)
        if calls is None and self._bar is None and timesteps is not None:
            calls = len(timesteps) - (first_position(scheduler, timestep) or 0)
        if calls and not self._of_frames:
            self._total = -(-calls // self._order)

    def _step(self, call: SchedulerCall) -> SchedulerStep | None:
        """The step that this call completes; None if there is none, as after the later model calls of one step."""
        sample = call.sample
        if not isinstance(sample, Tensor) or not sample.is_floating_point() or not self._may_be_latents(sample):
            self._calls.add(self._scheduler, call.timestep)
            return None
        if self._is_cropped is None:
            self._is_cropped = self._may_be_crop(sample) and is_crop(
                sample, self._latents(sample), self._part_axes(sample)
            )
        if self._is_cropped and (whole := self._latents(sample)) is not None:
            return self._crop(call, whole)
        restarts = self._calls.restarts
        is_new = self._calls.add(self._scheduler, call.timestep)
        if self._calls.restarts != restarts:
            self._note(
                f"{self._subject} samples several times in one loop, such as one part of the image after another: each "
                "picture shows what is sampled then"
            )
        if not is_new and not self._family.shows_last_call:
            self._note(
                f"{self._subject} calls its scheduler several times in each step: each picture shows the first call, "
                "which may be a part of the image"
            )
            return None
        index = self._index()
        return None if index is None else self._numbered(index, self._estimate(call), sample)

    def _may_be_latents(self, sample: Tensor) -> bool:
        return sample.ndim >= FEWEST_AXES or sample.ndim in layouts_of(self._family)

    def _estimate(self, call: SchedulerCall) -> X0Estimate:
        return estimate_x0(self._scheduler, call, self._tables, needs_x0=self._needs_x0)

    def _index(self) -> int | None:
        """Number of the step from 1; None for the second and later model calls of a step."""
        position = self._calls.position
        return None if position % self._order else self._unheard + position // self._order + 1

    def _numbered(self, index: int, x0: X0Estimate, noisy: Tensor) -> SchedulerStep:
        return SchedulerStep(index, max(index, self._total or index), x0, noisy)

    def _latents(self, sample: Tensor) -> Tensor | None:
        """The pipeline's latents; of those with more channels than `sample`, such as a condition, the first ones."""
        whole = latents_of_loop(self._pipeline)
        axis = channel_axis(self._family, sample.ndim)
        if whole is None or axis is None or whole.ndim != sample.ndim or whole.shape[axis] <= sample.shape[axis]:
            return whole
        return whole.narrow(axis, 0, sample.shape[axis])

    def _part_axes(self, sample: Tensor) -> tuple[int, ...]:
        return part_axes(self._family, sample.ndim)

    def _may_be_crop(self, sample: Tensor) -> bool:
        """Whether the sample may be a part of the latents. Reading the pipeline's variables can hold memory."""
        axes = self._part_axes(sample)
        scale = getattr(self._pipeline, "vae_scale_factor", None)
        sides = self._call.height, self._call.width
        if len(axes) != 2 or not isinstance(scale, int) or None in sides:
            return bool(axes)
        return sides != tuple(sample.shape[axis] * scale for axis in axes)

    def _crop(self, call: SchedulerCall, whole: Tensor) -> SchedulerStep | None:
        """Adds a call for a part of the latents; returns the step before, if this call is the first of the next one."""
        before, crops, estimate = None, self._crops, self._estimate(call)
        if crops is None or not crops.are_of(whole):
            before = None if self._waits_for_callback else self._assembled()
            self._calls.add_whole(self._scheduler, call.timestep)
            axes = self._part_axes(call.sample)
            crops = self._crops = Crops(whole, axes, self._index(), estimate.sigma, estimate.gain)
        x0 = estimate.x0 if self._needs_x0 else call.sample  # without it, only the noisy latents are shown
        if x0 is None or not crops.add(call.sample, x0):
            self._is_cropped, self._crops = False, None
            self._note(f"{self._subject} samples its image in parts: each picture shows only the first part of a step")
            return before if crops.index is None else self._numbered(crops.index, estimate, call.sample)
        return before

    def _assembled(self) -> SchedulerStep | None:
        """The step whose crops are complete; None if there is none."""
        crops, self._crops = self._crops, None
        if crops is None or crops.index is None:
            return None
        x0 = crops.x0() if self._needs_x0 else None
        # Frames that were not sampled in this step have another noise level.
        sigma = crops.sigma if not self._of_frames or crops.is_complete else None
        return self._numbered(crops.index, X0Estimate(x0, sigma, crops.gain), crops.noisy)

    def _show_pending(self) -> None:
        step, self._pending = self._pending or self._assembled(), None
        if step is not None:
            self._show(step)

    def _show_unheard(self, latents: Any, x0: Tensor | None = None) -> None:
        """Shows a step of a loop that calls no scheduler of its pipeline: the latents after it, or its own estimate."""
        if not isinstance(latents, Tensor) or not latents.is_floating_point() or not self._may_be_latents(latents):
            return
        self._unheard += 1
        if self._bar is None and self._unheard == 1 and self._total != 1:
            self._note("step 1 is not shown: the first callback said which copy of the pipeline samples")
            return
        self._estimates = x0 is not None and x0.shape == latents.shape
        if not self._estimates:
            self._note(
                f"{self.pipeline_name} does not call its own scheduler, some loops use copies of it: the pictures show "
                "the noisy latents after each step, and the noise levels are unknown"
            )
        sigmas = self._sigmas_of_call()
        sigma = None if sigmas is None else sigmas[self._unheard - 1]
        self._show(self._numbered(self._unheard, X0Estimate(x0 if self._estimates else None, sigma, None), latents))

    def _sigmas_of_call(self) -> list[float | None] | None:
        """Noise levels of a loop without a scheduler, if the user gave one for each step and one for the end."""
        sigmas = None if self._schedulers else self._call.sigmas
        return None if sigmas is None or len(sigmas) != (self._total or 0) + 1 else list(sigmas)

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)
            if self._run is not None:
                self._run.run.note(text)

    def _show(self, step: SchedulerStep) -> None:
        run = self._run or self._begin_run()
        _correct(run.run.sampler["sigmas"], step)
        run.offer(step)
        self._shown = step.index
        if self._bar is None and self._total is not None and step.index >= self._total:
            self.finish(None)

    def _begin_run(self) -> WatchedRun:
        first = self._calls.first(self._scheduler)
        if first is not None:
            first = max(0, first - self._unheard * self._order)
        # By identity: a scheduler has a length, and some fail to say it.
        scheduler: Any = next(iter(self._schedulers), None) if self._scheduler is None else self._scheduler
        facts = sampler_facts(scheduler, self._call, self._total) | {"sigmas": self._sigmas_of_call()}
        is_planned = not self._of_frames or self._total == len(scheduler.timesteps)  # else frames begin later
        if self.heard and self._total is not None and is_planned:
            facts["sigmas"] = planned_sigmas(scheduler, self._total, first, self._tables)
        run = Run(host=host_facts(self._pipeline), sampler=facts, prompt=self._call.prompt)
        stops = (self.stop, self.stop_by_rule) if self.can_stop else (None, None)
        self._run = WatchedRun(self._pipeline, self._run_options(), self._call, run, *stops, self._refined)
        for note in self._notes:
            run.note(note)
        self._on_run(self._run)
        return self._run

    def _run_options(self) -> WatchOptions:
        """The user's options; `noisy` is shown where a loop gives no estimate."""
        options = self._options
        if self.heard or self._estimates or options.run.decoder == FULL:
            return options
        return replace(options, run=replace(options.run, show="noisy"))


def _correct(planned: list[float | None] | None, step: SchedulerStep) -> None:
    """Replaces the planned sigma of a step if the loop took another: some loops leave the schedule, or change it."""
    sigma, position = step.x0.sigma, step.index - 1
    if planned and sigma is not None and math.isfinite(sigma) and position < len(planned) - 1:
        planned[position] = sigma
