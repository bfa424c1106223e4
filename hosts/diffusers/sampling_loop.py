"""Follows a pipeline's sampling loop: counts the steps of its scheduler."""

import logging
import math
import threading
from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from ...errors import RunError
from ...preview.run import Run, State
from ..x0 import SchedulerCall, Sigmas, estimate_x0, listen
from .call_arguments import CallArguments
from .facts import host_facts, order_of, sampler_facts
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
        self._sigmas = Sigmas()
        self._calls, self._first_index = 0, None
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
        """Shows the step that the scheduler took last."""
        step, self._pending = self._pending, None
        if step is not None:
            self._show(step)

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
        """The step; None for the second and later model calls of one step."""
        position = self._position()
        if position % self._order or not isinstance(call.sample, Tensor) or not call.sample.is_floating_point():
            return None
        index = position // self._order + 1
        x0 = estimate_x0(self._scheduler, call, self._sigmas)
        return SchedulerStep(index, max(index, self._total or index), x0, call.sample)

    def _position(self) -> int:
        """Number of model calls before this one. A pipeline that repeats a step resets the scheduler's own count."""
        self._calls += 1
        next_index = getattr(self._scheduler, "step_index", None)
        if not isinstance(next_index, int):
            return self._calls - 1
        if self._first_index is None:
            self._first_index = next_index - 1
        return max(0, next_index - 1 - self._first_index)

    def _show(self, step: SchedulerStep) -> None:
        if self._run is None:
            facts = sampler_facts(self._scheduler, self._call, self._total, self._first_index, self._sigmas)
            run = Run(host=host_facts(self._pipeline), sampler=facts, prompt=self._call.prompt)
            stop = self.stop if self.can_stop else None
            self._run = WatchedRun(self._pipeline, self._options, self._call, run, stop)
            self._on_run(self._run)
        _correct(self._run.run.sampler["sigmas"], step)
        self._run.offer(step)


def _correct(planned: list[float] | None, step: SchedulerStep) -> None:
    """Replaces the planned sigma of a step if the loop took another: some loops leave the schedule, or change it."""
    sigma, position = step.x0.sigma, step.index - 1
    if planned and sigma is not None and math.isfinite(sigma) and position < len(planned) - 1:
        planned[position] = sigma
