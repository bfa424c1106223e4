"""Which part of a sampler's latents is shown."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ...decoders.latents.space import AUDIO, LatentSpace
from ...errors import LatentsError
from ...preview.options import RunOptions
from ...preview.run import Run
from ...preview.snapshot import Selection
from .video_batch import BATCH_NDIM, as_video

MAX_LIVE_ITEMS = 16  # batch items on the node: more would be too small to see


def shown_part(options: RunOptions, space: LatentSpace) -> Selection:
    """Selects what is shown or written."""
    selection = options.selection(None if options.write_intermediates else MAX_LIVE_ITEMS)
    return replace(selection, frames="first") if space.dims == AUDIO else selection


def select_shown(
    selection: Selection, shapes: Sequence[Sequence[int]], is_video_batch: bool
) -> Callable[[Tensor], Tensor]:
    """Returns the function that selects from the sampler's tensor.

    Args:
        selection: what is shown of a batch of images or videos.
        shapes: shapes of the latents; several if they are packed into one tensor.
        is_video_batch: whether the batch is one video.
    """
    if len(shapes) > 1:
        return partial(_select_of_pack, selection, shapes[0])
    return partial(_select_of_batch, selection) if is_video_batch else selection


def _select_of_batch(selection: Selection, batch: Tensor) -> Tensor:
    """Selects from `[T, C, H, W]`, whose batch is one video."""
    return selection(as_video(batch))


def _select_of_pack(selection: Selection, shape: Sequence[int], packed: Tensor) -> Tensor:
    """Selects from `[B, 1, N]`, which holds several latents one after the other, the video of this shape first.

    Source: ComfyUI 0.33 `comfy/utils.py`, `unpack_latents`.
    """
    return selection(packed[:, 0, : math.prod(shape[1:])].unflatten(1, tuple(shape[1:])))


def note_unused_frames(run: Run, options: RunOptions, shape: Sequence[int]) -> None:
    """Notes that a choice of frames has no effect on a batch of images, which the user may take for a video."""
    if options.frames != "first" and len(shape) == BATCH_NDIM and shape[0] > 1:
        run.note(
            f"frames has no effect: ComfyUI reports {shape[0]} images, not the frames of a video, so batch says how "
            "they are shown"
        )


def final_size(space: LatentSpace, shape: Sequence[int]) -> tuple[int, int]:
    """Width and height of the final image for latents of this shape; zeros if the shape does not fit the space."""
    try:
        height, width = space.unpack(torch.empty(tuple(shape), device="meta")).shape[-2:]
    except LatentsError:
        return 0, 0
    return width * space.downscale, height * space.downscale
