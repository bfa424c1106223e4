"""A pipeline's sampling loop: the steps of its scheduler, counted."""

import logging
from collections.abc import Callable
from typing import Any, final

from torch import Tensor

from ...errors import RunError
from ...preview.run import Run, State
from ..x0 import SchedulerCall, Sigmas, estimate_x0, listen
from .call_arguments import CallArguments
from .facts import host_facts, order_of, sampler_facts
from .options import Options
from .watched_run import SchedulerStep, WatchedRun

INTERRUPT = "_interrupt"  # what the loops of most pipelines look at before each step

log = logging.getLogger("safelight.diffusers")


@final
class SamplingLoop:
    """One loop. Its scheduler is listened to until it ends; without a step in it nothing comes of it.

    Args:
        pipeline: of diffusers.
        options: the user's.
        call: what it was asked for.
        length: of what the loop goes through, where the bar is that; else None.
        steps: that the bar counts, if it says so.
        begun: is told of the sampler call, once there is one.
        waits: whether a step is shown only when `confirm` comes after it.

    Attributes:
        stopped: whether it is to end before its next step.
        ended: whether it has.
    """

    def __init__(
        self,
        pipeline: Any,
        options: Options,
        call: CallArguments,
        length: int | None,
        steps: int | None,
        begun: Callable[[WatchedRun], None],
        *,
        waits: bool = False,
    ) -> None:
        self._pipeline, self._options, self._call = pipeline, options, call
        self._scheduler = pipeline.scheduler
        self._goes_through_bar = length is not None
        looks = length or call.timesteps
        self._order = order_of(self._scheduler)
        self._total = -(-looks // self._order) if looks else steps
        self._begun, self._waits = begun, waits
        self._sigmas = Sigmas()
        self._heard, self._first_at = 0, 0
        self._pending: SchedulerStep | None = None
        self._sampling: WatchedRun | None = None
        self.stopped = self.ended = False
        self._end_listening = listen(self._scheduler, self._hear)

    def confirm(self) -> None:
        """The step that was heard last is one to be shown."""
        moment, self._pending = self._pending, None
        if moment is not None:
            self._show(moment)

    @property
    def can_stop(self) -> bool:
        """Whether the pipeline looks, before each step, at something that ends the loop."""
        return self._goes_through_bar or hasattr(self._pipeline, INTERRUPT)

    def stop(self) -> bool:
        """Ends it before its next step; the pipeline goes on with what is there.

        Raises:
            RunError: this pipeline cannot be stopped.
        """
        if self.ended:
            return False
        if not self.can_stop:
            raise RunError(
                f"{type(self._pipeline).__name__} cannot be stopped: expected a pipeline whose loop looks at "
                f"`{INTERRUPT}`, this one does not; wait for it, or press Ctrl+C: the pictures so far stay"
            )
        self.stopped = True
        if hasattr(self._pipeline, INTERRUPT):
            setattr(self._pipeline, INTERRUPT, True)
        return True

    def end(self, error: BaseException | None = None) -> None:
        """Leaves the scheduler as it was; only the first call counts."""
        if self.ended:
            return
        self.ended = True
        self._end_listening()
        self._pending = None
        if self._sampling is not None:
            self._sampling.end(self._state(error), error)

    def _state(self, error: BaseException | None) -> State:
        if self.stopped or isinstance(error, KeyboardInterrupt | GeneratorExit):
            return "interrupted"
        if error is not None:
            return "failed"
        return "interrupted" if getattr(self._pipeline, "interrupt", False) is True else "finished"

    def _hear(self, taken: SchedulerCall) -> None:
        try:
            moment = self._moment(taken)
            if moment is None:
                return
            if self._waits:
                self._pending = moment
            else:
                self._show(moment)
        except Exception:  # never the sampler's trouble
            log.warning("a step was not taken", exc_info=True)

    def _moment(self, taken: SchedulerCall) -> SchedulerStep | None:
        """The step; None where it is one of several looks at the model in one, and not the first."""
        at = self._position()
        if at % self._order or not isinstance(taken.sample, Tensor) or not taken.sample.is_floating_point():
            return None
        index = at // self._order + 1
        x0 = estimate_x0(self._scheduler, taken, self._sigmas)
        return SchedulerStep(index, max(index, self._total or index), x0, taken.sample)

    def _position(self) -> int:
        """How many looks came before the one that was heard. Some pipelines ask for a step twice, and take it back."""
        self._heard += 1
        counted = getattr(self._scheduler, "step_index", None)  # of the next one
        if not isinstance(counted, int):
            return self._heard - 1
        if self._heard == 1:
            self._first_at = counted
        return max(0, counted - self._first_at)

    def _show(self, moment: SchedulerStep) -> None:
        if self._sampling is None:
            facts = sampler_facts(self._scheduler, self._call, self._total, self._sigmas)
            run = Run(host=host_facts(self._pipeline), sampler=facts, prompt=self._call.prompt)
            stop = self.stop if self.can_stop else None
            self._sampling = WatchedRun(self._pipeline, self._options, self._call, run, stop)
            self._begun(self._sampling)
        self._sampling.offer(moment)
