"""The node that loads a run from its folder."""

from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ...errors import SafelightError
from ...hosts.comfyui.image_tensors import images
from ...hosts.comfyui.load_run import NO_RUN, fingerprint, folder_of, list_runs, load
from .schema import schema


class SafelightLoadRun(io.ComfyNode):
    """A run that was written to disk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightLoadRun",
            display_name="Load Run",
            category="Safelight",
            description="A run from its folder in the output folder: its pictures, its latents, what it was.",
            search_aliases=["load run", "load steps", "load latents", "open run", "intermediates", "safelight"],
            inputs=[
                io.Combo.Input(
                    "run",
                    options=list_runs() or [NO_RUN],
                    tooltip="The folders of runs in the output folder, the newest first. Press R for new ones.",
                ),
                io.String.Input(
                    "folder",
                    default="",
                    tooltip="Or the path of a run's folder in the output folder, such as safelight/steps_00001.",
                ),
                io.Int.Input(
                    "step",
                    default=0,
                    min=0,
                    max=10000,
                    tooltip="Whose latents to give. 0: of the last step that has any.",
                ),
                io.Int.Input(
                    "max_images",
                    default=200,
                    min=1,
                    max=10000,
                    tooltip="Of a longer run steps are left out, evenly; never the last one.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="An image for each step with a picture."),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="What the model believed at the step, as a VAE takes it; if the run kept its latents.",
                ),
                io.String.Output(display_name="summary", tooltip="What was sampled and how, and what there is of it."),
            ],
        )

    @classmethod
    def validate_inputs(cls, run: str, folder: str) -> bool:
        """Takes any: a run that is gone is told by name."""
        return isinstance(run, str) and isinstance(folder, str)

    @classmethod
    def fingerprint_inputs(cls, run: str, folder: str, **_: Any) -> str:
        """A run that goes on, or was edited, is loaded again."""
        try:
            return fingerprint(folder_of(run, folder))
        except SafelightError as error:
            return str(error)

    @classmethod
    def execute(cls, run: str, folder: str, step: int, max_images: int) -> io.NodeOutput:
        loaded = load(folder_of(run, folder), step, max_images)
        pictures: Any = images(loaded.pictures) if loaded.pictures else ExecutionBlocker("this run has no pictures")
        return io.NodeOutput(pictures, loaded.latent or ExecutionBlocker(loaded.why_not), loaded.summary)
