"""The node that fits decoders to a VAE."""

from typing import Any

from comfy_api.latest import io, ui

from ...decoders.catalogue import AUTO
from ...fitting.fit import CPU, TRAIN_ON, TRAIN_ON_HELP, FitOptions
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
        "Kind of decoder. auto fits the best closed form, a closed form in sub-pixels, and small convolutions, uses "
        "each as soon as it is fitted, and saves the best one. Closed forms take seconds to minutes, conv minutes, "
        "conv-full longer: the node shows the time left."
    ),
)
NAME = io.String.Input(
    "name",
    default="",
    tooltip=(
        "Name for a latent space that Safelight does not know, in lower case letters, digits and _; if empty, the name "
        "of the model's latent format is used. For a known space, name of the decoder."
    ),
)
FOLDER = io.String.Input(
    "folder",
    default="",
    tooltip="Folder of images to fit on, with its subfolders, besides or in place of the input images.",
    optional=True,
)
SEED = io.Int.Input(
    "seed",
    default=0,
    min=0,
    max=2**32 - 1,
    control_after_generate=False,  # otherwise frontends change it, and each run fits again
    tooltip="Random seed for crops, generated images and training.",
)

DEVICE = io.Combo.Input("train_on", options=list(TRAIN_ON), default=CPU, tooltip=TRAIN_ON_HELP, optional=True)


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
            search_aliases=["fit", "train decoder", "preview decoder", "latent2rgb", "taesd"],
            is_output_node=True,
            is_input_list=True,  # a list of images is one dataset, not one fit for each image
            inputs=[
                io.Vae.Input("vae", tooltip="VAE that decodes the model's images."),
                io.Image.Input(
                    "images",
                    optional=True,
                    tooltip=(
                        "Color images to fit on, best a few dozen photographs: a batch, or a list of any sizes. At "
                        "least three, because some are used only for validation and test. Without any, and without a "
                        "folder, images are generated."
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
                FOLDER,
                DEVICE,
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
    def validate_inputs(cls, space: Any = None) -> bool | str:
        """Accepts any space name: decoder files add and remove spaces after ComfyUI has read the list.

        Of a node whose inputs are lists, ComfyUI passes lists here too.
        """
        return is_name("space", space[0] if isinstance(space, list) and space else space)

    @classmethod
    def execute(cls, images: Any = (), **inputs: Any) -> io.NodeOutput:
        """Fits once, on all images of a list. Of the other inputs, which are lists as well, the first value counts."""
        first: dict[str, Any] = {name: values[0] if values else None for name, values in inputs.items()}
        vae, model, space = first["vae"], first.get("model"), first["space"]
        folder = checked_input(FOLDER, first.get("folder") or "")
        options = {field.id: checked_input(field, first[field.id]) for field in (KIND, NAME, SEED)}
        options[DEVICE.id] = checked_input(DEVICE, first.get(DEVICE.id) or CPU)
        batches = [batch for batch in images if batch is not None]
        report, summary = fit_decoder(vae, batches, folder, model, FitOptions(space=space, **options))
        return io.NodeOutput(report, summary, ui=_preview_report(report))


def _preview_report(report: Any) -> ui.SavedImages | None:
    """Shows the report on the node; with a full disk the node runs without it."""
    try:
        return ui.SavedImages(ui.ImageSaveHelper.save_images(report, "safelight_fit", io.FolderType.temp, None))
    except OSError:
        return None
