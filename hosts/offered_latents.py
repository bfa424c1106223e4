"""Reads latents that a user passes, as arrays of any framework and in any usual form."""

from typing import Any, final

import torch
from torch import Tensor

from ..decoders.latents.space import LatentSpace
from ..decoders.latents.tokens import ImageSize, from_tokens, token_side
from ..errors import LatentsError
from .arrays import tensor_of


@final
class LatentReader:
    """Reads the latents of one latent space.

    Args:
        space: latent space.
        size: width and height of the final image, in pixels, to which tokens are arranged; None if unknown.
    """

    def __init__(self, space: LatentSpace, size: ImageSize | None) -> None:
        self._space, self._size = space, size

    def read(self, array: Any, *, channels_last: bool = False) -> Tensor:
        """Returns latents as a tensor `[B, C, H, W]` or `[B, C, T, H, W]`, without a copy where possible.

        Args:
            array: latents in this form, tokens `[B, N, C]` if the size is known, or one of these without `B`.
            channels_last: whether the channels are the last axis.

        Raises:
            LatentsError: the array cannot be read, is not of floating point numbers, or does not fit the space.
        """
        latents = tensor_of(array)
        if self._size is not None and token_side(latents, self._space):
            return from_tokens(latents, self._space, self._size)
        forms = [latents, latents.unsqueeze(0)]
        if channels_last:
            forms = [latents.movedim(-1, 1), latents.movedim(-1, 0).unsqueeze(0)] if latents.ndim > 1 else []
        fitting = next((form for form in forms if self._fits(form)), None)
        if fitting is None:
            raise LatentsError(self._misfit(latents, channels_last=channels_last))
        return fitting

    def _fits(self, latents: Tensor) -> bool:
        try:
            self._space.unpack(torch.empty(latents.shape, device="meta"))
        except LatentsError:
            return False
        return True

    def _misfit(self, latents: Tensor, *, channels_last: bool) -> str:
        """Why the latents of a step cannot be shown, and what to do."""
        space, shape = self._space, list(latents.shape)
        if not channels_last and token_side(latents, space):
            return (
                f"expected the size of the final image for tokens {shape} of {space.title}, got none; pass "
                "size=(width, height) where the record is created"
            )
        found = f"expected latents of {space.title} ({space.name}) with {space.channels} channels, got {shape}"
        if not channels_last and shape and shape[-1] in (space.channels, space.packed_channels):
            return f"{found}; pass channels_last=True, if the last axis holds the channels"
        form = "[B, H, W, C] or [B, T, H, W, C]" if channels_last else "[B, C, H, W] or [B, C, T, H, W]"
        return f"{found}; pass them as {form}, or choose the latent space that they belong to"
