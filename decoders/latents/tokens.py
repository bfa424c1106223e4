"""Arranges the tokens of transformers, and latents without a batch axis, to plain latents."""

from torch import Tensor

from ...errors import LatentsError
from .space import AUDIO, VIDEO, LatentSpace

PATCH_SIDES = (1, 2)  # latent pixels along one side of a token

ImageSize = tuple[int, int]  # width and height of the final image, in pixels


def plain_latents(latents: Tensor, space: LatentSpace, size: ImageSize | None = None) -> Tensor:
    """Arranges latents to `[B, C, T, H, W]`. A missing batch axis is added, and tokens are put in their places.

    Raises:
        LatentsError: the tensor does not fit the space, or tokens need another `size`, or one.
    """
    if size is not None and token_side(latents, space):
        return from_tokens(latents, space, size)
    try:
        return space.unpack(latents)
    except LatentsError as error:
        try:
            return space.unpack(latents.unsqueeze(0))
        except LatentsError:
            if not token_side(latents, space):
                raise error from None
    raise LatentsError(
        f"{list(latents.shape)} could be tokens, whose width and height are unknown; give the size of the final image, "
        "such as 1024x1024"
    )


def token_side(latents: Tensor, space: LatentSpace) -> int:
    """Latent pixels along one side of a token, if the tensor can be tokens of the space; else 0."""
    if latents.ndim not in (2, 3) or space.dims == AUDIO:
        return 0
    return next((side for side in PATCH_SIDES if latents.shape[-1] == space.channels * side**2), 0)


def from_tokens(latents: Tensor, space: LatentSpace, size: ImageSize) -> Tensor:
    """Arranges tokens `[N, C*p*p]` or `[B, N, C*p*p]`, whose channel is c*p*p + py*p + px, as FLUX packs them.

    Source: diffusers 0.42, pipelines/flux/pipeline_flux.py, `_unpack_latents`.

    Raises:
        LatentsError: the number of tokens is not that of an image of this size.
    """
    side = token_side(latents, space)
    latents = latents if latents.ndim == 3 else latents.unsqueeze(0)
    columns, rows = (pixels // (space.downscale * side) for pixels in size)
    items, tokens, _ = latents.shape
    frames, rest = divmod(tokens, rows * columns) if rows * columns else (0, 1)
    if rest or frames < 1 or (frames > 1 and space.dims != VIDEO):
        raise LatentsError(
            f"expected {rows * columns} tokens for an image of {size[0]}x{size[1]} in {space.title}, got "
            f"{list(latents.shape)}; give the size of the final image"
        )
    cells = latents.reshape(items, frames, rows, columns, space.channels, side, side)
    return cells.permute(0, 4, 1, 2, 5, 3, 6).reshape(items, space.channels, frames, rows * side, columns * side)
