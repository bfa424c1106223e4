"""The noise level of each step of a sampler."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, final

import torch
from torch import Tensor

from .facts import noisy_gains

# Samplers of ComfyUI pass the index of the step's sigma to the callback, except those in `OWN_LEVELS`.
# Source: ComfyUI 0.33 `comfy/k_diffusion/sampling.py`, `comfy/extra_samplers/uni_pc.py`.
FOLLOWING_MODULES = ("comfy.k_diffusion.sampling", "comfy.extra_samplers.uni_pc")
OWN_LEVELS = ("sample_dpm_fast", "sample_dpm_adaptive", "sample_ar_video")
# As a part of the largest sigma: rounding in a sampler, 1e-7 in float32. Sigmas of 1,000 steps are about 1e-3 apart.
TOLERANCE = 1e-4


@final
class NoiseLevels:
    """The sigma of each step of a run, and the gain for its noisy latents. Everything about a run asks here.

    ComfyUI passes its callback the number of a step, but no sigma. For samplers that follow the schedule, the number is
    the index of the sigma. Other samplers choose their own sigmas, repeat steps, or count in another way: for them the
    sigma is what the sampler itself reports to its callback; if it reports none, the sigma is unknown.

    Args:
        model: ModelPatcher that samples.
        sampler: ComfyUI's sampler object.
        sigmas: `[steps + 1]` noise levels of the schedule.

    Attributes:
        planned: the noise levels of the schedule.
    """

    def __init__(self, model: Any, sampler: Any, sigmas: Tensor) -> None:
        self._model, self._sampler = model, sampler
        self.planned: list[float] = sigmas.detach().float().cpu().tolist()
        self._gains = noisy_gains(model, sigmas)
        self._follows = _follows(sampler)
        self._sigmas: Tensor | None = None  # those that the sampler receives, on its device
        self._reported: Any = None
        self._unread = list[tuple[int, Tensor]]()  # steps, and noise levels that are still on the sampler's device
        self._scheduled: list[float] | None = self.planned

    @property
    def scheduled(self) -> list[float] | None:
        """The noise levels of the schedule; None if the sampler does not follow it, or if that is unknown as yet."""
        return None if self._unread else self._scheduled

    def settle(self) -> None:
        """Compares noise levels that are still on the device with the schedule. Call it when the sampler is done."""
        unread, self._unread = self._unread, []
        try:
            for step, sigma in unread:
                self._compare(step, float(sigma))
        except RuntimeError:  # the device has failed
            self._scheduled = None

    @property
    def end(self) -> float | None:
        """The noise level of the sampler's result; None if unknown."""
        return None if self.scheduled is None else self.scheduled[-1]

    def take(self, step: int) -> tuple[float | Tensor | None, float | None]:
        """The sigma and the gain of the step that the sampler reports now, None where unknown. Call it once for a step.

        A sigma on another device is a tensor: reading it would wait for the device.

        Args:
            step: number of the step, from 0.
        """
        if self._follows and step < len(self.planned):
            return self.planned[step], self._gains[step]
        sigma, self._reported = self._read(self._reported), None
        if isinstance(sigma, Tensor):
            self._unread.append((step, sigma))
        else:
            self._compare(step, sigma)
        if max(self._gains) == min(self._gains):  # a flow model
            return sigma, self._gains[0]
        return sigma, noisy_gains(self._model, torch.tensor([sigma]))[0] if isinstance(sigma, float) else None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Reads what the sampler reports to its callback, inside the block, if it may not follow the schedule."""
        function = vars(self._sampler).get("sampler_function") if hasattr(self._sampler, "__dict__") else None
        if self._follows or not callable(function):
            yield
            return

        @wraps(function)
        def sample(model: Any, noise: Any, sigmas: Any, *args: Any, **kwargs: Any) -> Any:
            self._sigmas = sigmas if isinstance(sigmas, Tensor) else None
            if callable(callback := kwargs.get("callback")):

                def listen(report: Any) -> Any:
                    self._reported = report.get("sigma") if isinstance(report, dict) else None
                    return callback(report)

                kwargs["callback"] = listen
            return function(model, noise, sigmas, *args, **kwargs)

        # A sampler of another package may refuse an assignment; then its noise levels stay unknown.
        with suppress(Exception):
            self._sampler.sampler_function = sample
        try:
            yield
        finally:
            if vars(self._sampler).get("sampler_function") is sample:
                self._sampler.sampler_function = function

    def _read(self, reported: Any) -> float | Tensor | None:
        try:
            sigmas = self._sigmas
            if (
                isinstance(reported, Tensor)
                and sigmas is not None
                and sigmas.dtype == reported.dtype
                and sigmas.shape == (len(self.planned),)
                and sigmas.untyped_storage().data_ptr() == reported.untyped_storage().data_ptr()
            ):
                # A view into the schedule.
                return self.planned[(reported.storage_offset() - sigmas.storage_offset()) // max(1, sigmas.stride(0))]
            if isinstance(reported, Tensor) and reported.device.type != "cpu":
                return reported.detach().clone().reshape(()) if _is_number(reported) else None
            return None if reported is None or isinstance(reported, str | bytes) else float(reported)
        except Exception:  # a sampler from another package may report anything
            return None

    def _compare(self, step: int, sigma: float | None) -> None:
        """Stops using the schedule if the sampler does not follow it."""
        tolerance = TOLERANCE * max(map(abs, self.planned), default=0.0)
        at_step = self.planned[step] if step < len(self.planned) else None
        if sigma is None or at_step is None or not abs(at_step - sigma) <= tolerance:
            self._scheduled = None


def _is_number(tensor: Tensor) -> bool:
    return tensor.numel() == 1 and not tensor.is_complex()


def _follows(sampler: Any) -> bool:
    """Whether this is a sampler of ComfyUI that passes the index of the step's sigma to its callback."""
    function = getattr(sampler, "sampler_function", None)
    name = getattr(function, "__name__", None)
    return getattr(function, "__module__", None) in FOLLOWING_MODULES and name not in OWN_LEVELS
