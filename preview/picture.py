"""The decoded picture of one step, as sinks and users receive it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..decoders.decoder import Card
from .step import Show, StepInfo


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DecodedPicture:
    """A step's pixels and what decoded them.

    Args:
        step: facts about the step.
        pixels: `[B, T, H, W, 3]` uint8, sRGB; T is 1 except for video.
        shown: width and height of the final image, in pixels.
        card: card of the decoder.
        decode_ms: duration of the decode, in milliseconds.
        not_finite: share of the latents that are NaN or infinite, 0 to 1; a pattern marks them in `pixels`.
        fps: frames per second at which `pixels` play; None for a still image, or if unknown.
        change: change since the picture of the step before, see `ChangeMeter`; None if unknown.
        noisy: picture of the noisy latents of the same step; None if only one of the two is shown.
    """

    step: StepInfo
    pixels: np.ndarray
    shown: tuple[int, int]
    card: Card
    decode_ms: float
    not_finite: float = 0.0
    fps: float | None = None
    change: float | None = None
    noisy: "DecodedPicture | None" = None

    def __repr__(self) -> str:
        items, frames, height, width = self.pixels.shape[:4]
        counts = "".join(f", {n} {what}" for n, what in ((items, "pictures"), (frames, "frames")) if n > 1)
        sigma = "" if self.sigma is None else f", sigma {self.sigma:.3g}"
        return f"<step {self.index} of {self.total}{sigma}: {width}x{height}{counts}, {self.show}, {self.decoder}>"

    @property
    def image(self) -> Image.Image:
        """The picture as an image of Pillow, in the decoder's size: a batch side by side, a video's middle frame."""
        from .images.grid import still_image  # it uses this class

        return still_image(self)

    @property
    def index(self) -> int:
        """Number of the step, from 1."""
        return self.step.index

    @property
    def total(self) -> int:
        """Number of steps that the sampler reports."""
        return self.step.total

    @property
    def sigma(self) -> float | None:
        """Noise level of the step; None if unknown."""
        return self.step.sigma

    @property
    def show(self) -> Show:
        """`denoised` or `noisy`."""
        return self.step.show

    @property
    def at_s(self) -> float:
        """Seconds from the start of the run to the step."""
        return self.step.at_s

    @property
    def decoder(self) -> str:
        """Name of the decoder."""
        return self.card.name

    @property
    def first(self) -> np.ndarray:
        """First frame of the first batch item, `[H, W, 3]` uint8."""
        return self.pixels[0, 0]


PictureOf = Callable[[StepInfo], DecodedPicture]  # a finished decode that only lacks the facts about its step
