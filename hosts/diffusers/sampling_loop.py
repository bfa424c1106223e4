"""Follows a pipeline's sampling loop: counts the steps of its scheduler."""

import logging
import math
import threading
from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from ...errors import RunError
from ...preview.run import Run, State
from ..noise_levels import Tables, order_of
from ..x0 import SchedulerCall, X0Estimate, estimate_x0, listen
from .call_arguments import CallArguments, latents_of_loop
from .crops import Crops, is_crop
from .facts import host_facts, sampler_facts
from .options import WatchOptions
from .watched_run import SchedulerStep, WatchedRun

INTERRUPT = "_interrupt"  # attribute that the loops of most pipelines read before each step

log = logging.getLogger("safelight.diffusers")


@final
class SamplingLoop:
    """One sampling loop. It observes the scheduler until the loop ends; the first step begins a run.

    Args:
        pipeline: pipeline of diffusers.
        options: the user's options.
        call: arguments of the pipeline's call.
        bar_length: length of the sequence that the loop iterates over, if it iterates over its progress bar; else None.
        bar_total: total of the progress bar, if it has one.
        on_run: function that receives the run when it begins.
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
        options: WatchOptions,
        call: CallArguments,
        bar_length: int | None,
        bar_total: int | None,
        on_run: Callable[[WatchedRun], None],
        *,
        waits_for_callback: bool = False,
    ) -> None:
        self._pipeline, self._options, self._call = pipeline, options, call
        self._scheduler = pipeline.scheduler
        self._iterates_bar = bar_length is not None
        model_calls = bar_length or call.timesteps
        self._order = order_of(self._scheduler)
        self._total = -(-model_calls // self._order) if model_calls else bar_total
        self._on_run, self._waits_for_callback = on_run, waits_for_callback
        self._tables = Tables()
        self._calls, self._first_index = 0, None
        self._position, self._timestep = -1, None  # of the newest model call
        self._schedule, self._restart = None, 0  # the scheduler's timesteps, and the position at which they began
        self._crops: Crops | None = None
        self._is_cropped: bool | None = None  # None: not known yet
        self._notes: list[str] = []
        self._pending: SchedulerStep | None = None
        self._run: WatchedRun | None = None
        self.stopped = self.ended = False
        self.failed = False
        self.thread = threading.get_ident()
        self._stop_listening = listen(self._scheduler, self._on_scheduler_call)

    @property
    def heard(self) -> bool:
        """Whether the scheduler was called."""
        return self._calls > 0

    def shares(self, pipeline: Any) -> bool:
        """Whether `pipeline` is the pipeline of this loop, or has its scheduler."""
        return pipeline is self._pipeline or pipeline.scheduler is self._scheduler

    def release(self) -> None:
        """Ends the loop, restores a pipeline that was stopped, and drops the references to it."""
        self.end()
        if self.stopped and getattr(self._pipeline, INTERRUPT, None) is True:
            setattr(self._pipeline, INTERRUPT, False)
        self._pipeline = self._scheduler = None

    def confirm(self) -> None:
        """Shows the step that the scheduler took last. Never raises."""
        try:
            step, self._pending = self._pending or self._assembled(), None
            if step is not None:
                self._show(step)
        except Exception:
            log.warning("a step is not shown", exc_info=True)

    @property
    def can_stop(self) -> bool:
        """Whether the pipeline checks, before each step, whether it must end."""
        return self._iterates_bar or hasattr(self._pipeline, INTERRUPT)

    def stop(self) -> bool:
        """Ends the loop before its next step; the pipeline continues with the latents that it has.

        Returns:
            Whether the loop was running.

        Raises:
            RunError: this pipeline cannot be stopped.
        """
        if self.ended:
            return False
        if not self.can_stop:
            raise RunError(
                f"{type(self._pipeline).__name__} cannot be stopped: expected a pipeline whose loop reads "
                f"`{INTERRUPT}`, but this one does not; wait for it, or press Ctrl+C: the pictures so far are saved"
            )
        self.stopped = True
        if hasattr(self._pipeline, INTERRUPT):
            setattr(self._pipeline, INTERRUPT, True)
        return True

    def end(self, error: BaseException | None = None) -> None:
        """Restores the scheduler and ends the run. Only the first call has an effect."""
        if self.ended:
            return
        self.ended, self.failed = True, error is not None
        self._stop_listening()
        self._pending = None
        if error is None and not self._waits_for_callback:
            self.confirm()
        self._crops = self._timestep = None
        if self._run is not None:
            self._run.end(self._state(error), error)

    def _state(self, error: BaseException | None) -> State:
        if self.stopped or isinstance(error, KeyboardInterrupt | GeneratorExit):
            return "interrupted"
        if error is not None:
            return "failed"
        return "interrupted" if getattr(self._pipeline, "interrupt", False) is True else "finished"

    def _on_scheduler_call(self, call: SchedulerCall) -> None:
        try:
            step = self._step(call)
            if step is None:
                return
            if self._waits_for_callback:
                self._pending = step
            else:
                self._show(step)
        except Exception:  # must not stop the sampler
            log.warning("a step is not shown", exc_info=True)

    def _step(self, call: SchedulerCall) -> SchedulerStep | None:
        """The step that this call completes; None if there is none, as after the later model calls of one step."""
        if not isinstance(call.sample, Tensor) or not call.sample.is_floating_point():
            self._count(call)
            return None
        if self._is_cropped is None:
            self._is_cropped = self._may_be_crop(call.sample) and is_crop(call.sample, self._latents())
        if self._is_cropped and (whole := self._latents()) is not None:
            return self._crop(call, whole)
        if not self._count(call):
            self._note(
                "the pipeline calls its scheduler several times in each step: each picture shows the first call, which "
                "may be a part of the image"
            )
            return None
        if self._position % self._order:
            return None
        x0 = estimate_x0(self._scheduler, call, self._tables)
        return self._numbered(self._position // self._order + 1, x0, call.sample)

    def _latents(self) -> Tensor | None:
        return latents_of_loop(self._pipeline)

    def _may_be_crop(self, sample: Tensor) -> bool:
        """Whether the pipeline states another size of its image. Reading its variables can hold memory for a step."""
        scale = getattr(self._pipeline, "vae_scale_factor", None)
        sides = self._call.height, self._call.width
        if not isinstance(scale, int) or None in sides:
            return True
        return sides != tuple(side * scale for side in sample.shape[-2:])

    def _numbered(self, index: int, x0: X0Estimate, noisy: Tensor) -> SchedulerStep:
        return SchedulerStep(index, max(index, self._total or index), x0, noisy)

    def _crop(self, call: SchedulerCall, whole: Tensor) -> SchedulerStep | None:
        """Adds a call for a crop of the latents; returns the step before, if this call is the first of the next one."""
        before, crops = None, self._crops
        x0 = estimate_x0(self._scheduler, call, self._tables)
        if crops is None or not crops.are_of(whole):
            before = None if self._waits_for_callback else self._assembled()
            if self._calls == 0 and isinstance(index := getattr(self._scheduler, "step_index", None), int):
                self._first_index = index - 1
            self._position = self._calls
            self._calls += 1
            index = None if self._position % self._order else self._position // self._order + 1
            crops = self._crops = Crops(whole, index, x0.sigma, x0.gain)
        if x0.x0 is None or not crops.add(call.sample, x0.x0):
            self._is_cropped, self._crops = False, None
            self._timestep = call.timestep
            self._note("the pipeline samples its image in parts: each picture shows only the first part of a step")
            return before if crops.index is None else self._numbered(crops.index, x0, call.sample)
        return before

    def _assembled(self) -> SchedulerStep | None:
        """The step whose crops are complete; None if there is none."""
        crops, self._crops = self._crops, None
        if crops is None or crops.index is None:
            return None
        return self._numbered(crops.index, X0Estimate(crops.x0(), crops.sigma, crops.gain), crops.noisy)

    def _count(self, call: SchedulerCall) -> bool:
        """Counts a model call; returns whether it is not one more of the same. Never waits for a device."""
        timestep, before = call.timestep, self._position
        next_index = getattr(self._scheduler, "step_index", None)
        if isinstance(next_index, int):  # a pipeline that repeats a step resets the scheduler's own count
            self._calls += 1
            if self._first_index is None:
                self._first_index = next_index - 1
            schedule, self._schedule = self._schedule, getattr(self._scheduler, "timesteps", None)
            position = max(0, next_index - 1 - self._first_index)
            if position == 0 and before > self._restart and schedule is not self._schedule:
                self._restart = before + 1
                self._note(
                    "the pipeline samples several times in one loop, such as one part of the image after another: each "
                    "picture shows what is sampled then"
                )
            self._position = self._restart + position
            return self._position != before
        if self._calls and _is_same(timestep, self._timestep):
            return False
        self._timestep = timestep
        self._position = self._calls
        self._calls += 1
        return True

    def _note(self, text: str) -> None:
        self._notes.append(text)
        if self._run is not None:
            self._run.run.note(text)

    def _show(self, step: SchedulerStep) -> None:
        if self._run is None:
            facts = sampler_facts(self._scheduler, self._call, self._total, self._first_index, self._tables)
            run = Run(host=host_facts(self._pipeline), sampler=facts, prompt=self._call.prompt)
            stop = self.stop if self.can_stop else None
            self._run = WatchedRun(self._pipeline, self._options, self._call, run, stop)
            for note in self._notes:
                run.note(note)
            self._on_run(self._run)
        _correct(self._run.run.sampler["sigmas"], step)
        self._run.offer(step)


def _is_same(timestep: Any, before: Any) -> bool:
    """Whether two timesteps are the same entry of a schedule, which may have the same number twice."""
    if isinstance(timestep, Tensor) and isinstance(before, Tensor):
        return timestep.data_ptr() == before.data_ptr()
    return isinstance(timestep, int | float) and timestep == before


def _correct(planned: list[float] | None, step: SchedulerStep) -> None:
    """Replaces the planned sigma of a step if the loop took another: some loops leave the schedule, or change it."""
    sigma, position = step.x0.sigma, step.index - 1
    if planned and sigma is not None and math.isfinite(sigma) and position < len(planned) - 1:
        planned[position] = sigma
