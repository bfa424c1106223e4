"""The node that decodes latents without a VAE."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ...decoders.catalogue import AUTO
from ...hosts.comfyui.decoder_folders import catalogue
from ...hosts.comfyui.latent_dict import FROM_MODEL
from ...hosts.comfyui.quick_decode import QuickDecodeOptions, quick_decode, space_names
from .schema import schema


class SafelightDecode(io.ComfyNode):
    """Latents to images with any decoder at hand."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightDecode",
            display_name="Quick Decode",
            category="Safelight",
            description=(
                "Turns latents into images with a preview decoder: in milliseconds, without a VAE. For drafts; "
                "a VAE's images are finer."
            ),
            search_aliases=["decode", "quick decode", "draft", "latent to image", "latent preview", "safelight"],
            inputs=[
                io.Latent.Input("samples", tooltip="Finished latents, as VAE Decode takes them; also of a video."),
                io.Combo.Input(
                    "decoder",
                    options=catalogue().names(),
                    default=AUTO,
                    tooltip=(
                        "What turns latents into pictures. auto takes the best at hand for the latent space; a kind, "
                        "such as tiny, the best of its kind. Decoder files in models/vae_approx and models/safelight "
                        "are found by their content."
                    ),
                ),
                io.Combo.Input(
                    "space",
                    options=space_names(),
                    default=FROM_MODEL,
                    tooltip=(
                        "What the latents mean. from model: what the connected model samples in. Else by name; "
                        "shapes do not tell, 16 channels are a dozen different spaces."
                    ),
                ),
                io.Combo.Input(
                    "enlarge",
                    options=["off", "nearest", "bicubic", "lanczos"],
                    default="off",
                    tooltip="off: images are as large as the decoder makes them. Else: as large as the final image.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that made the latents: tells their space, and on which device to decode.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="An image for each item of the batch, and each frame of a video latent.")],
        )

    @classmethod
    def validate_inputs(cls, decoder: str, space: str) -> bool:
        """Takes any: what is gone since the workflow was saved is told by name, with what there is."""
        return isinstance(decoder, str) and isinstance(space, str)

    @classmethod
    def fingerprint_inputs(cls, decoder: str, **_: Any) -> str:
        """A decoder file that came or changed since may give other images."""
        return catalogue().fingerprint(decoder)

    @classmethod
    def execute(cls, samples: Mapping[str, Any], model: Any | None = None, **settings: Any) -> io.NodeOutput:
        return io.NodeOutput(quick_decode(samples, model, QuickDecodeOptions(**settings)))
