"""The options of a run as inputs of Preview Steps."""

from collections.abc import Mapping
from typing import Any

from ...preview.options import OptionRow, RunOptions

# Sentences that only ComfyUI's tooltips need.
COMFYUI_HELP = {
    "decoder": (
        "full needs the VAE connected to vae. Decoder files in models/vae_approx and models/safelight are recognized "
        "by their content."
    ),
    "filename_prefix": "Tokens work as in Save Image: %date:yyyy-MM-dd%, %KSampler.seed%, %width%.",
    "file_format": "A png or webp dropped on the canvas opens its workflow.",
    "keep_latents": "Continue from Step and Load Run use these files.",
    "full_every_n_steps": (
        "The VAE must already be on its device next to the model. On a GPU it is there after something was decoded "
        "with it, if both fit."
    ),
}
VAE_HELP = (
    "The model's own VAE, for decoder full. It decodes the last step after sampling, if it fits into memory next to "
    "the model. auto decodes the other steps."
)


def tooltip(row: OptionRow) -> str:
    """The help of an option for its input on the node."""
    needs = f"Only with {' or '.join(row.needs)}." if row.needs else ""
    return " ".join(filter(None, (row.help, COMFYUI_HELP.get(row.name), needs)))


def run_options(inputs: Mapping[str, Any]) -> RunOptions:
    """Options from the node's inputs. Without write_intermediates, the inputs of the animation are hidden and ignored.

    Raises:
        OptionError: a value is not allowed, or contradicts another.
        SinkError: an animation needs an encoder that is not installed.
    """
    hidden = {} if inputs["write_intermediates"] else {"animation": "off"}
    return RunOptions.of(inputs, **hidden)
