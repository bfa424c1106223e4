"""The denoise nodes that InvokeAI may have."""

import importlib
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

log = logging.getLogger("safelight.invokeai")


class Family(NamedTuple):
    """A core denoise node: where its class is."""

    module: str
    name: str


# Base models whose nodes report x0 to their step callbacks; of the others it is the noisy latents.
DENOISED = {"flux", "flux2", "anima", "ernie-image"}

FAMILIES = (
    Family("denoise_latents", "DenoiseLatentsInvocation"),
    Family("tiled_multi_diffusion_denoise_latents", "TiledMultiDiffusionDenoiseLatents"),
    Family("flux_denoise", "FluxDenoiseInvocation"),
    Family("flux2_denoise", "Flux2DenoiseInvocation"),
    Family("sd3_denoise", "SD3DenoiseInvocation"),
    Family("cogview4_denoise", "CogView4DenoiseInvocation"),
    Family("z_image_denoise", "ZImageDenoiseInvocation"),
    Family("qwen_image_denoise", "QwenImageDenoiseInvocation"),
    Family("krea2_denoise", "Krea2DenoiseInvocation"),
    Family("wan_denoise", "WanDenoiseInvocation"),
    Family("wan_video_denoise", "WanVideoDenoiseInvocation"),
    Family("anima_denoise", "AnimaDenoiseInvocation"),
    Family("ernie_image_denoise", "ErnieImageDenoiseInvocation"),
)


def present() -> Iterator[tuple[Family, Any]]:
    """The families that the installed InvokeAI has, each with its class; one line in the log for the others."""
    missing = []
    for family in FAMILIES:
        try:
            module = importlib.import_module(f"invokeai.app.invocations.{family.module}")
            yield family, getattr(module, family.name)
        except (ImportError, AttributeError):
            missing.append(family.name)
    if missing:
        log.info("this InvokeAI has no %s: no node of ours for them", ", ".join(missing))
