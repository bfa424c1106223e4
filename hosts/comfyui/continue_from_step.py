"""Continues sampling from exactly the latents that a step of another run began with."""

import logging
from typing import Any, final

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .shared import Shared

CONTINUE_KEY = "safelight_resume"
WATCH_KEY = "safelight"
MAX_ROUNDS = 3  # one is enough in float32, for all latent formats that were tried
# As a part of the largest value: rounding on the way through a VAE's units, 2e-7 in float32 and 5e-4 in float16.
TOLERANCE = 1e-3

log = logging.getLogger("safelight.comfyui")


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
