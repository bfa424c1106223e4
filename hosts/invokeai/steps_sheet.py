"""Contact sheets of saved runs in InvokeAI."""

from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import GoneError
from ...preview.output_folder import existing_folder
from ...preview.saved_run import SavedRun
from ...preview.sinks.contact_sheet import lay_out
from .graph import watched_before
from .output_paths import folder_of, own_outputs


def contact_sheet(context: Any, node: Any, folder: str, most: int) -> Image.Image:
    """The steps of a run side by side.

    Args:
        context: InvokeAI's invocation context.
        node: the invocation of the sheet node. By default the sheet shows the run that its latents come from.
        folder: typed path of another run's folder in the user's outputs folder; empty for the default.
        most: maximum number of steps, if the run has a file for each step.

    Raises:
        SafelightError: there is no such run, or it has no pictures.
    """
    typed = folder.strip() or str(_run_before(context, node))
    root = own_outputs(context).resolve()
    path = existing_folder(root, typed)
    saved = SavedRun.open(path, root)
    if pictures := saved.pictures(most):
        return lay_out(pictures)
    sheet = saved.sheet()
    if sheet is None:
        raise GoneError(
            f"{path.name}: this run has no pictures: write_intermediates and sheet were off; switch on one of them"
        )
    return sheet


def _run_before(context: Any, node: Any) -> Path:
    """The folder of the run that the latents of `node` come from."""
    denoise = watched_before(context, node)
    if denoise is None:
        raise GoneError(
            "no run for a sheet: connect the latents of a Denoise (Safelight), or type the path of a run's folder in "
            "the outputs folder, such as safelight/steps_00001"
        )
    folder = folder_of(context, denoise)
    if folder is None:
        raise GoneError("no folder of this run: it took no step, or was deleted; run the denoise node again")
    return folder
