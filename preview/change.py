"""Measures how much the pictures of a run change from step to step."""

import math
from typing import final

import numpy as np
from PIL import Image

from .picture import DecodedPicture
from .run import FULL

MAX_PICTURES = 32  # of a step that are compared, evenly spaced over batch and frames: a video has hundreds


@final
class ChangeMeter:
    """Compares each picture with the one before it, at latent size: there, all decoders have the same detail.

    The worker calls it with each picture, in order. Pictures by different decoders are not compared: their difference
    is not a change of the latents. A picture by the VAE among others is passed over.
    """

    def __init__(self) -> None:
        self._newest: _Reduced | None = None
        self._before: _Reduced | None = None  # the newest one of another step: a sampler may report a step twice

    def measure(self, picture: DecodedPicture) -> float | None:
        """The change since the picture of the step before: the root of the mean squared difference (RMS), 0 to 1.

        None for the first picture, for latents with NaN, and after a change of the decoder.
        """
        if picture.not_finite:
            return None
        newest = _Reduced(picture)
        last = self._newest
        if last is not None and newest.is_full and not last.is_full:
            return None
        if last is None or last.index != newest.index:
            self._before = last
        self._newest = newest
        return None if self._before is None else newest.difference(self._before)


class _Reduced:
    """The pictures of a step at latent size, `[N, H, W, 3]` uint8, and what decoded them."""

    def __init__(self, picture: DecodedPicture) -> None:
        self.index, self.is_full = picture.index, picture.card.kind == FULL
        self.decoder = picture.decoder, picture.show
        height, width = picture.pixels.shape[2:4]
        flat = picture.pixels.reshape(-1, height, width, 3)
        chosen = flat[:: math.ceil(len(flat) / MAX_PICTURES)]
        factor = max(1, min(picture.card.scale, height, width))
        self.pixels = chosen if factor == 1 else np.stack([_reduced(pixels, factor) for pixels in chosen])

    def difference(self, other: "_Reduced") -> float | None:
        if self.decoder != other.decoder or self.pixels.shape != other.pixels.shape:
            return None
        # One picture after the other: all of a video would need hundreds of MB.
        squares = (np.square(a.astype(np.float32) - b).mean() for a, b in zip(self.pixels, other.pixels, strict=True))
        return math.sqrt(float(np.mean([*squares]))) / 255


def _reduced(pixels: np.ndarray, factor: int) -> np.ndarray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).reduce(factor))
