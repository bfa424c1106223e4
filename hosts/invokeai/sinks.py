"""Where the pictures and latents of a run go in InvokeAI: its clients, its outputs folder, its gallery."""

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, final

from PIL import Image
from torch import Tensor

from ...preview.images.encode import ImageEncoding
from ...preview.options import RunOptions
from ...preview.output_folder import create_numbered_folder, disk_room
from ...preview.picture import DecodedPicture
from ...preview.remote.remote_copy import copy_of_saved_run
from ...preview.run import Run, State
from ...preview.sinks.base import Sink
from ...preview.sinks.latent_files import LatentFiles, Need
from ...preview.sinks.run_folder import RunFolder
from ...preview.start import Outputs
from .graph import queue_item
from .options import InvokeOptions
from .output_paths import remember_folder, run_prefix
from .preferences import REMOTE, InvokePreferences

ENLARGE = "bicubic"  # of a gallery's images if the user chose no filter

log = logging.getLogger("safelight.invokeai")

SaveImage = Callable[[Image.Image, Mapping[str, Any]], Any]


@final
class Gallery(Sink):
    """Saves every picture as an image of InvokeAI, in the size of the final image.

    A picture is saved when the next one arrives: the last step of a run may be decoded twice, and only the second
    picture counts.

    Args:
        run: run of the pictures.
        save: function that saves an image with facts about its step.
        encoding: form of the images.
    """

    name = "gallery"

    def __init__(self, run: Run, save: SaveImage, encoding: ImageEncoding) -> None:
        enlarge = ENLARGE if encoding.enlarge == "off" else encoding.enlarge
        self._run, self._save, self._encoding = run, save, replace(encoding, enlarge=enlarge)
        self._newest: DecodedPicture | None = None

    def show(self, picture: DecodedPicture) -> None:
        previous, self._newest = self._newest, picture
        if previous is not None and previous.index != picture.index:
            self._save_picture(previous)

    def close(self, state: State) -> None:
        previous, self._newest = self._newest, None
        if previous is not None:
            self._save_picture(previous)

    def _save_picture(self, picture: DecodedPicture) -> None:
        facts = {"safelight_run": self._run.id, "safelight_step": picture.index, "safelight_sigma": picture.sigma}
        for pixels in picture.pixels[:, 0]:
            self._save(self._encoding.fit(pixels, picture.shown), facts)


def outputs(
    run: Run,
    options: InvokeOptions,
    context: Any,
    node: Any,
    screen: Sink,
    latents: Tensor,
    total: int,
    size: tuple[int, int],
    facts: Mapping[str, str],
) -> Outputs:
    """The outputs of a run.

    Args:
        run: run that begins.
        options: the user's options.
        context: InvokeAI's `InvocationContext`.
        node: the invocation.
        screen: sink that shows the progress picture. It shows every step, at most one every `min_interval_s` seconds.
        latents: first latents of the sampler.
        total: number of steps that the sampler reports.
        size: width and height of the final image.
        facts: facts for the files of latents.
    """
    folder = copy = None
    if options.writes_folder:
        config = context.config.get()
        path = run_prefix(context, options.filename_prefix, run.sampler, size)
        folder = RunFolder(create_numbered_folder(path.parent, path.name), run)
        root, output = Path(config.root_path), Path(config.outputs_path).resolve()
        copy = copy_of_saved_run(folder, folder, output, lambda: InvokePreferences.of(root).remote, REMOTE)
        remember_folder(node, folder.path)
    gallery = [Gallery(run, partial(save_image, context), options.encoding())] if options.to_gallery else []
    return Outputs(
        folder=folder,
        copy=copy,
        texts=partial(graph_texts, context) if options.file_format == "png" else dict,
        latents=None if folder is None else _latent_files(folder, options, latents, total, facts),
        sinks=[screen],
        savers=gallery,
        sink_cadence=RunOptions(min_interval_s=options.min_interval_s).cadence(),
    )


def graph_texts(context: Any) -> dict[str, str]:
    """The texts that InvokeAI stores in the images that it saves, by its own names."""
    item = queue_item(context)
    models = {
        "invokeai_workflow": getattr(item, "workflow", None),
        "invokeai_graph": getattr(getattr(item, "session", None), "graph", None),
    }
    return {name: text for name, model in models.items() if model and isinstance(text := model.model_dump_json(), str)}


def save_image(context: Any, image: Image.Image, facts: Mapping[str, Any]) -> None:
    """Saves an image that the gallery does not show among the results, on the node's board, with facts as metadata."""
    from invokeai.app.invocations.fields import MetadataField
    from invokeai.app.services.image_records.image_records_common import ImageCategory

    images = _lasting(context.images)
    typed = getattr(getattr(vars(images).get("_data"), "invocation", None), "metadata", None)
    metadata = MetadataField({**(typed.root if typed is not None else {}), **facts})
    images.save(image=image, image_category=ImageCategory.OTHER, metadata=metadata)


def _lasting(images: Any) -> Any:
    """InvokeAI's `ImagesInterface` for images that are no intermediate ones, whatever the node is.

    InvokeAI's editor marks every node as intermediate whose output is no image, and hides and deletes their images.
    """
    try:
        lasting = copy.copy(images)
        data = vars(lasting)["_data"]
        lasting._data = replace(data, invocation=data.invocation.model_copy(update={"is_intermediate": False}))  # noqa: SLF001
    except Exception:
        log.debug("images of an intermediate node are intermediate", exc_info=True)
        return images
    return lasting


def _latent_files(
    folder: RunFolder, options: InvokeOptions, latents: Tensor, total: int, facts: Mapping[str, str]
) -> LatentFiles | None:
    if not options.keep_latents:
        return None
    need = Need.of(latents, options.cadence(), total)
    return LatentFiles(folder, need, partial(disk_room, folder.path), facts=facts)
