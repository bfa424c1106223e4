"""A picture of a step that somebody else makes, in their own time."""

from concurrent.futures import Future
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..decoders.decoder import Card, to_bytes
from ..decoders.latents.space import LatentSpace
from .run import FULL


class DecodedPicture(NamedTuple):
    """`pixels` `[B, T, H, W, 3]` uint8 of a step, the width and height of the final image they stand for, the frames a
    second they are to be played at, what made them, and the milliseconds it took.
    """

    pixels: np.ndarray
    shown: tuple[int, int]
    fps: float | None
    card: Card
    decode_ms: float

    @classmethod
    def by_vae(cls, rgb: Tensor, space: LatentSpace, source: str, fps: float | None, began: float) -> "DecodedPicture":
        """What a host's own VAE made.

        Args:
            rgb: `[B, 3, T, H, W]` in 0..1.
            space: of the latents.
            source: which VAE it was, for people.
            fps: frames a second of the run's video, where it is known.
            began: when, by `perf_counter`.
        """
        rgb = torch.nan_to_num(rgb.float(), nan=0.0).clamp(0, 1)
        pixels = torch.stack([to_bytes(frame) for frame in rgb.unbind(2)], 1).cpu().numpy()
        height, width = pixels.shape[2:4]
        card = Card(name=FULL, space=space.name, kind=FULL, scale=space.downscale, source=source)
        fps = (fps or space.fps) if pixels.shape[1] > 1 else None
        return cls(pixels, (width, height), fps, card, (perf_counter() - began) * 1000)


PendingPicture = Future[DecodedPicture | None]  # None, and the step is developed as all others are


def ready_picture(made: DecodedPicture | None) -> PendingPicture:
    """One that needs no waiting for."""
    promise: PendingPicture = Future()
    promise.set_result(made)
    return promise
