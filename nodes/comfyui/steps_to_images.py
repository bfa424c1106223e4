"""The node Steps to Images: it outputs the pictures of a run."""

from typing import Any

from comfy_api.latest import io

from ...hosts.comfyui.facts import Prompt
from ...hosts.comfyui.image_tensors import images, sheet
from ...hosts.comfyui.run_handle import RunHandle
from ...hosts.comfyui.saved_steps import SavedSteps
from .schema import STEPS, after_sampling, checked_input, max_images_input, schema

MAX_IMAGES = max_images_input(optional=True)


class SafelightSteps(io.ComfyNode):
    """The pictures of a watched run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightSteps",
            display_name="Steps to Images",
            category="Safelight",
            description="Outputs the pictures of all steps of a run as images, and as one contact sheet.",
            search_aliases=["steps", "intermediates", "contact sheet", "timelapse", "step images"],
            inputs=[
                STEPS.Input(
                    "steps", tooltip="Output steps of the Preview Steps on the sampler's model line, or of Load Run."
                ),
                after_sampling(),
                MAX_IMAGES,
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="One image for each step with a picture. Of a batch or video, the first.",
                ),
                io.Image.Output(
                    display_name="sheet", tooltip="Contact sheet: the steps side by side, each with number and sigma."
                ),
            ],
        )

    @classmethod
    def execute(cls, steps: RunHandle | SavedSteps, max_images: int = 200, **_: Any) -> io.NodeOutput:
        max_images = checked_input(MAX_IMAGES, max_images)
        run: Any = steps.after(Prompt.current())  # of the class that `steps` itself has pictures of
        pictures = steps.pictures(run, max_images)
        return io.NodeOutput(images(pictures), sheet(pictures))
