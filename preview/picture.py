"""A finished picture of one step, on its way to the sinks."""

from dataclasses import dataclass

import numpy as np

from .step import Show


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A step's picture.

    Args:
        index, total, sigma: the step's own.
        show: `denoised` or `noisy`.
        at_s: seconds from the start of the run to the step.
        pixels: `[B, T, H, W, 3]` uint8, sRGB; T = 1 but for video.
        shown: width and height of the final image.
        decoder: the name of what made it.
        decode_ms: what making it took.
        fps: frames a second at which `pixels` are to be played; None for a still, or where nobody knows.
    """

    index: int
    total: int
    sigma: float | None
    show: Show
    at_s: float
    pixels: np.ndarray
    shown: tuple[int, int]
    decoder: str
    decode_ms: float
    fps: float | None = None

    @property
    def first(self) -> np.ndarray:
        """The first frame of the first item, `[H, W, 3]`."""
        return self.pixels[0, 0]
