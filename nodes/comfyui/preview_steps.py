"""The node Preview Steps: it watches a sampler."""

from collections.abc import Iterator
from typing import Any

from comfy_api.latest import io

from ...hosts.comfyui.decoder_folders import catalogue
from ...hosts.comfyui.facts import Prompt
from ...hosts.comfyui.options import SEND_PREVIEWS, SEND_PREVIEWS_HELP, VAE_HELP, run_options, tooltip
from ...hosts.comfyui.run_handle import RunHandle
from ...hosts.comfyui.watch import attach
from ...preview.options import OptionRow, rows
from ...preview.run import FULL
from .schema import STEPS, is_name, schema

INPUTS = {str: io.String.Input, int: io.Int.Input, float: io.Float.Input, bool: io.Boolean.Input}
# Workflows and prompts that were saved before the other inputs existed have only these. Saved workflows hold values by
# position, so new inputs come last.
REQUIRED = (
    "decoder",
    "show",
    "every_n_steps",
    "max_side_px",
    "write_intermediates",
    "filename_prefix",
    "file_format",
    "enlarge",
)
BEFORE_VAE, BEFORE_SEND_PREVIEWS = "animation_to_step", "stop_after_steps"


class SafelightPreview(io.ComfyNode):
    """Shows every step of the samplers that use the model it outputs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightPreview",
            display_name="Preview Steps",
            category="Safelight",
            description=(
                "Shows every step of a sampler while it samples, and writes each step to disk on request. The result "
                "is bit-identical with and without this node."
            ),
            search_aliases=[
                *("safelight", "preview", "live preview", "latent preview", "sampler preview", "step preview"),
                *("intermediates", "steps", "write every step", "save every step", "timelapse", "contact sheet"),
            ],
            has_intermediate_output=True,
            # ComfyUI's cache would reuse the output of a node for another node with the same inputs. The output
            # contains the node's id, but the cache looks for the hidden id only where V1 nodes have it.
            not_idempotent=True,
            inputs=list(_inputs()),
            outputs=[
                io.Model.Output(tooltip="The same model, watched."),
                STEPS.Output(
                    display_name="steps",
                    tooltip="Steps of the samplers that use this model, for Steps to Images and Continue from Step.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, decoder: str | None = None) -> bool | str:
        """Accepts any decoder name: a decoder that is gone costs a note on the node, not the run."""
        return is_name("decoder", decoder)

    @classmethod
    def execute(cls, model: Any, vae: Any = None, **inputs: Any) -> io.NodeOutput:
        node = Prompt.current().display_id(cls.hidden.unique_id)  # in a loop, each turn has a copy of this node
        handle = RunHandle(model, node)
        chosen = run_options(inputs, has_vae=vae is not None)
        return io.NodeOutput(attach(model, chosen, vae, node, handle), handle)


def _inputs() -> Iterator[Any]:
    yield io.Model.Input("model", tooltip="The sampler's model: put this node on the model line of any sampler.")
    for row in rows():
        yield _input(row)
        if row.name == BEFORE_VAE:
            yield io.Vae.Input("vae", optional=True, tooltip=VAE_HELP)
        if row.name == BEFORE_SEND_PREVIEWS:
            yield io.Boolean.Input(SEND_PREVIEWS, default=False, optional=True, tooltip=SEND_PREVIEWS_HELP)


def _input(row: OptionRow) -> Any:
    facts: dict[str, Any] = {"default": row.default, "tooltip": tooltip(row), "optional": row.name not in REQUIRED}
    limits = {"min": row.minimum, "max": row.maximum, "step": row.step}
    facts |= {key: value for key, value in limits.items() if value is not None}
    options = [*catalogue().names(), FULL] if row.name == "decoder" else list(row.choices)
    kind = INPUTS[row.type]
    if options:
        kind, facts = io.Combo.Input, {"options": options, **facts}
    return kind(row.name, **facts)
