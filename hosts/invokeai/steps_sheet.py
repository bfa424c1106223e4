"""Contact sheets of runs that were written in InvokeAI."""

from glob import escape
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import GoneError, ManifestError
from ...preview.manifest import read_manifest
from ...preview.output_folder import existing_folder
from ...preview.saved_run import SavedRun
from ...preview.sinks.contact_sheet import lay_out
from .graph import watched_before
from .watch import folder_for


def contact_sheet(context: Any, node: Any, folder: str, most: int) -> Image.Image:
    """The steps of a run side by side.

    Args:
        context: the host's.
        node: the invocation that asks; its run is the one that its latents come from.
        folder: another run's, in the outputs folder; empty if it is not to be another.
        most: steps at most, where each has a file.

    Raises:
        SafelightError: there is no such run, or nothing of it to be shown.
    """
    outputs = Path(context.config.get().outputs_path)
    place = existing_folder(outputs, folder.strip()) if folder.strip() else _run_before(context, node, outputs)
    saved = SavedRun.open(place)
    if pictures := saved.pictures(most):
        return lay_out(pictures)
    sheet = saved.sheet()
    if sheet is None:
        raise GoneError(f"{place.name}: this run has no pictures: it was written without write_intermediates and sheet")
    return sheet


def _run_before(context: Any, node: Any, outputs: Path) -> Path:
    """The folder of the run that the latents of `node` come from."""
    denoise = watched_before(context, node)
    if denoise is None:
        raise GoneError(
            "no run to make a sheet of: connect the latents of a Denoise (Safelight), or type the path of a run's "
            "folder in the outputs folder, such as safelight/steps_00001"
        )
    place = folder_for(outputs, denoise.filename_prefix)
    named = place.parent.glob(f"{escape(place.name)}_*")
    for folder in sorted(named, key=lambda path: (len(path.name), path.name), reverse=True):
        try:
            if read_manifest(folder)["host"].get("invocation") == denoise.id:
                return folder
        except (ManifestError, KeyError, AttributeError):
            continue
    raise GoneError(f"no folder of this run in {place.parent.name} (any more): it took no step, or was deleted")
