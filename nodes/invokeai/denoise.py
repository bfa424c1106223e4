"""For each of InvokeAI's denoise nodes, a twin with a few more inputs, whose steps are shown and saved.

No `from __future__ import annotations` in files with nodes: InvokeAI reads the annotations when it starts, and ends if
they are strings.
"""

import logging
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, Optional, cast

from invokeai.app.invocations.baseinvocation import (
    BaseInvocation,
    BaseInvocationOutput,
    Classification,
    invocation,
    invocation_output,
)
from invokeai.app.invocations.fields import Input, InputField, OutputField, WithBoard
from invokeai.app.invocations.model import VAEField
from invokeai.app.services.config.config_default import get_config
from invokeai.app.services.shared.invocation_context import InvocationContext
from pydantic import BaseModel, create_model, field_validator

from ...decoders.catalogue import AUTO
from ...decoders.descriptions import decoder_labels
from ...hosts.invokeai.denoise_nodes import installed_nodes
from ...hosts.invokeai.options import (
    DEFAULTS,
    INPUT_NAMES,
    MORE_HELP,
    RUN_FOLDER_HELP,
    TO_GALLERY_HELP,
    VAE_HELP,
    InvokeOptions,
)
from ...hosts.invokeai.output_paths import typed_folder
from ...hosts.invokeai.preferences import catalogue
from ...hosts.invokeai.saved_inputs import choice_or
from ...hosts.invokeai.watch import watched
from ...preview.options import OptionRow, rows
from ...preview.run import FULL

PREFIX = "safelight_"
REVISION = 4  # of Safelight's inputs; below 100, raised when they change

log = logging.getLogger("safelight.invokeai")

DECODER_NAMES = (*catalogue(Path(get_config().root_path)).names(), FULL)
decoder_or_auto = choice_or(AUTO, DECODER_NAMES, "decoder")


class SavedInputs(BaseModel):
    """Accepts values that a workflow was saved with and that are no choices any more."""

    @field_validator("preview_decoder", mode="before", check_fields=False)
    @classmethod
    def replace_missing_decoder(cls, name: Any) -> Any:
        """Replaces a decoder that was removed since the workflow was saved, so that the workflow still runs."""
        return decoder_or_auto(name)

    @field_validator("animation", mode="before", check_fields=False)
    @classmethod
    def replace_switch(cls, animation: Any) -> Any:
        """Replaces the switch that this input was at first. An animation was always WebP."""
        if isinstance(animation, bool):
            return "webp" if animation else "off"
        return animation


def input_name(row: OptionRow) -> str:
    """Name of the input for an option."""
    return INPUT_NAMES.get(row.name, row.name)


def input_of(row: OptionRow) -> tuple[Any, Any]:
    """Type and field of the input for an option."""
    is_decoder = row.name == "decoder"
    choices = DECODER_NAMES if is_decoder else row.choices
    field = InputField(
        ui_choice_labels=decoder_labels(DECODER_NAMES) | {FULL: "full VAE"} if is_decoder else None,
        default=DEFAULTS[row.name],
        ge=row.minimum,
        le=row.maximum,
        description=" ".join([row.help, *([MORE_HELP[row.name]] if row.name in MORE_HELP else [])]),
    )
    return (Literal[choices] if choices else row.type), field


# Optional as InvokeAI's own nodes write it: the type check of its older versions does not know `| None`.
VAE_INPUT = (Optional[VAEField], InputField(default=None, description=VAE_HELP, input=Input.Connection))  # noqa: UP045
PREVIEW_INPUTS: dict[str, Any] = {
    **{input_name(row): input_of(row) for row in rows()},
    "to_gallery": (bool, InputField(default=False, description=TO_GALLERY_HELP)),
    "preview_vae": VAE_INPUT,
}
PreviewFields = create_model(
    "PreviewFields",
    __base__=(SavedInputs, WithBoard),  # to_gallery saves to the board
    __module__=__name__,
    **PREVIEW_INPUTS,
)


def options_of(node: Any) -> InvokeOptions:
    """The options that the user chose on a twin."""
    values = {row.name: getattr(node, input_name(row)) for row in rows()}
    vae = node.preview_vae.vae if node.preview_vae else None
    return cast("InvokeOptions", InvokeOptions.of(values, to_gallery=node.to_gallery, vae=vae))


def version_of(core: str | None) -> str:
    """A version that changes if inputs of the core node or of Safelight change, so that the UI updates old nodes."""
    major, minor, patch = (core or "1.0.0").split(".")[:3]
    return f"{major}.{minor}.{100 * int(patch) + REVISION}"


@cache
def output_with_folder(core: type[BaseInvocationOutput]) -> type[BaseInvocationOutput]:
    """Registers the output of a core node with one more value: where the run was written."""
    run_folder = OutputField(default="", description=RUN_FOLDER_HELP)
    name = f"Safelight{core.__name__}"
    fields: dict[str, Any] = {"run_folder": (str, run_folder)}
    output = create_model(name, __base__=core, __module__=__name__, **fields)
    output.__doc__ = core.__doc__
    return invocation_output(PREFIX + core.get_type())(output)


def watched_node(core: type[BaseInvocation]) -> type[BaseInvocation]:
    """Registers the twin of `core`, which has its inputs, its outputs and its result, and the folder of the run."""
    core_output = core.get_output_annotation()
    output_type: Any = output_with_folder(core_output)

    class Twin(PreviewFields, core):  # type: ignore[valid-type, misc]  # in this order, the inputs of core come first
        def invoke(self, context: InvocationContext) -> output_type:  # type: ignore[valid-type]
            output = watched(partial(core.invoke, self), context, self, options_of(self), core_output)
            values = {name: getattr(output, name) for name in core_output.model_fields if name != "type"}
            return output_type(**values, run_folder=typed_folder(context, self))

    Twin.__name__ = Twin.__qualname__ = f"Safelight{core.__name__}"
    Twin.__doc__ = f"{(core.__doc__ or '').strip()} Safelight shows every step, and writes files if you want them."
    config = core.UIConfig
    return invocation(
        PREFIX + core.get_type(),
        title=f"{config.title} (Safelight)",
        tags=[*(config.tags or []), "safelight", "preview", "intermediates"],
        category=config.category,
        version=version_of(config.version),
        use_cache=False,  # a cached result takes no steps
        classification=Classification.Beta,
    )(Twin)


def watched_nodes() -> list[type[BaseInvocation]]:
    """A twin of each denoise node that this InvokeAI has. If one cannot be created, the log says why."""
    twins = []
    for node, core in installed_nodes():
        try:
            twins.append(watched_node(core))
        except Exception as error:
            log.warning("Safelight adds no node for %s: %s", node.name, error)
    return twins


WATCHED_NODES = watched_nodes()
