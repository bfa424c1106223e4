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
    InputField,
    LatentsField,
    OutputField,
    WithBoard,
    WithMetadata,
)
from invokeai.app.services.image_records.image_records_common import ImageCategory
from invokeai.app.services.shared.invocation_context import InvocationContext

from ...hosts.invokeai.load_run import load_run


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

    folder: str = InputField(
        default="",
        description=(
            "Path of a run's folder in the outputs folder, such as safelight/steps_00001. With user accounts, only "
            "your own runs are found."
        ),
    )
    step: int = InputField(
        default=0,
        ge=0,
        le=10000,
        description="Step whose latents are loaded. 0: the last step that has latents.",
    )
    max_images: int = InputField(
        default=48,
        ge=1,
        le=400,
        description="Maximum number of images. Of a longer run, evenly spread steps are loaded with the last one.",
    )

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
