"""Latents become pixels."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import numpy as np
from torch import Tensor

from ..decoders.catalogue import Candidate
from ..decoders.decoder import Decoder, to_bytes
from ..decoders.spaces import AUDIO, LatentSpace
from .snapshot import to_host


class Developed(NamedTuple):
    """`pixels` `[B, T, H, W, 3]` uint8, and the width and height of the final image they stand for."""

    pixels: np.ndarray
    shown: tuple[int, int]


@final
class Developer:
    """Develops a run's latents with one decoder, and with the next best when that is given up.

    Nothing is looked up or opened before the first latents come, and then by the thread that develops them: the sampler
    reads no files.

    Args:
        space: of the latents.
        candidates: gives the decoders to try, best first.
    """

    def __init__(self, space: LatentSpace, candidates: Callable[[], Sequence[Candidate]]) -> None:
        self._space = space
        self._ask = candidates
        self._candidates: list[Candidate] | None = None
        self._decoder: Decoder | None = None

    @property
    def has_decoder(self) -> bool:
        """Whether one is left, or nobody has asked yet."""
        return self._candidates is None or bool(self._candidates)

    def decoder(self) -> Decoder:
        """The decoder in use, looked up and opened if need be."""
        if self._candidates is None:
            self._candidates = []  # whatever comes of asking: once
            self._candidates = list(self._ask())
        if self._decoder is None:
            self._decoder = self._candidates[0].open()
        return self._decoder

    def give_up(self) -> str:
        """Leaves the decoder in use for the next one; what was given up, for people."""
        self._decoder = None
        return f"decoder {self._candidates.pop(0).name}" if self._candidates else "looking for a decoder"

    def unpack(self, latents: Tensor) -> Tensor:
        """A sampler's `latents`, laid out as the sampler has them, as `[B, C, T, H, W]`.

        Raises:
            LatentsError: they do not have the shape of the run's latent space.
        """
        return self._space.unpack(latents)

    def develop(self, latents: Tensor) -> Developed:
        """Pixels of `latents` `[B, C, T, H, W]`."""
        items, _, frames, height, width = latents.shape
        rgb = self.decoder().to(latents.device).decode(latents.transpose(1, 2).flatten(0, 1))
        pixels = to_host(to_bytes(rgb))
        pixels = pixels.reshape(items, frames, *pixels.shape[1:])
        scale = self._space.downscale
        shown = (pixels.shape[3], pixels.shape[2]) if self._space.dims == AUDIO else (width * scale, height * scale)
        return Developed(pixels, shown)
