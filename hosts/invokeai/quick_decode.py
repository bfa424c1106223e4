"""Decodes finished latents of InvokeAI to a picture, without a VAE."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ...decoders.catalogue import AUTO, Catalogue
from ...decoders.decoder import to_bytes
from ...decoders.latents.identify import Evidence, identify
from ...decoders.latents.space import LatentSpace
from ...decoders.later_frames import as_first_frames
from ...errors import SpaceError
from ...preview.images.encode import Enlarge, ImageEncoding
from ..vae_encode import vae_encoding
from .preferences import catalogue
from .saved_inputs import choice_or
from .x0 import with_batch

FROM_MODEL = "from model"
# The denoise nodes of these base models return latents without the batch norm of the VAE, which only the VAE knows.
WITHOUT_NORM = {"flux2"}

log = logging.getLogger("safelight.invokeai")


def quick_decode(
    latents: Tensor,
    root: Path,
    *,
    base: str | None,
    space: str = FROM_MODEL,
    wanted: str = AUTO,
    enlarge: Enlarge = "off",
    vae: Callable[[], AbstractContextManager[Any]] | None = None,
) -> Image.Image:
    """Decodes the first item of `latents` `[B, C, H, W]`; of a video's, `[B, C, T, H, W]`, the middle frame.

    Args:
        latents: latents as InvokeAI's nodes pass them on.
        root: InvokeAI's root folder.
        base: base model of the connected model; None if none is connected.
        space: name of a latent space, or `FROM_MODEL`.
        wanted: name of a decoder.
        enlarge: filter that enlarges the picture to the size of the final image.
        vae: function that opens the connected VAE; None if none is connected. It is called only for latents that lack
            the VAE's batch norm.

    A decoder or a space that does not exist (any more) is replaced by `auto` or `FROM_MODEL`; the log says so.

    Raises:
        SafelightError: the latent space is unknown, or the latents do not fit it.
    """
    decoders = catalogue(root)
    latents = with_batch(latents)
    space = choice_or(FROM_MODEL, (FROM_MODEL, *(row.name for row in decoders.spaces())), "latent space")(space)
    row = _space(decoders, latents, base, space)
    if space == FROM_MODEL and base in WITHOUT_NORM:
        latents = _with_norm(latents[:1], row, base, vae)
    plain = row.unpack(latents[:1])
    first_and_middle = plain[:, :, [0, plain.shape[2] // 2]] if plain.shape[2] > 1 else plain
    frame = as_first_frames(first_and_middle, row)[:, :, -1]
    candidates = decoders.candidates_or_auto(row, wanted, accelerated=latents.device.type != "cpu", notify=log.warning)
    candidate = candidates[0]
    pixels = to_bytes(candidate.open().to(latents.device).decode(frame))[0].cpu().numpy()
    log.info("%s decoded latents of %s", candidate.name, row.title)
    height, width = frame.shape[2:]
    return ImageEncoding(enlarge=enlarge).fit(pixels, (width * row.downscale, height * row.downscale))


def _space(decoders: Catalogue, latents: Tensor, base: str | None, name: str) -> LatentSpace:
    if name != FROM_MODEL:
        return decoders.spaces()[name]
    if base is None:
        raise SpaceError(f"space is `{FROM_MODEL}`, but no model is connected: connect the model, or choose the space.")
    return identify(Evidence(host="invokeai", format_name=base, channels=latents.shape[1]), decoders.spaces())


def _with_norm(
    latents: Tensor, row: LatentSpace, base: str, vae: Callable[[], AbstractContextManager[Any]] | None
) -> Tensor:
    """Applies the batch norm that InvokeAI's denoise node has removed."""
    if vae is None:
        raise SpaceError(
            f"InvokeAI's denoise node returns latents of {base} in a form that only their VAE can convert: connect the "
            "VAE as well. Only its numbers are used; it decodes nothing."
        )
    with vae() as module:
        return vae_encoding(module).to_model_space(module, row, latents.float())


@contextmanager
def opened(context: Any, vae: Any) -> Iterator[Any]:
    """Opens InvokeAI's VAE with the `ModelIdentifierField` `vae`."""
    with context.models.load(vae).model_on_device() as (_, module):
        yield module


def base_of(*fields: Any) -> str | None:
    """The base model of the first connected UNet or transformer; None if none is connected."""
    for field in fields:
        model = getattr(field, "unet", None) or getattr(field, "transformer", None)
        if model is not None:
            return str(getattr(model.base, "value", model.base))
    return None
