"""The node that makes a contact sheet of a run."""

from typing import Optional

from invokeai.app.invocations.baseinvocation import BaseInvocation, Classification, invocation
from invokeai.app.invocations.fields import Input, InputField, LatentsField, WithBoard, WithMetadata
from invokeai.app.invocations.primitives import ImageOutput
from invokeai.app.services.shared.invocation_context import InvocationContext

from ...hosts.invokeai.graph import SHEET
from ...hosts.invokeai.steps_sheet import contact_sheet


@invocation(
    SHEET,
    title="Steps Sheet (Safelight)",
    tags=["latents", "image", "steps", "intermediates", "contact sheet", "safelight"],
    category="image",
    version="1.0.0",
    use_cache=False,  # the folder may hold another run, or more of it
    classification=Classification.Beta,
)
class SafelightStepsSheet(BaseInvocation, WithMetadata, WithBoard):
    """Makes one image of the steps of a run, side by side, each with its number and sigma below."""

    # Optional as InvokeAI's own nodes write it: its check of types knows both forms, its older ones only this.
    latents: Optional[LatentsField] = InputField(  # noqa: UP045
        default=None,
        description=(
            "Of a Denoise (Safelight), or made of them: the sheet is of its run, which then keeps one in its folder."
        ),
        input=Input.Connection,
    )
    folder: str = InputField(
        default="",
        description="Instead: the folder of a run in the outputs folder, such as safelight/steps_00001.",
    )
    max_images: int = InputField(
        default=48,
        ge=1,
        le=400,
        description="Of a longer run with files for its steps, steps are left out, evenly; never the last one.",
    )

    def invoke(self, context: InvocationContext) -> ImageOutput:
        """The host's name for it."""
        image = contact_sheet(context, self, self.folder, self.max_images)
        return ImageOutput.build(context.images.save(image=image))
