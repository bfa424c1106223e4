"""How much of a sampler's latents is looked at, and how much room that takes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...decoders.latents.space import AUDIO, LatentSpace
from ...errors import SafelightError
from ...preview.snapshot import VIDEO_NDIM, Selection
from .options import NodeOptions

LIVE_ITEMS = 16  # of a batch: more would be stamps on the node


def selection(settings: NodeOptions, space: LatentSpace) -> Selection:
    """What is looked at: no more than what is shown or written."""
    some = LIVE_ITEMS if not settings.write_intermediates else None
    frames = "first" if space.dims == AUDIO else settings.looked_at
    return Selection(items=1 if settings.batch == "first" else some, frames=frames)


def picture_bytes(space: LatentSpace, select: Selection, shape: Sequence[int]) -> int:
    """How much a step's picture takes that a VAE makes."""
    looked_at = select(torch.empty(tuple(shape), device="meta"))
    width, height = final_size(space, looked_at.shape)
    frames = looked_at.shape[2] * space.frame_stride if looked_at.ndim == VIDEO_NDIM else 1
    return 3 * len(looked_at) * frames * width * height


def select_of_pack(select: Selection, shape: Sequence[int], packed: Tensor) -> Tensor:
    """What is looked at of `[B, 1, N]`, which holds several latents flat, one after the other, video first.

    Source: ComfyUI 0.33 `comfy/utils.py`, `unpack_latents`.
    """
    return select(packed[:, 0, : math.prod(shape[1:])].unflatten(1, tuple(shape[1:])))


def final_size(space: LatentSpace, shape: Sequence[int]) -> tuple[int, int]:
    """Width and height of the final image of latents of this shape; zeros where the shape is not the space's."""
    try:
        height, width = space.unpack(torch.empty(tuple(shape), device="meta")).shape[-2:]
    except SafelightError:
        return 0, 0
    return width * space.downscale, height * space.downscale
