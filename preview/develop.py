"""Latents become pixels."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple, final

import numpy as np
from torch import Tensor

from ..decoders.catalogue import Candidate
from ..decoders.decoder import Decoder, to_bytes
from ..decoders.spaces import AUDIO, LatentSpace


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
        self._decoder: Decoder | None = None

    @cached_property
    def _candidates(self) -> list[Candidate]:
        return list(self._ask())

    @property
    def candidate(self) -> str | None:
        """The name of the decoder in use, or about to be; None when all were given up."""
        return self._candidates[0].name if self._candidates else None

    def decoder(self) -> Decoder:
        """The decoder in use, opened if need be."""
        if self._decoder is None:
            self._decoder = self._candidates[0].open()
        return self._decoder

    def give_up(self) -> None:
        """Leaves the decoder in use for the next one."""
        self._decoder = None
        self._candidates.pop(0)

    def develop(self, latents: Tensor) -> Developed:
        """Pixels of a sampler's `latents`, laid out as the sampler has them."""
        plain = self._space.unpack(latents)
        items, _, frames, height, width = plain.shape
        rgb = self.decoder().to(latents.device).decode(plain.transpose(1, 2).flatten(0, 1))
        pixels = to_bytes(rgb).cpu().numpy()
        pixels = pixels.reshape(items, frames, *pixels.shape[1:])
        scale = self._space.downscale
        shown = (pixels.shape[3], pixels.shape[2]) if self._space.dims == AUDIO else (width * scale, height * scale)
        return Developed(pixels, shown)
