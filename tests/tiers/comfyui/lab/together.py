"""Nodes that run more than one sampler at a time."""

import contextvars
import threading

import comfy.patcher_extension

import nodes

SAMPLING = {
    "model": ("MODEL",),
    "positive": ("CONDITIONING",),
    "negative": ("CONDITIONING",),
    "latent_image": ("LATENT",),
    "seed": ("INT", {"default": 0, "max": 2**32}),
    "steps": ("INT", {"default": 4}),
}


class LabNested:
    """Samples, and inside step `at` samples with another model and seed, as a detailer in a callback does.

    Outputs both results. ComfyUI itself does not support this with the same model.
    """

    RETURN_TYPES = ("LATENT", "LATENT")
    FUNCTION, CATEGORY = "sample", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {"required": {**SAMPLING, "other": ("MODEL",), "at": ("INT", {"default": 2})}}

    def sample(self, model, positive, negative, latent_image, seed, steps, other, at):
        told, inner = (1.0, "euler", "normal", positive, negative, latent_image), []

        def wrapper(executor, noise, latent, sampler, sigmas, denoise_mask, callback, *args, **kwargs):
            def watched(step, x0, x, total):
                callback(step, x0, x, total)
                if step + 1 == at:
                    inner.extend(nodes.common_ksampler(other, seed + 1, steps, *told))

            return executor(noise, latent, sampler, sigmas, denoise_mask, watched, *args, **kwargs)

        outer = model.clone()
        outer.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "lab nested", wrapper)
        return (*nodes.common_ksampler(outer, seed, steps, *told), *inner)


class LabTogether:
    """Samples with two models at the same time, each on its own thread. Outputs both results.

    ComfyUI stores the prompt and the node of a thread in a context variable.
    """

    RETURN_TYPES = ("LATENT", "LATENT")
    FUNCTION, CATEGORY = "sample", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {**SAMPLING, "other": ("MODEL",)}}

    def sample(self, model, positive, negative, latent_image, seed, steps, other):
        made: dict[int, object] = {}

        def one(index, sampled):
            told = (1.0, "euler", "normal", positive, negative, latent_image)
            [made[index]] = nodes.common_ksampler(sampled, seed + index, steps, *told)

        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(one, index, sampled))
            for index, sampled in enumerate((model, other))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return made[0], made[1]
