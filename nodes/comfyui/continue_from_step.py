"""The node Continue from Step: another sampler continues from a step of a run."""

from typing import Any

from comfy_api.latest import io

from ...hosts.comfyui.facts import Prompt
from ...hosts.comfyui.run_handle import RunHandle
from ...hosts.comfyui.saved_steps import SavedSteps
from .schema import STEPS, after_sampling, checked_input, schema

STEP = io.Int.Input(
    "step",
    default=1,
    min=0,
    max=10000,
    tooltip="First step to sample again, from 1, as numbered in the preview. 0: the last step that has latents.",
)


class SafelightPickStep(io.ComfyNode):
    """One step of a watched run, as inputs of a sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightPickStep",
            display_name="Continue from Step",
            category="Safelight",
            description=(
                "Outputs what a sampler needs to continue from any step of a run. With the same settings the result is "
                "the same. Needs keep_latents in Preview Steps."
            ),
            search_aliases=["continue", "resume", "pick step", "branch", "split sampling", "steps"],
            inputs=[
                STEPS.Input(
                    "steps",
                    tooltip=(
                        "Output steps of the Preview Steps on the sampler's model line, or of Load Run. Needs "
                        "keep_latents."
                    ),
                ),
                after_sampling(),
                STEP,
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that sampled a run from Load Run. Of a run of this session it is known.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="noisy",
                    tooltip=(
                        "Latents that the step began with, for KSampler (Advanced) or SamplerCustom. Disable add_noise "
                        "there."
                    ),
                ),
                io.Latent.Output(
                    display_name="denoised", tooltip="The model's estimate of the finished latents at this step."
                ),
                io.Sigmas.Output(display_name="sigmas", tooltip="Remaining sigmas, for SamplerCustom."),
                io.Int.Output(display_name="start_at_step", tooltip="start_at_step for KSampler (Advanced)."),
                io.Int.Output(
                    display_name="total_steps",
                    tooltip="Number of steps of the whole schedule: steps for KSampler (Advanced).",
                ),
                io.Model.Output(
                    display_name="model",
                    tooltip=(
                        "The model that sampled, not watched. It begins with exactly the latents of the step, so the "
                        "same settings give a bit-identical result. With any other model the latents are rounded."
                    ),
                ),
            ],
        )

    @classmethod
    def execute(cls, steps: RunHandle | SavedSteps, step: int, model: Any = None, **_: Any) -> io.NodeOutput:
        step = checked_input(STEP, step)
        run: Any = steps.after(Prompt.current())  # of the class that `steps` itself continues
        start = steps.continuing(run, step, model)
        return io.NodeOutput(start.noisy, start.denoised, start.sigmas, start.start_at_step, start.steps, start.model)
