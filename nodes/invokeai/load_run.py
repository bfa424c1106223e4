"""The node Load Run (Safelight): it reads a saved run from its folder."""

from invokeai.app.invocations.baseinvocation import (
    BaseInvocation,
    BaseInvocationOutput,
    Classification,
    invocation,
    invocation_output,
)
from invokeai.app.invocations.fields import (
    ImageField,
    LatentsField,
    OutputField,
    WithBoard,
    WithMetadata,
)
from invokeai.app.services.image_records.image_records_common import ImageCategory
from invokeai.app.services.shared.invocation_context import InvocationContext

from ...hosts.invokeai.load_run import load_run
from .run_inputs import folder_input, max_images_input, step_input


@invocation_output("safelight_run_output")
class SafelightRunOutput(BaseInvocationOutput):
    """A saved run: its pictures, the latents of a step, and a summary."""

    collection: list[ImageField] = OutputField(description="One image for each step that has a picture.")
    latents: LatentsField = OutputField(
        description="Denoised latents of the step, for Latents to Image. Needs a run with keep_latents."
    )
    summary: str = OutputField(
        description="Text with the settings of the run, and the steps that have pictures or latents."
    )


@invocation(
    "safelight_load_run",
    title="Load Run (Safelight)",
    tags=["latents", "image", "steps", "intermediates", "load", "safelight"],
    category="image",
    version="1.0.0",
    use_cache=False,  # the run in the folder may have changed
    classification=Classification.Beta,
)
class SafelightLoadRunInvocation(BaseInvocation, WithMetadata, WithBoard):
    """Loads a saved run from the outputs folder: its pictures, the latents of a step, and a summary."""

    folder: str = folder_input()
    step: int = step_input("Step whose latents are loaded.")
    max_images: int = max_images_input()

    def invoke(self, context: InvocationContext) -> SafelightRunOutput:
        """Runs the node; InvokeAI calls it."""
        run = load_run(context, self, self.folder, self.step, self.max_images)
        images = [
            context.images.save(image=picture.image, image_category=ImageCategory.OTHER) for picture in run.pictures
        ]
        name = "" if run.latents is None else context.tensors.save(tensor=run.latents)
        return SafelightRunOutput(
            collection=[ImageField(image_name=image.image_name) for image in images],
            latents=LatentsField(latents_name=name, seed=run.seed),
            summary=run.summary,
        )
