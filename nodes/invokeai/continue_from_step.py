"""The node Continue from Step (Safelight): it begins with the latents of a step of a saved run."""

from invokeai.app.invocations.baseinvocation import BaseInvocation, Classification, invocation, invocation_output
from invokeai.app.invocations.fields import LatentsField, OutputField
from invokeai.app.invocations.primitives import LatentsOutput
from invokeai.app.services.shared.invocation_context import InvocationContext

from ...hosts.invokeai.continue_from_step import continuation
from ...hosts.invokeai.continued_inputs import require_inputs
from ...hosts.invokeai.load_run import saved_run
from .run_inputs import folder_input, step_input


@invocation_output("safelight_continue_output")
class SafelightContinueOutput(LatentsOutput):
    """What a denoise node needs to begin with a step of a saved run."""

    denoising_start: float = OutputField(description="Value for denoising_start of the denoise node.")
    steps: int = OutputField(description="Value for steps, or num_steps, of the denoise node.")
    noise: LatentsField = OutputField(
        description="Noise for FLUX.1, SD3 and CogView4. Leave noise of Stable Diffusion empty."
    )
    add_noise: bool = OutputField(description="Value for add_noise of the denoise node, if it has this input.")


@invocation(
    "safelight_continue",
    title="Continue from Step (Safelight)",
    tags=["latents", "steps", "intermediates", "continue", "resume", "safelight"],
    category="latents",
    version="1.1.0",
    use_cache=False,  # the run in the folder may have changed
    classification=Classification.Beta,
)
class SafelightContinueInvocation(BaseInvocation):
    """Continues a saved run. Connect each output to the input of the denoise node that has its name."""

    folder: str = folder_input(needs="The run needs keep_latents.")
    step: int = step_input("Step that is sampled first.")

    def invoke(self, context: InvocationContext) -> SafelightContinueOutput:
        """Runs the node; InvokeAI calls it."""
        begun = continuation(saved_run(context, self.folder), self.step)
        require_inputs(context, self, begun)
        names = [
            "" if tensor is None else context.tensors.save(tensor=tensor) for tensor in (begun.latents, begun.noise)
        ]
        latents, noise = (LatentsField(latents_name=name, seed=begun.seed) for name in names)
        return SafelightContinueOutput(
            latents=latents,
            width=begun.size[0],
            height=begun.size[1],
            denoising_start=begun.denoising_start,
            steps=begun.steps,
            noise=noise,
            add_noise=begun.add_noise is not False,
        )
