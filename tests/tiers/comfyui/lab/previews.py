"""Nodes that inspect ComfyUI's previews."""

import threading
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import SimpleNamespace

import comfy.latent_formats
import folder_paths
import latent_preview
import torch
from comfy.cli_args import LatentPreviewMethod, args
from safetensors.torch import load_file

METHODS = [method.value for method in LatentPreviewMethod]


@contextmanager
def method_of(name):
    before, args.preview_method = args.preview_method, LatentPreviewMethod(name)
    try:
        yield
    finally:
        args.preview_method = before


def layers():
    """The files of the functions that create previewers, from the outside in."""
    function = latent_preview.get_previewer
    while function is not None:
        yield Path(function.__code__.co_filename).name
        function = getattr(function, "__wrapped__", None)


class LabPreviewers:
    """Outputs the functions that create previewers, the previewer's class for a model, and our threads."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION, CATEGORY = "tell", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {
            "required": {
                "model": ("MODEL",),
                "method": (METHODS,),
                "again": ("INT", {"default": 0}),
            }
        }

    def tell(self, model, method, again):
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("safelight-")]
        with method_of(method):
            previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        return {"ui": {"layers": list(layers()), "previewer": [type(previewer).__name__], "threads": threads}}


class LabWrapPreviewers:
    """Replaces the function that creates previewers, as other packs do."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION, CATEGORY = "wrap", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"again": ("INT", {"default": 0})}}

    def wrap(self, again):
        before = latent_preview.get_previewer

        @wraps(before)
        def wrapped(device, latent_format):
            return before(device, latent_format)

        latent_preview.get_previewer = wrapped
        return {"ui": {"layers": list(layers())}}


class LabOwnLoop:
    """A sampler with its own loop: passes latents of a file to ComfyUI's callback as `x0`, without `x`.

    `latents` of the file is `[steps, ...]`. WanVideoWrapper does so, with a video's frames as `[T, C, H, W]`, its own
    model class, and the class of its latent format.
    """

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION, CATEGORY = "loop", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"latent_format": ("STRING", {}), "file": ("STRING", {})}}

    def loop(self, latent_format, file):
        steps = load_file(Path(folder_paths.get_output_directory(), file))["latents"]
        model = SimpleNamespace(latent_format=getattr(comfy.latent_formats, latent_format))
        patcher = SimpleNamespace(model=model, load_device=torch.device("cpu"))
        callback = latent_preview.prepare_callback(patcher, len(steps))
        with torch.inference_mode():
            for index, x0 in enumerate(steps):
                handed = x0.clone()
                callback(index, handed, None, len(steps))
                handed.fill_(1e4)  # a sampler reuses its memory
        return {}
