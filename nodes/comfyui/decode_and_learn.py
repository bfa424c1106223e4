"""The node that decodes with a VAE and improves a preview decoder with the result."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

import nodes

from ...decoders.latents.space import AUDIO
from ...hosts.comfyui.decoder_folders import catalogue
from ...hosts.comfyui.latent_dict import FROM_MODEL
from ...hosts.comfyui.learning import offer_decode
from .schema import is_name, schema


class SafelightLearn(io.ComfyNode):
    """Runs ComfyUI's own decode, then learns from the latents and the picture."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightLearn",
            display_name="VAE Decode and Learn",
            category="Safelight",
            description=(
                "Decodes as VAE Decode does, bit for bit, and uses the result to fit a preview decoder for this VAE. "
                "After some images the previews use this decoder, if it is better than the installed ones."
            ),
            search_aliases=["decode", "vae decode", "learn", "fit", "preview decoder", "latent to image"],
            inputs=[
                io.Latent.Input("samples", tooltip="Finished latents to decode."),
                io.Vae.Input("vae", tooltip="VAE that decodes the latents."),
                io.Combo.Input(
                    "space",
                    options=[FROM_MODEL, *(space.name for space in catalogue().spaces() if space.dims != AUDIO)],
                    default=FROM_MODEL,
                    tooltip=(
                        "Latent space of the latents. from model: the space of the connected model. Without a model "
                        "or a name, the latents are decoded, but nothing is learned."
                    ),
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Model that sampled the latents; it determines their latent space. It is not run.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="The same images as VAE Decode.")],
        )

    @classmethod
    def validate_inputs(cls, space: str | None = None) -> bool | str:
        """Accepts any space name: a missing space causes a log line, but the decode still runs."""
        return is_name("space", space)

    @classmethod
    def execute(cls, samples: Mapping[str, Any], vae: Any, space: str, model: Any | None = None) -> io.NodeOutput:
        (images,) = nodes.VAEDecode().decode(vae, samples)
        offer_decode(samples, images, vae, model, space)
        return io.NodeOutput(images)
