"""The options of a run as inputs of Preview Steps."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...decoders.catalogue import AUTO
from ...preview.options import OptionRow, RunOptions
from ...preview.run import FULL

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

SEND_PREVIEWS = "send_previews"
SEND_PREVIEWS_HELP = (
    "Sends the pictures as ComfyUI's own preview messages too, so that API clients, phones and Krita show them: small, "
    "at most five a second, only to the client that queued the prompt."
)


def tooltip(row: OptionRow) -> str:
    """The help of an option for its input on the node."""
    needs = f"Only with {' or '.join(row.needs)}." if row.needs else ""
    return " ".join(filter(None, (row.help, COMFYUI_HELP.get(row.name), needs)))


class ChosenOptions(NamedTuple):
    """The options of a run, notes about those that cannot be used, and whether ComfyUI's clients get its previews."""

    options: RunOptions
    notes: Sequence[str]
    sends_previews: bool


def run_options(inputs: Mapping[str, Any], *, has_vae: bool) -> ChosenOptions:
    """Options from the node's inputs. Without write_intermediates, the inputs of the animation are hidden and ignored.

    Decoder full that cannot decode becomes auto, with a note: a preview does not end the prompt.

    Args:
        inputs: value of each input, by name.
        has_vae: whether a VAE is connected.

    Raises:
        OptionError: a value is not allowed, or contradicts another.
        SinkError: an animation needs an encoder that is not installed.
    """
    fixed: dict[str, Any] = {} if inputs["write_intermediates"] else {"animation": "off"}
    notes = []
    if inputs["decoder"] == FULL and (problem := _problem_of_full(inputs, has_vae)):
        fixed |= {"decoder": AUTO}
        notes.append(f"auto decodes the steps: {problem}")
    return ChosenOptions(RunOptions.of(inputs, **fixed), notes, inputs.get(SEND_PREVIEWS) is True)


def _problem_of_full(inputs: Mapping[str, Any], has_vae: bool) -> str | None:
    """The reason why decoder full cannot be used, and what to do; None if it can."""
    if not has_vae:
        return "decoder full has no VAE; connect the model's VAE to the input vae"
    if inputs["show"] == "noisy":
        return "decoder full decodes finished latents, not noise; set show to denoised"
    return None
