"""Measures the process of a server, and the global state that a sampler can observe."""

import collections
import gc
import hashlib
import locale
import logging
import os
import pickle
import random
import signal
import sys
import threading
import warnings
from pathlib import Path

import comfy.patcher_extension
import numpy as np
import torch
from aiohttp import web
from PIL import Image, ImageFile
from server import PromptServer

from .faults import ours

LASTING = (
    "RunFolder",
    "LiveRuns",
    "Run",
    "RunHandle",
    "RecordedRun",
    "SamplerWrapper",
    "RunOptions",
)  # they live as long as a run can be requested
CHANGES: list[str] = []  # differences since the last request
RANDOM: dict[str, str] = {}  # the state of each generator after the latest sampler


@PromptServer.instance.routes.get("/lab/process")
async def process(_: web.Request) -> web.Response:
    """Returns threads, resident bytes, open files, and counts of our objects that should not outlive a run."""
    gc.collect()
    pack = ours("preview.pipeline").__name__.removesuffix("preview.pipeline")
    # `type`, because `__class__` of some objects is wrong or raises.
    classes = (type(thing) for thing in gc.get_objects())
    kinds = collections.Counter(kind.__name__ for kind in classes if str(kind.__module__).startswith(pack))
    status = Path("/proc/self/status").read_text().splitlines()
    [rss_kb] = [int(line.split()[1]) for line in status if line.startswith("VmRSS")]
    files = []
    for number in Path("/proc/self/fd").iterdir():
        try:
            files.append(str(number.readlink()))
        except OSError:  # the descriptor of this listing
            continue
    return web.json_response(
        {
            "threads": [thread.name for thread in threading.enumerate()],
            "rss": rss_kb * 1024,
            "files": files,
            "ours": {name: count for name, count in kinds.items() if name not in LASTING},
        }
    )


@PromptServer.instance.routes.get("/lab/state")
async def state(_: web.Request) -> web.Response:
    """Returns the differences since the last request, and the generators after the latest sampler."""
    told = {"changes": list(CHANGES), "random": dict(RANDOM)}
    CHANGES.clear()
    RANDOM.clear()
    return web.json_response(told)


def found() -> dict[str, object]:
    """State of the process and of the calling thread that a called function could change."""
    return {
        "autocast": [torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")],
        "autocast cache": torch.is_autocast_cache_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "grad": torch.is_grad_enabled(),
        "anomaly detection": torch.is_anomaly_enabled(),
        "default dtype": str(torch.get_default_dtype()),
        "default device": str(torch.get_default_device()),
        "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "matmul precision": torch.get_float32_matmul_precision(),
        "deterministic": [torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic],
        "cudnn": [torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32],
        "streams": str(torch.cuda.current_stream()) if torch.cuda.is_initialized() else None,
        "cuda is up": torch.cuda.is_initialized(),
        "print options": repr(torch._tensor_str.PRINT_OPTS),
        "numpy errors": np.geterr(),
        "largest picture": [Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK],
        "garbage collector": [gc.isenabled(), gc.get_threshold()],
        "switch interval": sys.getswitchinterval(),
        "recursion": sys.getrecursionlimit(),
        "digits": sys.get_int_max_str_digits(),
        "trace": [str(sys.gettrace()), str(sys.getprofile()), str(sys.excepthook), str(threading.excepthook)],
        "path": list(sys.path),
        "folder": str(Path.cwd()),
        "environment": dict(os.environ),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "locale": locale.setlocale(locale.LC_ALL),
        "warnings": repr(warnings.filters),
        "logging": [logging.root.level, logging.root.disabled, len(logging.root.handlers)],
    }


def generators() -> dict[str, str]:
    """A short digest of each global generator's state."""
    states = {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": pickle.dumps(np.random.get_state()),
        "random": pickle.dumps(random.getstate()),
    }
    if torch.cuda.is_initialized():
        states["cuda"] = b"".join(one.numpy().tobytes() for one in torch.cuda.get_rng_state_all())
    return {name: hashlib.sha256(value).hexdigest()[:16] for name, value in states.items()}


def differences(before: dict, after: dict, where: str) -> list[str]:
    return [f"{where}: {key} was {before[key]}, is {after[key]}" for key in before if before[key] != after[key]]


class LabState:
    """Compares global state before and after a sampler call, and before and after each call of its callback.

    First on the model line it observes everything after it; last, it observes the callback. First, it also seeds the
    generators that a sampler does not seed.
    """

    RETURN_TYPES = ("MODEL",)
    FUNCTION, CATEGORY = "watch", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {"required": {"model": ("MODEL",), "first": ("BOOLEAN", {"default": True})}}

    def watch(self, model, first):
        def wrapper(executor, noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs):
            def looked(step, x0, x, total):
                before = found() | generators()
                sums = [value.double().sum().item() for value in (x0, x)]
                callback(step, x0, x, total)
                CHANGES.extend(differences(before, found() | generators(), f"callback of step {step + 1}"))
                if sums != [value.double().sum().item() for value in (x0, x)] and not any(s != s for s in sums):
                    CHANGES.append(f"callback of step {step + 1}: other latents")

            if first:
                random.seed(7)
                np.random.seed(7)
            before = found()
            try:
                given = looked if not first and callback is not None else callback
                return executor(noise, latent_image, sampler, sigmas, denoise_mask, given, *args, **kwargs)
            finally:
                CHANGES.extend(differences(before, found(), "the whole run" if first else "the sampling"))
                if first:
                    RANDOM.update(generators())

        watched = model.clone()
        key = f"lab state {first}"
        watched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, key, wrapper)
        return (watched,)
