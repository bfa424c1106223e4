"""Sampling that goes on from the very bits another run was at."""

import logging
from typing import Any, final

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

KEY = "safelight_resume"
WATCHED = "safelight"  # the key of `watch.py`
ROUNDS = 3
SAME = 1e-3  # of the largest value: what rounding on the way through a VAE's units may do

log = logging.getLogger("safelight.comfyui")


def continuing_model(model: Any, noisy: Tensor, sigma: float, expected: Tensor) -> Any:
    """A clone of the ModelPatcher `model` that begins with `noisy`, to the last bit, where it is asked to go on there.

    Samplers are given latents in the VAE's units and scale them, `(1 - sigma) * (latents - shift) * scale` for a flow
    model of shifted latents. What is rounded there is lost: most of the 2^32 floats that a run can be at are the image
    of none. So what is scaled is corrected by a noise of a few units in the last place.

    Args:
        model: that sampled.
        noisy: what a step began with, in model space.
        sigma: of that step.
        expected: what will be in the sampler's hands, in model space, if it is given what belongs to `noisy`.
    """
    clone = model.clone()
    clone.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, WATCHED)
    clone.remove_wrappers_with_key(WrappersMP.SAMPLER_SAMPLE, KEY)
    clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, KEY, Continuing(noisy, sigma, expected))
    return clone


@final
class Continuing:
    """Wraps `Sampler.sample` of the host: steps aside wherever anything else than going on is asked for.

    Args:
        noisy, sigma, expected: see `resuming`.
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
            if self._is_meant(sigmas, noise, latent_image):
                noise, latent_image = self._begin(executor.class_obj, guider, sigmas, noise)
        except Exception:
            log.exception("sampling goes on from the latents it was given, rounded as usual")
        return executor(guider, sigmas, extra_args, callback, noise, latent_image, *args, **kwargs)

    def _is_meant(self, sigmas: Tensor, noise: Tensor, latent_image: Tensor) -> bool:
        if noise.shape != self._noisy.shape or float(sigmas[0]) != self._sigma or bool(noise.any()):
            return False
        expected = self._expected.to(latent_image)
        return torch.allclose(latent_image, expected, rtol=0.0, atol=SAME * float(expected.abs().max()))

    def _begin(self, sampler: Any, guider: Any, sigmas: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Noise and latents that the host's sampler makes `noisy` of, to the last bit."""
        sampling = guider.inner_model.model_sampling
        most = sampler.max_denoise(guider, sigmas)
        wanted = self._noisy.to(noise)
        latents = sampling.inverse_noise_scaling(sigmas[0], wanted)
        if not bool(latents.isfinite().all()):  # a flow model at its first step: all is noise
            latents = torch.zeros_like(wanted)

        def scaled(noise: Tensor, latents: Tensor) -> Tensor:
            return sampling.noise_scaling(sigmas[0], noise.clone(), latents, most)

        gain = scaled(torch.ones_like(noise), torch.zeros_like(latents))
        noise = torch.zeros_like(noise)
        for _ in range(ROUNDS):
            rest = wanted - scaled(noise, latents)
            if not bool(rest.any()):
                return noise, latents
            noise = noise + rest / gain
        unlike = int((scaled(noise, latents) != wanted).sum())
        if unlike:
            log.warning("%d of %d values begin a rounding away from where the other run was", unlike, wanted.numel())
        return noise, latents
