"""Finished latents of InvokeAI become a picture without a VAE."""

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
from ...errors import SpaceError
from ...preview.images.encode import Enlarge, ImageEncoding
from ..vae_encode import encoding_of
from .watch import catalogue
from .x0 import with_batch

FROM_MODEL = "from model"
# Their denoise nodes undo the VAE's batch norm, with numbers that only the VAE has.
UNDONE = {"flux2"}

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
    """The first picture of `latents` `[B, C, H, W]`; of a video's, `[B, C, T, H, W]`, the frame in the middle.

    Args:
        latents: as the host's nodes hand them on.
        root: InvokeAI's.
        base: the base model of the connected model; None if none is.
        space: the name of a latent space, or `FROM_MODEL`.
        wanted: a decoder.
        enlarge: to the size of the final image, and how.
        vae: opens the one that is connected; None if none is. Only asked where the host's node has undone its norm.

    Raises:
        SafelightError: nobody said which space, there is no such decoder, or the latents are not of that space.
    """
    decoders = catalogue(root)
    latents = with_batch(latents)
    row = _space(decoders, latents, base, space)
    if space == FROM_MODEL and base in UNDONE:
        latents = _normed(latents[:1], row, base, vae)
    plain = row.unpack(latents[:1])
    frame = plain[:, :, plain.shape[2] // 2]
    chosen = decoders.candidates(row, wanted, accelerated=latents.device.type != "cpu")[0]
    pixels = to_bytes(chosen.open().to(latents.device).decode(frame))[0].cpu().numpy()
    log.info("latents of %s decoded by %s", row.title, chosen.name)
    height, width = frame.shape[2:]
    return ImageEncoding(enlarge=enlarge).fit(pixels, (width * row.downscale, height * row.downscale))


def _space(decoders: Catalogue, latents: Tensor, base: str | None, name: str) -> LatentSpace:
    if name != FROM_MODEL:
        return decoders.spaces()[name]
    if base is None:
        raise SpaceError(f"space is `{FROM_MODEL}`, but no model is connected: connect the model, or choose the space.")
    return identify(Evidence(host="invokeai", format_name=base, channels=latents.shape[1]), decoders.spaces())


def _normed(
    latents: Tensor, row: LatentSpace, base: str, vae: Callable[[], AbstractContextManager[Any]] | None
) -> Tensor:
    """What the host's denoise node has undone, done again."""
    if vae is None:
        raise SpaceError(
            f"latents of {base} leave InvokeAI's denoise node in a form that only its VAE knows: connect the VAE as "
            "well. It only gives its numbers, nothing is decoded by it."
        )
    with vae() as module:
        return encoding_of(module).model(module, row, latents.float())


@contextmanager
def opened(context: Any, vae: Any) -> Iterator[Any]:
    """A VAE of the host's, by its `ModelIdentifierField`."""
    with context.models.load(vae).model_on_device() as (_, module):
        yield module


def base_of(*fields: Any) -> str | None:
    """The base model that the first connected UNet or transformer is of."""
    for one in fields:
        model = getattr(one, "unet", None) or getattr(one, "transformer", None)
        if model is not None:
            return str(getattr(model.base, "value", model.base))
    return None
