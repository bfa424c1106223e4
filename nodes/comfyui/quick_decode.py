"""The node Quick Decode: it decodes latents without a VAE."""

from collections.abc import Mapping
from typing import Any, get_args

from comfy_api.latest import io

from ...decoders.catalogue import AUTO
from ...hosts.comfyui.decoder_folders import catalogue
from ...hosts.comfyui.latent_dict import FROM_MODEL
from ...hosts.comfyui.quick_decode import QuickDecodeOptions, quick_decode, space_names
from ...preview.images.encode import Enlarge
from .schema import checked_input, is_name, schema

ENLARGE = io.Combo.Input(
    "enlarge",
    options=list(get_args(Enlarge)),
    default="off",
    tooltip=("Size of the images. off: as decoded. Otherwise the filter that enlarges them to the final image's size."),
)


class SafelightDecode(io.ComfyNode):
    """Decodes latents to images with any available decoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightDecode",
            display_name="Quick Decode",
            category="Safelight",
            description=(
                "Decodes latents to images with a preview decoder, in milliseconds and without a VAE. For drafts: a "
                "VAE's images have more detail."
            ),
            search_aliases=["decode", "quick decode", "draft", "latent to image", "preview of latents"],
            inputs=[
                io.Latent.Input("samples", tooltip="Finished latents of images or a video, as for VAE Decode."),
                io.Combo.Input(
                    "decoder",
                    options=catalogue().names(),
                    default=AUTO,
                    tooltip=(
                        "Decoder that turns latents into images. auto: the best one for the latent space and the "
                        "device. fast: the best one that a CPU decodes quickly. fine: the most truthful one. A kind, "
                        "such as tiny: the best of this kind. Decoder files in models/vae_approx and models/safelight "
                        "are recognized by their content."
                    ),
                ),
                io.Combo.Input(
                    "space",
                    options=space_names(),
                    default=FROM_MODEL,
                    tooltip=(
                        "Latent space of the samples. from model: the space of the connected model. It cannot be read "
                        "from the shape: a dozen spaces have 16 channels."
                    ),
                ),
                ENLARGE,
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Model that sampled the latents. It gives their space and the device to decode on.",
                ),
            ],
            outputs=[
                io.Image.Output(tooltip="One image for each batch item, and for each frame of a video's latents.")
            ],
        )

    @classmethod
    def validate_inputs(cls, decoder: str | None = None, space: str | None = None) -> bool | str:
        """Accepts any names: if one is gone, the error when the node runs names it and lists the others."""
        valid = is_name("decoder", decoder)
        return is_name("space", space) if valid is True else valid

    @classmethod
    def fingerprint_inputs(cls, decoder: str | None = None, **_: Any) -> str:
        """Changes when the user's decoder files change: the images may differ."""
        return catalogue().fingerprint(decoder or AUTO)

    @classmethod
    def execute(cls, samples: Mapping[str, Any], model: Any | None = None, **options: Any) -> io.NodeOutput:
        options["enlarge"] = checked_input(ENLARGE, options["enlarge"])
        return io.NodeOutput(quick_decode(samples, model, QuickDecodeOptions(**options)))
