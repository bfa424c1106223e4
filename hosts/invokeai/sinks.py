"""Where the pictures and latents of a run go in InvokeAI: its clients, its outputs folder, its gallery."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, final

from PIL import Image
from torch import Tensor

from ...preview.images.encode import ImageEncoding
from ...preview.options import RunOptions
from ...preview.output_folder import create_numbered_folder, disk_room, prefix_folder
from ...preview.picture import DecodedPicture
from ...preview.run import Run, State
from ...preview.sinks.base import Sink
from ...preview.sinks.latent_files import LatentFiles, Need
from ...preview.sinks.run_folder import RunFolder
from ...preview.start import Outputs
from .graph import queue_item
from .options import InvokeOptions

TENSORS_PER_STEP = 2  # noisy and denoised
MIN_ITEM_BYTES = 4  # x0 may be float32 where the state is not


@final
class Gallery(Sink):
    """Saves every picture as an image of InvokeAI.

    Args:
        save: function that saves an image.
        encoding: size of the images.
    """

    name = "gallery"

    def __init__(self, save: Callable[[Image.Image], Any], encoding: ImageEncoding) -> None:
        self._save, self._encoding = save, encoding

    def open(self) -> None:
        pass

    def show(self, picture: DecodedPicture) -> None:
        for pixels in picture.pixels[:, 0]:
            self._save(self._encoding.fit(pixels, picture.shown))

    def close(self, state: State) -> None:
        pass


def outputs(run: Run, options: InvokeOptions, context: Any, screen: Sink, latents: Tensor, total: int) -> Outputs:
    """The outputs of a run.

    Args:
        run: run that begins.
        options: the user's options.
        context: InvokeAI's `InvocationContext`.
        screen: sink that shows the progress picture. It shows every step, at most one every `min_interval_s` seconds.
        latents: first latents of the sampler.
        total: number of steps that the sampler reports.
    """
    folder = None
    if options.writes_folder:
        path = expect_folder(context, options)
        folder = RunFolder(create_numbered_folder(path.parent, path.name), run)
    gallery = [Gallery(partial(save_image, context), options.encoding())] if options.to_gallery else []
    return Outputs(
        folder=folder,
        texts=partial(graph_texts, context) if options.file_format == "png" else dict,
        latents=_latent_files(folder, options, latents, total) if folder is not None and options.keep_latents else None,
        sinks=[screen],
        savers=gallery,
        sink_cadence=RunOptions(min_interval_s=options.min_interval_s).cadence(),
    )


def expect_folder(context: Any, options: InvokeOptions) -> Path:
    """The path of the run's folder without its number.

    Raises:
        SinkError: no folder can be created there.
    """
    return prefix_folder(Path(context.config.get().outputs_path), options.filename_prefix)


def graph_texts(context: Any) -> dict[str, str]:
    """The texts that InvokeAI stores in the images that it saves, by its own names."""
    item = queue_item(context)
    models = {
        "invokeai_workflow": getattr(item, "workflow", None),
        "invokeai_graph": getattr(getattr(item, "session", None), "graph", None),
    }
    return {name: text for name, model in models.items() if model and isinstance(text := model.model_dump_json(), str)}


def save_image(context: Any, image: Image.Image) -> None:
    """Saves an image that the gallery does not show among the results."""
    from invokeai.app.services.image_records.image_records_common import ImageCategory

    context.images.save(image=image, image_category=ImageCategory.OTHER)


def _latent_files(folder: RunFolder, options: InvokeOptions, latents: Tensor, total: int) -> LatentFiles:
    bytes_each = TENSORS_PER_STEP * latents.numel() * max(latents.element_size(), MIN_ITEM_BYTES)
    need = Need(options.cadence().most_steps(total), bytes_each)
    return LatentFiles(folder, need, partial(disk_room, folder.path))
