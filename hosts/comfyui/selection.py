"""Which part of a sampler's latents is shown."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...decoders.latents.space import AUDIO, LatentSpace
from ...errors import LatentsError
from ...preview.options import RunOptions
from ...preview.snapshot import Selection

MAX_LIVE_ITEMS = 16  # batch items on the node: more would be too small to see


def shown_part(options: RunOptions, space: LatentSpace) -> Selection:
    """Selects what is shown or written."""
    selection = options.selection(None if options.write_intermediates else MAX_LIVE_ITEMS)
    return replace(selection, frames="first") if space.dims == AUDIO else selection


def select_of_pack(selection: Selection, shape: Sequence[int], packed: Tensor) -> Tensor:
    """Selects from `[B, 1, N]`, which holds several latents one after the other, the video of this shape first.

    Source: ComfyUI 0.33 `comfy/utils.py`, `unpack_latents`.
    """
    return selection(packed[:, 0, : math.prod(shape[1:])].unflatten(1, tuple(shape[1:])))


def final_size(space: LatentSpace, shape: Sequence[int]) -> tuple[int, int]:
    """Width and height of the final image for latents of this shape; zeros if the shape does not fit the space."""
    try:
        height, width = space.unpack(torch.empty(tuple(shape), device="meta")).shape[-2:]
    except LatentsError:
        return 0, 0
    return width * space.downscale, height * space.downscale
