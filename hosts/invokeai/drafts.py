"""Finished latents of InvokeAI become a picture without a VAE."""

import logging
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from ...decoders.catalogue import AUTO, Catalogue
from ...decoders.decoder import to_bytes
from ...decoders.errors import SpaceError
from ...decoders.identify import Evidence, identify
from ...decoders.spaces import LatentSpace
from ...preview.encode import Encoding, Enlarge
from .beliefs import with_batch
from .watch import catalogue

FROM_MODEL = "from model"
# Their denoise nodes undo the VAE's batch norm, with numbers that only the VAE has.
UNDONE = {"flux2"}

log = logging.getLogger("safelight.invokeai")


def draft(
    latents: Tensor,
    root: Path,
    *,
    base: str | None,
    space: str = FROM_MODEL,
    wanted: str = AUTO,
    enlarge: Enlarge = "off",
) -> Image.Image:
    """The first picture of `latents` `[B, C, H, W]`; of a video's, `[B, C, T, H, W]`, the frame in the middle.

    Args:
        latents: as the host's nodes hand them on.
        root: InvokeAI's.
        base: the base model of the connected model; None if none is.
        space: the name of a latent space, or `FROM_MODEL`.
        wanted: a decoder.
        enlarge: to the size of the final image, and how.

    Raises:
        SafelightError: nobody said which space, there is no such decoder, or the latents are not of that space.
    """
    decoders = catalogue(root)
    latents = with_batch(latents)
    row = _space(decoders, latents, base, space)
    plain = row.unpack(latents[:1])
    frame = plain[:, :, plain.shape[2] // 2]
    chosen = decoders.candidates(row, wanted, accelerated=latents.device.type != "cpu")[0]
    pixels = to_bytes(chosen.open().to(latents.device).decode(frame))[0].cpu().numpy()
    log.info("latents of %s decoded by %s", row.title, chosen.name)
    height, width = frame.shape[2:]
    return Encoding(enlarge=enlarge).fit(pixels, (width * row.downscale, height * row.downscale))


def _space(decoders: Catalogue, latents: Tensor, base: str | None, name: str) -> LatentSpace:
    if name != FROM_MODEL:
        return decoders.spaces()[name]
    if base is None:
        raise SpaceError(f"space is `{FROM_MODEL}`, but no model is connected: connect the model, or choose the space.")
    if base in UNDONE:
        raise SpaceError(
            f"latents of {base} leave InvokeAI's denoise node in a form that only its VAE reads; decode them with that."
        )
    return identify(Evidence(host="invokeai", format_name=base, channels=latents.shape[1]), decoders.spaces())


def base_of(*fields: Any) -> str | None:
    """The base model that the first connected UNet or transformer is of."""
    for one in fields:
        model = getattr(one, "unet", None) or getattr(one, "transformer", None)
        if model is not None:
            return str(getattr(model.base, "value", model.base))
    return None
