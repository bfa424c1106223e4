"""The host's denoise nodes, watched: of each one a twin with a few inputs more.

No `from __future__ import annotations` in files with nodes: InvokeAI reads the annotations when it starts, and ends
where they are strings.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any, Literal

from invokeai.app.invocations.baseinvocation import BaseInvocation, Classification, invocation
from invokeai.app.invocations.fields import InputField
from invokeai.app.services.config.config_default import get_config
from invokeai.app.services.shared.invocation_context import InvocationContext
from pydantic import BaseModel, field_validator

from ...decoders.catalogue import AUTO
from ...hosts.invokeai.denoise_nodes import installed_nodes
from ...hosts.invokeai.watch import InvokeOptions, catalogue, watched

PREFIX = "safelight_"
REVISION = 0  # of our inputs; below 100, raised when they change

log = logging.getLogger("safelight.invokeai")

NAMES = tuple(catalogue(Path(get_config().root_path)).names())


class PreviewFields(BaseModel):
    """What a twin has besides the inputs of its core node."""

    preview_decoder: Literal[NAMES] = InputField(  # type: ignore[valid-type]
        default=AUTO,
        description=(
            "What turns latents into pictures. auto takes the best at hand for the model's latent space; a kind, such "
            "as tiny, the best of its kind. Decoder files in InvokeAI's folder safelight are found by their "
            "content when InvokeAI starts."
        ),
    )
    every_n_steps: int = InputField(
        default=1,
        ge=1,
        description="Keeps every n-th step, beginning with the first, and the last. The live picture shows them all.",
    )
    write_intermediates: bool = InputField(
        default=False,
        description="Writes a picture file for every step, each run into a folder of its own with a page to open.",
    )
    filename_prefix: str = InputField(
        default="safelight/steps",
        description="Where in the outputs folder: safelight/steps becomes safelight/steps_00001/step_0001.png.",
    )
    file_format: Literal["png", "webp", "jpg"] = InputField(
        default="png", description="Of the files. A PNG has the workflow inside, as the host's own images have."
    )
    enlarge: Literal["off", "nearest", "bicubic", "lanczos"] = InputField(
        default="off", description="off: as large as the decoder makes them. Else: as large as the final image."
    )
    sheet: bool = InputField(default=False, description="Writes sheet.png: the steps side by side.")
    animation: bool = InputField(default=False, description="Writes steps.webp: the steps as a moving picture.")
    to_gallery: bool = InputField(
        default=False, description="Saves every step as an image of InvokeAI as well, in the category Other."
    )

    @field_validator("preview_decoder", mode="before")
    @classmethod
    def takes_any_decoder(cls, name: Any) -> Any:
        """One that is gone since the workflow was saved costs a line in the log, never the run."""
        if isinstance(name, str) and name not in NAMES:
            log.warning("no decoder is called %r (any more): chosen automatically instead", name)
            return AUTO
        return name


def settings_of(node: Any) -> InvokeOptions:
    """What the user chose on a twin."""
    return InvokeOptions(
        decoder=node.preview_decoder,
        **{name: getattr(node, name) for name in PreviewFields.model_fields if name != "preview_decoder"},
    )


def version_of(core: str | None) -> str:
    """Another one when inputs of the core node change, or ours: so the UI updates a node in an old workflow."""
    major, minor, patch = (core or "1.0.0").split(".")[:3]
    return f"{major}.{minor}.{100 * int(patch) + REVISION}"


def watched_node(core: type[BaseInvocation]) -> type[BaseInvocation]:
    """Registers the twin of `core`: the same inputs, the same outputs, the same result."""

    class Twin(PreviewFields, core):  # type: ignore[valid-type, misc]  # in this order core's inputs come first
        def invoke(self, context: InvocationContext) -> core.get_output_annotation():  # type: ignore[valid-type]
            return watched(partial(core.invoke, self), context, self, settings_of(self))

    Twin.__name__ = Twin.__qualname__ = f"Safelight{core.__name__}"
    Twin.__doc__ = f"{(core.__doc__ or '').strip()} Every step is shown by Safelight, and on request written to disk."
    config = core.UIConfig
    return invocation(
        PREFIX + core.get_type(),
        title=f"{config.title} (Safelight)",
        tags=[*(config.tags or []), "safelight", "preview", "intermediates"],
        category=config.category,
        version=version_of(config.version),
        use_cache=False,  # what is taken from the cache takes no steps
        classification=Classification.Beta,
    )(Twin)


def watched_nodes() -> list[type[BaseInvocation]]:
    """A twin of each denoise node that this InvokeAI has; one that cannot be made costs a line in the log."""
    twins = []
    for family, core in installed_nodes():
        try:
            twins.append(watched_node(core))
        except Exception as error:
            log.warning("no node of ours for %s: %s", family.name, error)
    return twins


WATCHED_NODES = watched_nodes()
