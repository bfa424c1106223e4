"""The nodes of InvokeAI that decode latents, and which of them teach."""

import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple


class DecodeNode(NamedTuple):
    """A core node that decodes latents with their VAE.

    Args:
        module: module of its class.
        name: name of its class.
        base: base model of the latents, where neither the graph nor the VAE names one; None if the node has several.
        lacks_norm: whether its latents lack the batch norm of the VAE, as its denoise node removes that.
        frames: name of the function in its module that yields the frames of a video `[C, T, H, W]` in -1..1; None if
            the node saves an image.
    """

    module: str
    name: str
    base: str | None
    lacks_norm: bool = False
    frames: str | None = None


DECODE_NODES = (
    DecodeNode("latents_to_image", "LatentsToImageInvocation", None),
    DecodeNode("flux_vae_decode", "FluxVaeDecodeInvocation", "flux"),
    DecodeNode("flux2_vae_decode", "Flux2VaeDecodeInvocation", "flux2", lacks_norm=True),
    DecodeNode("sd3_latents_to_image", "SD3LatentsToImageInvocation", "sd-3"),
    DecodeNode("cogview4_latents_to_image", "CogView4LatentsToImageInvocation", "cogview4"),
    DecodeNode("z_image_latents_to_image", "ZImageLatentsToImageInvocation", "z-image"),
    DecodeNode("qwen_image_latents_to_image", "QwenImageLatentsToImageInvocation", "qwen-image"),
    DecodeNode("wan_latents_to_image", "WanLatentsToImageInvocation", "wan"),
    DecodeNode("wan_latents_to_video", "WanLatentsToVideoInvocation", "wan", frames="_iter_decoded_frames"),
    DecodeNode("anima_latents_to_image", "AnimaLatentsToImageInvocation", "anima"),
    DecodeNode("ernie_image_vae_decode", "ErnieImageVaeDecodeInvocation", "ernie-image"),
)

# Classes of decode nodes that teach nothing, with the reason.
SUPER_RESOLUTION = "it adds details that are not in the latents"
NODES_THAT_TEACH_NOTHING = {
    "FluxPiDDecodeInvocation": SUPER_RESOLUTION,
    "Flux2PiDDecodeInvocation": SUPER_RESOLUTION,
    "QwenImagePiDDecodeInvocation": SUPER_RESOLUTION,
    "SD3PiDDecodeInvocation": SUPER_RESOLUTION,
    "SDXLPiDDecodeInvocation": SUPER_RESOLUTION,
    "ZImagePiDDecodeInvocation": SUPER_RESOLUTION,
    "Ideogram4LatentsToImageInvocation": "its latents have an order of their own, which learning does not read",
}


def installed_decode_nodes() -> Iterator[tuple[DecodeNode, Any, type]]:
    """The nodes that the installed InvokeAI has, each with its module and its class."""
    for node in DECODE_NODES:
        try:
            module = importlib.import_module(f"invokeai.app.invocations.{node.module}")
            yield node, module, getattr(module, node.name)
        except (ImportError, AttributeError):  # of another version
            continue
