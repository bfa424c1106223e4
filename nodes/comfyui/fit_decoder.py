"""The node that fits decoders to a VAE."""

from typing import Any

from comfy_api.latest import io, ui

from ...decoders.catalogue import AUTO
from ...fitting.presets import PRESETS
from ...hosts.comfyui.decoder_folders import catalogue
from ...hosts.comfyui.fitting import ComfyFitOptions, fit_decoder
from ...hosts.comfyui.latent_dict import FROM_MODEL
from .schema import schema


class SafelightFit(io.ComfyNode):
    """Makes a decoder for the previews of any model, from its VAE and some pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightFit",
            display_name="Fit Preview Decoder",
            category="Safelight",
            description=(
                "Makes a small decoder for previews from a VAE: it encodes pictures and learns the way back. What is "
                "saved in models/safelight is used by Preview Steps from the next run on if it shows more of the truth."
            ),
            search_aliases=["fit", "train decoder", "preview decoder", "latent2rgb", "taesd", "safelight"],
            is_output_node=True,
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE that the model's images are made with."),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip=(
                        "Pictures in colour to learn from, a few dozen photographs at best. At least three: some are "
                        "held back to judge by. Without any, pictures are drawn."
                    ),
                ),
                io.Model.Input(
                    "model", optional=True, tooltip="The model that the previews are for: it names the latent space."
                ),
                io.Combo.Input(
                    "space",
                    options=[FROM_MODEL, *(space.name for space in catalogue().spaces())],
                    default=FROM_MODEL,
                    tooltip="The latent space by name, where no model is connected.",
                ),
                io.Combo.Input(
                    "kind",
                    options=[AUTO, *PRESETS],
                    default=AUTO,
                    tooltip=(
                        "auto: the best closed form, a closed form in sub-pixels, and small convolutions, a file each. "
                        "Or one of them. Closed forms take seconds, conv about a minute, conv-full minutes."
                    ),
                ),
                io.String.Input(
                    "name",
                    default="",
                    tooltip=(
                        "For a latent space that Safelight has never seen: what to call it, in lower case letters, "
                        "digits and _. Empty: as the model's format is called."
                    ),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    control_after_generate=False,  # else frontends draw another after each run, and each run fits anew
                    tooltip="Of the crops, the drawn pictures and the training. Another one gives another decoder.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "report",
                    display_name="report",
                    tooltip="Truth, what was in use, and the new decoders; and a chart of them.",
                ),
                io.String.Output(
                    "summary",
                    display_name="summary",
                    tooltip="What each decoder scored, whether auto takes it, and its file.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, space: str) -> bool:
        """Takes any space: one that came with a file may have come, or gone, since the list was made."""
        return isinstance(space, str)

    @classmethod
    def execute(cls, vae: Any, images: Any = None, model: Any = None, **choices: Any) -> io.NodeOutput:
        report, summary = fit_decoder(vae, images, model, ComfyFitOptions(**choices))
        return io.NodeOutput(report, summary, ui=_shown(report))


def _shown(report: Any) -> ui.SavedImages | None:
    """The report as a picture on the node; a full disk costs the picture only."""
    try:
        return ui.SavedImages(ui.ImageSaveHelper.save_images(report, "safelight_fit", io.FolderType.temp, None))
    except OSError:
        return None
