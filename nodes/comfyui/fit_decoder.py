"""The node that fits decoders to a VAE."""

from typing import Any

from comfy_api.latest import io, ui

from ...decoders.catalogue import AUTO
from ...fitting.fit import FitOptions
from ...fitting.presets import PRESETS
from ...hosts.comfyui.decoder_folders import catalogue
from ...hosts.comfyui.fitting import fit_decoder
from ...hosts.comfyui.latent_dict import FROM_MODEL
from .schema import checked_input, is_name, schema

KIND = io.Combo.Input(
    "kind",
    options=[AUTO, *PRESETS],
    default=AUTO,
    tooltip=(
        "Kind of decoder. auto saves three files: the best closed form, a closed form in sub-pixels, and small "
        "convolutions. Closed forms take seconds, conv about a minute, conv-full minutes."
    ),
)
NAME = io.String.Input(
    "name",
    default="",
    tooltip=(
        "Name for a latent space that Safelight does not know, in lower case letters, digits and _. If empty, the name "
        "of the model's latent format is used."
    ),
)
SEED = io.Int.Input(
    "seed",
    default=0,
    min=0,
    max=2**32 - 1,
    control_after_generate=False,  # otherwise frontends change it, and each run fits again
    tooltip="Random seed for crops, generated images and training.",
)


class SafelightFit(io.ComfyNode):
    """Fits a preview decoder for any model, from its VAE and some images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightFit",
            display_name="Fit Preview Decoder",
            category="Safelight",
            description=(
                "Fits a small preview decoder to a VAE: it encodes images with the VAE and fits a decoder on the "
                "results. The decoder is saved in models/safelight. If it is better than the decoder in use, Preview "
                "Steps uses it from the next run on."
            ),
            search_aliases=["fit", "train decoder", "preview decoder", "latent2rgb", "taesd", "safelight"],
            is_output_node=True,
            inputs=[
                io.Vae.Input("vae", tooltip="VAE that decodes the model's images."),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip=(
                        "Color images to fit on, best a few dozen photographs. At least three, because some are used "
                        "only for validation and test. Without any, images are generated."
                    ),
                ),
                io.Model.Input(
                    "model", optional=True, tooltip="Model to preview; it determines the latent space. It is not run."
                ),
                io.Combo.Input(
                    "space",
                    options=[FROM_MODEL, *(space.name for space in catalogue().spaces())],
                    default=FROM_MODEL,
                    tooltip="Latent space of the VAE. Choose it by name if no model is connected.",
                ),
                KIND,
                NAME,
                SEED,
            ],
            outputs=[
                io.Image.Output(
                    "report",
                    display_name="report",
                    tooltip="Test images: the originals, the decoder in use and the new decoders; below, a chart.",
                ),
                io.String.Output(
                    "summary",
                    display_name="summary",
                    tooltip="Scores of each decoder, whether auto uses it, and its file.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, space: str | None = None) -> bool | str:
        """Accepts any space name: decoder files add and remove spaces after ComfyUI has read the list."""
        return is_name("space", space)

    @classmethod
    def execute(cls, vae: Any, images: Any = None, model: Any = None, **options: Any) -> io.NodeOutput:
        options |= {field.id: checked_input(field, options[field.id]) for field in (KIND, NAME, SEED)}
        report, summary = fit_decoder(vae, images, model, FitOptions(**options))
        return io.NodeOutput(report, summary, ui=_preview_report(report))


def _preview_report(report: Any) -> ui.SavedImages | None:
    """Shows the report on the node; with a full disk the node runs without it."""
    try:
        return ui.SavedImages(ui.ImageSaveHelper.save_images(report, "safelight_fit", io.FolderType.temp, None))
    except OSError:
        return None
