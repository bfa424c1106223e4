"""A step's picture that a host's own VAE decodes, outside the worker."""

from concurrent.futures import Future
from functools import partial
from time import perf_counter

import torch
from torch import Tensor

from ..decoders.decoder import Card, to_bytes
from ..decoders.latents.space import LatentSpace
from .picture import DecodedPicture, PictureOf
from .run import FULL

PendingPicture = Future[PictureOf | None]  # with None, the worker decodes the step as usual


def ready_picture(picture: PictureOf | None) -> PendingPicture:
    """Returns a pending picture that is already there."""
    pending: PendingPicture = Future()
    pending.set_result(picture)
    return pending


def vae_picture(rgb: Tensor, space: LatentSpace, source: str, fps: float | None, began: float) -> PictureOf:
    """Turns a VAE's output into a picture.

    Args:
        rgb: `[B, 3, T, H, W]`, nominally in 0..1; NaN becomes 0.
        space: latent space of the run.
        source: description of the VAE for the record of the run.
        fps: frames per second of the run's video; None if unknown.
        began: `perf_counter()` when the decode began.
    """
    rgb = torch.nan_to_num(rgb.float(), nan=0.0).clamp(0, 1)
    pixels = torch.stack([to_bytes(frame) for frame in rgb.unbind(2)], 1).cpu().numpy()
    height, width = pixels.shape[2:4]
    card = Card(name=FULL, space=space.name, kind=FULL, scale=space.downscale, source=source)
    return partial(
        DecodedPicture,
        pixels=pixels,
        shown=(width, height),
        card=card,
        decode_ms=(perf_counter() - began) * 1000,
        fps=(fps or space.fps) if pixels.shape[1] > 1 else None,
    )
