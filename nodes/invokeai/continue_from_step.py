"""The node Continue from Step (Safelight): it begins with the latents of a step of a saved run."""

from invokeai.app.invocations.baseinvocation import BaseInvocation, Classification, invocation, invocation_output
from invokeai.app.invocations.fields import InputField, LatentsField, OutputField
from invokeai.app.invocations.primitives import LatentsOutput
from invokeai.app.services.shared.invocation_context import InvocationContext

from ...hosts.invokeai.continue_from_step import continuation
from ...hosts.invokeai.load_run import saved_run


@invocation_output("safelight_continue_output")
class SafelightContinueOutput(LatentsOutput):
    """Latents that a step began with, and where a denoise node begins."""

    denoising_start: float = OutputField(description="Value for denoising_start of the denoise node.")
    steps: int = OutputField(description="Value for steps of the denoise node.")


@invocation(
    "safelight_continue",
    title="Continue from Step (Safelight)",
    tags=["latents", "steps", "intermediates", "continue", "resume", "safelight"],
    category="latents",
    version="1.0.0",
    use_cache=False,  # the run in the folder may have changed
    classification=Classification.Beta,
)
class SafelightContinueInvocation(BaseInvocation):
    """Continues a saved run of Stable Diffusion. Connect all outputs to Denoise, without noise."""

    folder: str = InputField(
        default="",
        description=(
            "Path of a run's folder in the outputs folder, such as safelight/steps_00001. The run needs keep_latents."
        ),
    )
    step: int = InputField(
        default=0,
        ge=0,
        le=10000,
        description="Step that is sampled first. 0: the last step that has latents.",
    )

    def invoke(self, context: InvocationContext) -> SafelightContinueOutput:
        """Runs the node; InvokeAI calls it."""
        begun = continuation(saved_run(context, self.folder), self.step)
        place = LatentsOutput.build(context.tensors.save(tensor=begun.latents), begun.latents)
        return SafelightContinueOutput(
            latents=LatentsField(latents_name=place.latents.latents_name, seed=begun.seed),
            width=place.width,
            height=place.height,
            denoising_start=begun.denoising_start,
            steps=begun.steps,
        )
