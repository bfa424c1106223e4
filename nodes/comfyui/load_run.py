"""The node Load Run: it reads a saved run from its folder."""

from typing import Any

from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker

from ...errors import SafelightError
from ...hosts.comfyui.image_tensors import images
from ...hosts.comfyui.load_run import NO_RUN, fingerprint, list_runs, load, selected_folder
from ...hosts.comfyui.saved_steps import SavedSteps
from .schema import STEPS, checked_input, is_name, max_images_input, schema

FOLDER = io.String.Input(
    "folder",
    default="",
    tooltip="Path of a run's folder in the output folder, such as safelight/steps_00001. Replaces run.",
)
STEP = io.Int.Input(
    "step",
    default=0,
    min=0,
    max=10000,
    tooltip="Step whose latents are loaded. 0: the last step that has latents.",
)
MAX_IMAGES = max_images_input()


class SafelightLoadRun(io.ComfyNode):
    """A run that was saved to disk."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SafelightLoadRun",
            display_name="Load Run",
            category="Safelight",
            description="Loads a saved run from the output folder: its pictures, latents and steps, and a summary.",
            search_aliases=["load run", "load steps", "load latents", "open run", "intermediates"],
            inputs=[
                io.Combo.Input(
                    "run",
                    options=list_runs() or [NO_RUN],
                    tooltip="Folder of a run in the output folder, newest first. Press R to list new runs.",
                ),
                FOLDER,
                STEP,
                MAX_IMAGES,
            ],
            outputs=[
                io.Image.Output(display_name="images", tooltip="One image for each step that has a picture."),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="Denoised latents of the step, ready for VAE Decode. Needs a run with keep_latents.",
                ),
                io.String.Output(
                    display_name="summary",
                    tooltip="Text with the settings of the run, and the steps that have pictures or latents.",
                ),
                STEPS.Output(
                    display_name="steps",
                    tooltip="The run, for Continue from Step and Steps to Images. A run that was cut off can go on.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, run: str | None = None, folder: str | None = None) -> bool | str:
        """Accepts any path: if the run is gone, the error when the node runs names it."""
        valid = is_name("run", run)
        return is_name("folder", folder) if valid is True else valid

    @classmethod
    def fingerprint_inputs(cls, run: str | None = None, folder: str | None = None, **_: Any) -> str | float:
        """Changes when the run was continued or edited, so that the host loads it again.

        NaN, which differs from itself, if a path comes from a link: ComfyUI does not know it yet.
        """
        if folder is None or (run is None and not folder.strip()):
            return float("nan")
        try:
            return fingerprint(selected_folder(run or "", folder))
        except SafelightError as error:
            return str(error)

    @classmethod
    def execute(cls, run: str, folder: str, step: int, max_images: int) -> io.NodeOutput:
        run, folder = checked_input(io.String.Input("run"), run), checked_input(FOLDER, folder)
        step, max_images = checked_input(STEP, step), checked_input(MAX_IMAGES, max_images)
        chosen = selected_folder(run, folder)
        loaded = load(chosen, step, max_images)
        pictures: Any = images(loaded.pictures) if loaded.pictures else ExecutionBlocker("this run has no pictures")
        return io.NodeOutput(
            pictures, loaded.latent or ExecutionBlocker(loaded.latent_problem), loaded.summary, SavedSteps(chosen)
        )
