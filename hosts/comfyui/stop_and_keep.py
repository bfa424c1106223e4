"""Lets a person end a sampler early, with a step's estimate as its result, and lets a run wait between two steps."""

from collections.abc import Callable
from typing import Any, final

from comfy.model_management import InterruptProcessingException, throw_exception_if_processing_interrupted
from torch import Tensor

from ...errors import SafelightError, describe
from ...preview.run import Run
from ...preview.saved_run import SavedRun
from ...preview.sinks.run_folder import RunFolder
from .shared import Shared


@final
class KeptEstimate(InterruptProcessingException):
    """Ends the loop of a sampler. For all code in between it is the host's own Cancel.

    Args:
        latents: estimate of the finished latents, in model space: the sampler's result.
    """

    def __init__(self, latents: Tensor) -> None:
        super().__init__("Stop and keep")
        self.latents = latents


@final
class KeepWrapper(Shared):
    """Wraps ComfyUI's `Sampler.sample`: a kept estimate is its result, as if the schedule had ended.

    ComfyUI then does the rest as always: it converts the latents for the VAE and cleans up.
    Source: ComfyUI 0.33 `comfy/samplers.py`, `CFGGuider.inner_sample`.
    """

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return executor(*args, **kwargs)
        except KeptEstimate as kept:
            return kept.latents


@final
class RequestedEnd:
    """Does what a person asks of a run, on the sampler's thread.

    Args:
        run: run that goes on.
        latents: folder with its latents; None if none are saved.
        last: number of the schedule's last step, at which the user's rule has nothing to save.
        report: function that is called with True when the run waits, and with False when it goes on.

    Attributes:
        kept: number of the step that became the result; None if the run was not stopped.
    """

    def __init__(self, run: Run, latents: RunFolder | None, last: int, report: Callable[[bool], object]) -> None:
        self._run, self._latents, self._last, self._report = run, latents, last, report
        self.kept: int | None = None

    def look(self, index: int, denoised: Tensor | None, noisy: Tensor) -> None:
        """Obeys a request, if there is one. The sampler calls it after each step.

        Args:
            index: number of the step.
            denoised: the model's estimate at this step; None if the sampler reports none.
            noisy: latents of the sampler, whose device the result gets.

        Raises:
            KeptEstimate: the run ends.
            InterruptProcessingException: the user cancels while the run waits.
        """
        if not self._run.control.is_waiting:
            return
        end = self._run.control.obey(index, throw_exception_if_processing_interrupted, self._report)
        if end is None or (end.by_rule and index >= self._last):
            return
        step = end.step
        try:
            latents = denoised if step == index else self._saved(step)
        except (SafelightError, OSError) as error:
            self._run.note(f"step {step} could not be kept, so the run goes on: {describe(error)}")
            return
        if latents is None:
            self._run.note(f"step {step} could not be kept, so the run goes on: the sampler reported no estimate")
            return
        self.kept = step
        self._run.keep_step(end)
        raise KeptEstimate(latents.to(noisy.device))

    def _saved(self, step: int) -> Tensor | None:
        if self._latents is None:
            raise SafelightError("its latents are not saved; switch on keep_latents")
        return SavedRun(self._latents.path, self._latents.manifest(), self._latents.title).latents(step).denoised
