"""The node that lets another sampler go on from a step of a run."""

from typing import Any

from comfy_api.latest import io

from ...hosts.comfyui.facts import Prompt
from ...hosts.comfyui.run_handle import RunHandle
from .schema import STEPS, after_sampling, schema


class SafelightPickStep(io.ComfyNode):
    """One step of a run that has just been watched, as what a sampler takes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightPickStep",
            display_name="Continue from Step",
            category="Safelight",
            description=(
                "What a sampler needs to go on from any step of a run: with the same settings to the same result, or "
                "with others to another one. Preview Steps has to keep the latents."
            ),
            search_aliases=["continue", "resume", "pick step", "branch", "split sampling", "steps", "safelight"],
            inputs=[
                STEPS.Input("steps", tooltip="From Preview Steps on the sampler's model line, keep_latents on."),
                after_sampling(),
                io.Int.Input(
                    "step",
                    default=1,
                    min=1,
                    max=10000,
                    tooltip="The first step that is sampled anew, counted from 1 as its picture is.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="noisy",
                    tooltip="What the step began with. For KSampler (Advanced), add_noise disabled, and SamplerCustom.",
                ),
                io.Latent.Output(display_name="denoised", tooltip="What the model believed at this step."),
                io.Sigmas.Output(display_name="sigmas", tooltip="Those that are left, for SamplerCustom."),
                io.Int.Output(display_name="start_at_step", tooltip="For KSampler (Advanced)."),
                io.Int.Output(
                    display_name="total_steps",
                    tooltip="Of the whole schedule: the steps of a KSampler (Advanced) that goes on from here.",
                ),
                io.Model.Output(
                    display_name="model",
                    tooltip=(
                        "The model that sampled. It begins with exactly what the step began with: the same settings "
                        "give the same result to the last bit; with any other model, a rounding away. Not watched."
                    ),
                ),
            ],
        )

    @classmethod
    def execute(cls, steps: RunHandle, step: int, **_: Any) -> io.NodeOutput:
        at = steps.continuing(steps.after(Prompt.current()), step)
        return io.NodeOutput(at.noisy, at.denoised, at.sigmas, at.start_at_step, at.steps, at.model)
