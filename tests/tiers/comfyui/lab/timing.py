"""Nodes on the model line that measure where a sampler's time goes."""

import json
import time

import comfy.patcher_extension
import torch

MILLISECONDS_OF_ONE: list[float] = []  # duration of one multiplication on this machine, once measured
TIMES: dict[str, object] = {}  # of the current sampler call


class LabWork:
    """A model that uses the CPU for about `work_ms` more at each evaluation."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION, CATEGORY = "make", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"model": ("MODEL",), "work_ms": ("FLOAT", {"default": 0.0, "max": 10000.0})}}

    def make(self, model, work_ms):
        a = torch.randn(512, 512)
        repeat = max(1, round(work_ms / _one_ms(a)))

        def work(apply, given):
            for _ in range(repeat):
                torch.mm(a, a)
            return apply(given["input"], given["timestep"], **given["c"])

        busy = model.clone()
        busy.set_model_unet_function_wrapper(work)
        return (busy,)


def _one_ms(a: torch.Tensor) -> float:
    def some() -> float:
        began = time.perf_counter()
        for _ in range(10):
            torch.mm(a, a)
        return (time.perf_counter() - began) * 100

    if not MILLISECONDS_OF_ONE:
        MILLISECONDS_OF_ONE.append(min(some() for _ in range(10)))
    return MILLISECONDS_OF_ONE[0]


class LabOutside:
    """First on the model line, it measures a whole sampler call."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION, CATEGORY = "watch", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"model": ("MODEL",)}}

    def watch(self, model):
        def wrapper(executor, *args, **kwargs):
            TIMES.clear()
            TIMES["entered"] = time.perf_counter()
            try:
                return executor(*args, **kwargs)
            finally:
                TIMES["left"] = time.perf_counter()

        return _wrapped(model, "lab outside", wrapper)


class LabInside:
    """Last on the model line, it measures the sampling alone, and its callback."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION, CATEGORY = "watch", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"model": ("MODEL",)}}

    def watch(self, model):
        def wrapper(executor, noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs):
            seconds: list[float] = []

            def timed(step, x0, x, total):
                began = time.perf_counter()
                callback(step, x0, x, total)
                seconds.append(time.perf_counter() - began)

            TIMES.update(began=time.perf_counter(), callback=seconds)
            try:
                return executor(noise, latent_image, sampler, sigmas, denoise_mask, timed, *args, **kwargs)
            finally:
                TIMES["ended"] = time.perf_counter()

        return _wrapped(model, "lab inside", wrapper)


def _wrapped(model, key, wrapper):
    watched = model.clone()
    watched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, key, wrapper)
    return (watched,)


class LabTimes:
    """Puts the measurements of LabOutside and LabInside into the history."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION, CATEGORY = "tell", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"samples": ("LATENT",)}}

    def tell(self, samples):
        return {"ui": {"times": [json.dumps(TIMES)]}}
