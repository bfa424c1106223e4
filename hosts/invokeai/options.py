"""The options of a run in InvokeAI: those of every host, with InvokeAI's defaults, and those that only it has."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ...preview.options import RunOptions
from ...preview.sinks.step_files import Batch

# Names of inputs that differ from the option's: InvokeAI's nodes may have an input `decoder` of their own.
INPUT_NAMES: Mapping[str, str] = {"decoder": "preview_decoder"}
# One more sentence of help, about InvokeAI.
MORE_HELP: Mapping[str, str] = {
    "decoder": "full needs preview_vae. A decoder file in InvokeAI's folder safelight is listed after a restart.",
    "every_n_steps": "This is for files and the gallery; the progress picture shows all steps.",
    "filename_prefix": (
        "The output folder is InvokeAI's outputs folder; with user accounts, one in it for each. %date:yyyy-MM-dd%, "
        "%seed%, %width%, %height% and %Node.input% are replaced; Node is the id, label, type or title of a node."
    ),
    "file_format": "InvokeAI's own workflow is stored in png only.",
    "frames": "InvokeAI reports only the middle frame of a Wan video, so there all choices show this frame.",
    "full_every_n_steps": "Before the last step, it decodes only if InvokeAI has it on the model's device.",
    "stop_below_percent": (
        "No effect, with a note: FLUX.2, ERNIE-Image, Ideogram 4, videos, nodes with metadata, denoise masks, "
        "denoising_end below 1."
    ),
    "write_csv": "Needs write_intermediates or keep_latents.",
}
TO_GALLERY_HELP = (
    "Saves every step as an image of InvokeAI too, in the category Other and in full size, with its run, step and "
    "sigma as metadata."
)
RUN_FOLDER_HELP = (
    "Folder of the run in the outputs folder, for Steps Sheet, Load Run and Continue from Step; empty if no files were "
    "written."
)
VAE_HELP = "VAE for preview_decoder full. It decodes the last step after the core node has finished."


@dataclass(frozen=True, kw_only=True)
class InvokeOptions(RunOptions):
    """What a user can choose on a Denoise (Safelight) node; see the inputs' descriptions.

    Args:
        batch, max_side_px: as in `RunOptions`, with InvokeAI's defaults.
        to_gallery: whether each step is saved as an image of InvokeAI.
        vae: the model that InvokeAI's VAE loader selects, a `ModelIdentifierField`; None if none is connected.

    Raises:
        SafelightError: as `RunOptions` does.
    """

    batch: Batch = "all files"
    max_side_px: int = 0
    to_gallery: bool = False
    vae: Any = None

    @property
    def writes_folder(self) -> bool:
        """Whether the run gets a folder for files."""
        return self.write_intermediates or self.sheet or self.animates or self.keep_latents

    @property
    def max_items(self) -> int | None:
        """The largest number of batch items that are decoded; None for all. The progress picture shows only one."""
        return None if self.write_intermediates or self.to_gallery else 1


DEFAULTS: Mapping[str, Any] = {each.name: each.default for each in fields(InvokeOptions)}
