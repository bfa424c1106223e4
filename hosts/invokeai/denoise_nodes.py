"""The denoise nodes that InvokeAI may have."""

import importlib
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

log = logging.getLogger("safelight.invokeai")


class DenoiseNode(NamedTuple):
    """A core denoise node: where its class is."""

    module: str
    name: str


# Base models whose nodes report x0 to their step callbacks; of the others it is the noisy latents.
DENOISED = {"flux", "flux2", "anima", "ernie-image"}

DENOISE_NODES = (
    DenoiseNode("denoise_latents", "DenoiseLatentsInvocation"),
    DenoiseNode("tiled_multi_diffusion_denoise_latents", "TiledMultiDiffusionDenoiseLatents"),
    DenoiseNode("flux_denoise", "FluxDenoiseInvocation"),
    DenoiseNode("flux2_denoise", "Flux2DenoiseInvocation"),
    DenoiseNode("sd3_denoise", "SD3DenoiseInvocation"),
    DenoiseNode("cogview4_denoise", "CogView4DenoiseInvocation"),
    DenoiseNode("z_image_denoise", "ZImageDenoiseInvocation"),
    DenoiseNode("qwen_image_denoise", "QwenImageDenoiseInvocation"),
    DenoiseNode("krea2_denoise", "Krea2DenoiseInvocation"),
    DenoiseNode("wan_denoise", "WanDenoiseInvocation"),
    DenoiseNode("wan_video_denoise", "WanVideoDenoiseInvocation"),
    DenoiseNode("anima_denoise", "AnimaDenoiseInvocation"),
    DenoiseNode("ernie_image_denoise", "ErnieImageDenoiseInvocation"),
)


def installed_nodes() -> Iterator[tuple[DenoiseNode, Any]]:
    """The families that the installed InvokeAI has, each with its class; one line in the log for the others."""
    missing = []
    for family in DENOISE_NODES:
        try:
            module = importlib.import_module(f"invokeai.app.invocations.{family.module}")
            yield family, getattr(module, family.name)
        except (ImportError, AttributeError):
            missing.append(family.name)
    if missing:
        log.info("this InvokeAI has no %s: no node of ours for them", ", ".join(missing))
