"""The node Steps Sheet (Safelight): a contact sheet of a run."""

from typing import Optional

from invokeai.app.invocations.baseinvocation import BaseInvocation, Classification, invocation
from invokeai.app.invocations.fields import Input, InputField, LatentsField, WithBoard, WithMetadata
from invokeai.app.invocations.primitives import ImageOutput
from invokeai.app.services.shared.invocation_context import InvocationContext

from ...hosts.invokeai.graph import SHEET
from ...hosts.invokeai.steps_sheet import contact_sheet
from .run_inputs import folder_input, max_images_input


@invocation(
    SHEET,
    title="Steps Sheet (Safelight)",
    tags=["latents", "image", "steps", "intermediates", "contact sheet", "safelight"],
    category="image",
    version="1.0.0",
    use_cache=False,  # the run in the folder may have changed
    classification=Classification.Beta,
)
class SafelightStepsSheet(BaseInvocation, WithMetadata, WithBoard):
    """Creates one image with the steps of a run side by side, each with its number and sigma below."""

    # Written as Optional: the type check of older versions of InvokeAI does not know `| None`.
    latents: Optional[LatentsField] = InputField(  # noqa: UP045
        default=None,
        description=(
            "Latents from a Denoise (Safelight) node; they select its run, which then also saves a sheet in its folder."
        ),
        input=Input.Connection,
    )
    folder: str = folder_input(needs="Empty: the run of the latents.")
    max_images: int = max_images_input()

    def invoke(self, context: InvocationContext) -> ImageOutput:
        """Runs the node; InvokeAI calls it."""
        image = contact_sheet(context, self, self.folder, self.max_images)
        return ImageOutput.build(context.images.save(image=image))
