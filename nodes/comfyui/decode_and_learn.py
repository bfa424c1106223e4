"""The node that decodes with a VAE, and lets the previews learn from it."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io
from server import PromptServer

from nodes import VAEDecode

from ...decoders.latents.space import AUDIO
from ...hosts.comfyui.decoder_folders import catalogue
from ...hosts.comfyui.latent_dict import FROM_MODEL
from ...hosts.comfyui.online_learning import OnlineLearner, teach
from .schema import schema

# On the server and not in this module: two copies of this pack learn on one thread.
LEARNER: OnlineLearner = vars(PromptServer.instance).setdefault("safelight_learner", OnlineLearner())


class SafelightLearn(io.ComfyNode):
    """The host's own decode; the pair of latents and picture is learned from afterwards."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightLearn",
            display_name="VAE Decode and Learn",
            category="Safelight",
            description=(
                "Decodes as VAE Decode does, bit for bit, and lets the previews learn from it: after some pictures "
                "there is a preview decoder for this VAE, used where it is better than what is at hand."
            ),
            search_aliases=["decode", "vae decode", "learn", "fit", "preview decoder", "latent to image", "safelight"],
            inputs=[
                io.Latent.Input("samples", tooltip="Finished latents, as VAE Decode takes them."),
                io.Vae.Input("vae", tooltip="The VAE that decodes them."),
                io.Combo.Input(
                    "space",
                    options=[FROM_MODEL, *(space.name for space in catalogue().spaces() if space.dims != AUDIO)],
                    default=FROM_MODEL,
                    tooltip=(
                        "What the latents mean. from model: what the connected model samples in. Else by name. "
                        "If nobody says, the latents are decoded all the same, and nothing is learned."
                    ),
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that made the latents: tells their space. It is not run.",
                ),
            ],
            outputs=[io.Image.Output(tooltip="What VAE Decode gives.")],
        )

    @classmethod
    def validate_inputs(cls, space: str) -> bool:
        """Takes any: a space that is gone costs a line in the log, never the decode."""
        return isinstance(space, str)

    @classmethod
    def execute(cls, samples: Mapping[str, Any], vae: Any, space: str, model: Any | None = None) -> io.NodeOutput:
        (images,) = VAEDecode().decode(vae, samples)
        teach(LEARNER, samples, images, model, space)
        return io.NodeOutput(images)
