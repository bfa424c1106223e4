"""Continues sampling from exactly the latents that a step of another run began with."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...errors import LatentsError
from ...preview.sinks.latent_files import SavedLatents
from .latent_dict import unpacked
from .sampler_schedule import SamplerSchedule
from .shared import Shared

CONTINUE_KEY = "safelight_resume"
WATCH_KEY = "safelight"
# Samplers that pass other latents to the callback than those that a step begins with.
# Source: ComfyUI 0.33 `comfy/k_diffusion/sampling.py`, `comfy/extra_samplers/uni_pc.py`.
CANNOT_CONTINUE = (
    *("uni_pc", "uni_pc_bh2", "dpm_fast", "dpm_adaptive", "ipndm", "ipndm_v", "deis"),
    *("unipc", "unipc_bh2", "dpm_fast_function", "dpm_adaptive_function"),  # names of functions
)
MAX_ROUNDS = 3  # one is enough in float32, for all latent formats that were tried
# As a part of the largest value: rounding on the way through a VAE's units, 2e-7 in float32 and 5e-4 in float16.
TOLERANCE = 1e-3

log = logging.getLogger("safelight.comfyui")


@dataclass(frozen=True, kw_only=True, eq=False)
class Begun:
    """A step from whose begin a sampler continues.

    Args:
        latents: of the step, from disk.
        sampler: facts about the sampler, as in `run.json`.
        shapes: shapes of the latents; several if they are packed into one tensor.
        schedule: position of its steps in the sampler's schedule; None if it must be searched for.
        sampling: `model_sampling` of the model that sampled.
        latent_format: latent format of that model.
    """

    latents: SavedLatents
    sampler: Mapping[str, Any]
    shapes: Sequence[Sequence[int]]
    schedule: SamplerSchedule | None
    sampling: Any
    latent_format: Any


@dataclass(frozen=True, kw_only=True, eq=False)
class Continuation:
    """What a sampler needs to continue from the beginning of a step.

    Args:
        noisy: LATENT that the step began with, as a KSampler (Advanced) that ends there would return it.
        denoised: LATENT with the model's estimate at the step.
        sigmas: remaining noise levels, from the step's own on.
        start_at_step: number of the first step for a KSampler (Advanced), from 0.
        steps: number of steps of the whole schedule.
        model: MODEL that begins with exactly the latents of the step, if the sampler receives `noisy` without noise.
    """

    noisy: Mapping[str, Any]
    denoised: Mapping[str, Any]
    sigmas: Tensor
    start_at_step: int
    steps: int
    model: Any


def continuation(begun: Begun, model: Any) -> Continuation:
    """Returns what a sampler needs to continue from the begin of a step.

    Args:
        begun: the step.
        model: ModelPatcher that continues.

    Raises:
        LatentsError: no sampler can continue from this sampler's latents, or there is no estimate.
    """
    saved, sigmas, first = begun.latents, begun.latents.sigmas, begun.latents.index - 1
    name = begun.sampler.get("name")
    follows = name not in CANNOT_CONTINUE and begun.sampler.get("sigmas") is not None
    if saved.noisy is None or sigmas is None or not follows or first >= len(sigmas) - 1:
        raise LatentsError(
            f"no sampler can continue from the sampler {name or 'of this run'}: it does not report the latents "
            "that each step of the schedule begins with. Sample with euler, heun, dpmpp_2m or another sampler that "
            "steps from sigma to sigma"
        )
    if saved.denoised is None:
        raise LatentsError(f"step {saved.index}: the sampler did not report the model's estimate")
    schedule = begun.schedule or SamplerSchedule.found(model, begun.sampler, sigmas)
    noisy = _begun_with(begun.sampling, saved.noisy, sigmas[first])
    samples = _process_out(model, begun.latent_format, noisy)
    expected = _process_in(model, begun.latent_format, samples)
    denoised = _process_out(model, begun.latent_format, saved.denoised.float())
    return Continuation(
        noisy={"samples": unpacked(samples, begun.shapes)},
        denoised={"samples": unpacked(denoised, begun.shapes)},
        sigmas=sigmas[first:].clone(),
        start_at_step=schedule.start + first,
        steps=schedule.steps,
        model=continuing_model(model, saved.noisy, float(sigmas[first]), expected),
    )


def continuing_model(model: Any, noisy: Tensor, sigma: float, expected: Tensor) -> Any:
    """Returns a clone of the ModelPatcher `model` that begins with exactly `noisy` if a sampler continues from it.

    Samplers receive latents in the VAE's units and scale them, `(1 - sigma) * (latents - shift) * scale` for a flow
    model with shifted latents. That rounds: for most of the 2^32 float32 values there is no input that is scaled to
    them. So the clone corrects the scaled latents with noise of a few units in the last place.

    Args:
        model: ModelPatcher that sampled.
        noisy: latents that a step began with, in model space.
        sigma: noise level of that step.
        expected: latents that the sampler will have, in model space, if it receives those that belong to `noisy`.
    """
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, WATCH_KEY)
    clone.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, WATCH_KEY)
    clone.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, CONTINUE_KEY)
    clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, CONTINUE_KEY, ContinueWrapper(noisy, sigma, expected))
    return clone


@final
class ContinueWrapper(Shared):
    """Wraps ComfyUI's `Sampler.sample`. It changes nothing unless the sampler continues from `noisy`.

    Args:
        noisy, sigma, expected: as for `continuing_model`.
    """

    def __init__(self, noisy: Tensor, sigma: float, expected: Tensor) -> None:
        self._noisy, self._sigma, self._expected = noisy, sigma, expected

    def __call__(
        self,
        executor: Any,
        guider: Any,
        sigmas: Tensor,
        extra_args: Any,
        callback: Any,
        noise: Tensor,
        latent_image: Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        try:
            if self._continues(sigmas, noise, latent_image):
                noise, latent_image = self._begin(executor.class_obj, guider, sigmas, noise)
        except Exception:
            log.exception("sampling continues from rounded latents")
        return executor(guider, sigmas, extra_args, callback, noise, latent_image, *args, **kwargs)

    def _continues(self, sigmas: Tensor, noise: Tensor, latent_image: Tensor) -> bool:
        if noise.shape != self._noisy.shape or float(sigmas[0]) != self._sigma or bool(noise.any()):
            return False
        expected = self._expected.to(latent_image)
        return torch.allclose(latent_image, expected, rtol=0.0, atol=TOLERANCE * float(expected.abs().max()))

    def _begin(self, sampler: Any, guider: Any, sigmas: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Noise and latents that ComfyUI's sampler scales to exactly `noisy`."""
        sampling = guider.inner_model.model_sampling
        max_denoise = sampler.max_denoise(guider, sigmas)
        goal = self._noisy.to(noise)
        latents = sampling.inverse_noise_scaling(sigmas[0], goal)
        if not bool(latents.isfinite().all()):  # the first step of a flow model is pure noise
            latents = torch.zeros_like(goal)

        def scaled(noise: Tensor, latents: Tensor) -> Tensor:
            return sampling.noise_scaling(sigmas[0], noise.clone(), latents, max_denoise)

        gain = scaled(torch.ones_like(noise), torch.zeros_like(latents))
        noise = torch.zeros_like(noise)
        for _ in range(MAX_ROUNDS):
            rest = goal - scaled(noise, latents)
            if not bool(rest.any()):
                return noise, latents
            noise = noise + rest / gain
        different = int((scaled(noise, latents) != goal).sum())
        if different:
            log.warning("resumed latents differ by rounding in %d of %d values", different, goal.numel())
        return noise, latents


def _begun_with(sampling: Any, noisy: Tensor, sigma: Tensor) -> Tensor:
    """The latents that a sampler returns if it ends at `sigma`; the noise itself at the first step of a flow model."""
    latents = sampling.inverse_noise_scaling(sigma, noisy.float())
    return latents if bool(latents.isfinite().all()) else noisy.float()


def _process_out(model: Any, latent_format: Any, latents: Tensor) -> Tensor:
    """Source: ComfyUI 0.33 `comfy/samplers.py`, `CFGGuider.inner_sample`; a patched format is not the model's own."""
    of_model = latent_format is model.model.latent_format
    return (model.model.process_latent_out if of_model else latent_format.process_out)(latents)


def _process_in(model: Any, latent_format: Any, latents: Tensor) -> Tensor:
    of_model = latent_format is model.model.latent_format
    return (model.model.process_latent_in if of_model else latent_format.process_in)(latents)
