"""The denoise nodes that InvokeAI may have."""

import importlib
import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

log = logging.getLogger("safelight.invokeai")


class DenoiseNode(NamedTuple):
    """A core denoise node: the module and the name of its class."""

    module: str
    name: str


# Base models whose nodes report x0 to their step callbacks. Other nodes report the noisy latents.
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
    DenoiseNode("ideogram4_denoise", "Ideogram4DenoiseInvocation"),
    # The same with an output for metadata.
    DenoiseNode("metadata_linked", "DenoiseLatentsMetaInvocation"),
    DenoiseNode("metadata_linked", "FluxDenoiseLatentsMetaInvocation"),
    DenoiseNode("metadata_linked", "ZImageDenoiseMetaInvocation"),
    DenoiseNode("metadata_linked", "AnimaDenoiseMetaInvocation"),
)


def installed_nodes() -> Iterator[tuple[DenoiseNode, Any]]:
    """The nodes that the installed InvokeAI has, each with its class. The log names the others in one line."""
    missing = []
    for node in DENOISE_NODES:
        try:
            module = importlib.import_module(f"invokeai.app.invocations.{node.module}")
            yield node, getattr(module, node.name)
        except (ImportError, AttributeError):
            missing.append(node.name)
    if missing:
        log.info("this InvokeAI has no %s, so Safelight adds no node for them", ", ".join(missing))
