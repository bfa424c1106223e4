"""The steps of a saved run, for the nodes that use the steps of a watched sampler."""

from pathlib import Path
from typing import Any, final

import folder_paths

from ...errors import GoneError, LatentsError
from ...preview.images.thumbnails import StepImage
from ...preview.saved_run import SavedRun
from .continue_from_step import Begun, Continuation, continuation
from .facts import Prompt
from .load_run import shapes_of
from .shared import Shared


@final
class SavedSteps(Shared):
    """A saved run: the value of the output `steps` of Load Run. It has the methods of `RunHandle`.

    Args:
        folder: folder of the run, in ComfyUI's output folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def after(self, _: Prompt) -> SavedRun:
        """The run, as it is on disk now.

        Raises:
            ManifestError: there is no run any more, or its manifest is not valid.
        """
        return SavedRun.open(self._folder, Path(folder_paths.get_output_directory()).resolve())

    def pictures(self, saved: SavedRun, most: int) -> list[StepImage]:
        """Returns at most `most` pictures of the run, of evenly spread steps.

        Raises:
            GoneError: the run has no pictures, or one is missing.
            ManifestError: a file is no picture, or too large.
        """
        if not (pictures := saved.pictures(most)):
            raise GoneError(f"{saved.title} has no pictures")
        return pictures

    def continuing(self, saved: SavedRun, step: int, model: Any = None) -> Continuation:
        """Returns what a sampler needs to continue from the beginning of a step.

        Args:
            saved: the run.
            step: number of the step; 0 for the last one that has latents.
            model: ModelPatcher that continues.

        Raises:
            GoneError: there is no such step, or it has no latents.
            LatentsError: no model is connected, its latents are of another format than those of the run, or no sampler
                can continue from this sampler's latents.
        """
        if model is None:
            raise LatentsError(f"{saved.title} was loaded from disk: connect the model that sampled it to model")
        latents, latent_format = saved.latents(step or None), model.get_model_object("latent_format")
        saved_name, name = latents.facts.get("format_name"), type(latent_format).__name__
        if saved_name != name:
            raise LatentsError(
                f"{saved.title} has latents of the format {saved_name}, and the connected model uses {name}: connect "
                "the model that sampled it"
            )
        begun = Begun(
            latents=latents,
            sampler=saved.manifest["sampler"],
            shapes=shapes_of(latents),
            schedule=None,
            sampling=model.get_model_object("model_sampling"),
            latent_format=latent_format,
        )
        return continuation(begun, model)
