"""Pictures of latents and of runs in ComfyUI's asset browser, where this version of ComfyUI asks packs for them.

Source: Comfy-Org/ComfyUI@228da55822586baa032c369990759818ea144185, `comfy_api/latest/__init__.py` (class `Previews`),
`comfy_api/latest/_previews.py`, `comfy_execution/preview_generators.py` and `app/assets/previews.py`. ComfyUI finds a
generator by the MIME type of the path, calls it on one of two threads, shrinks its picture and encodes it. At
f1376fcf0e25fa1f5852f03fa9853523509a0448 it does so for uploads only.
"""

import logging
import mimetypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ...decoders.catalogue import Catalogue
from ...errors import SafelightError
from ..file_picture import LATENT_SUFFIX, picture_of_file

LATENT_TYPE = "application/x-comfyui-latent"  # if no other pack has named one
# Files of these types are mostly not ours: models, and any JSON. Their generators stay in use.
SHARED_TYPES = ("application/safetensors", "application/json")

log = logging.getLogger("safelight.comfyui")


async def register(catalogue: Callable[[], Catalogue]) -> None:
    """Registers the generator, if ComfyUI has the interface. Never raises: the nodes work without it.

    Args:
        catalogue: function that returns the available decoders.
    """
    try:
        from comfy_api.latest import ComfyAPI, Previews
    except ImportError:  # an older ComfyUI
        return
    try:
        if mimetypes.guess_type(f"x{LATENT_SUFFIX}", strict=False)[0] is None:
            mimetypes.add_type(LATENT_TYPE, LATENT_SUFFIX)
        types = (mimetypes.guess_type(f"x{LATENT_SUFFIX}", strict=False)[0] or LATENT_TYPE, *SHARED_TYPES)
        generator = _generator(Previews.PreviewGenerator, types, catalogue, _registered(types))
        await ComfyAPI().previews.register_generator(generator)
    except Exception:
        log.debug("no pictures in the asset browser", exc_info=True)


def _registered(types: tuple[str, ...]) -> Mapping[str, Any]:
    """The generators that other packs have registered, by MIME type."""
    try:
        from comfy_execution.preview_generators import get_preview_generator
    except ImportError:  # it has no public name
        return {}
    found = {mime_type: get_preview_generator(mime_type) for mime_type in types}
    return {mime_type: generator for mime_type, generator in found.items() if generator is not None}


def _generator(
    base: type, types: tuple[str, ...], catalogue: Callable[[], Catalogue], others: Mapping[str, Any]
) -> Any:
    """A generator for files of latents and records of runs, which passes all other files on.

    Args:
        base: ComfyUI's `PreviewGenerator`.
        types: MIME types.
        catalogue: function that returns the available decoders.
        others: generators for these types that were there before, by type.
    """

    class LatentPreviews(base):
        mime_types = types

        def generate(self, source_path: str, max_pixels: int) -> Image.Image | None:
            try:
                picture = picture_of_file(Path(source_path), catalogue(), max_pixels)
            except SafelightError as error:
                log.info("no picture in the asset browser: %s", error)
                return None
            if picture is not None:
                return picture
            other = others.get(mimetypes.guess_type(source_path, strict=False)[0] or "")
            return None if other is None else other.generate(source_path, max_pixels)

    return LatentPreviews()
