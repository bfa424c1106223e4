"""Videos whose frames are the batch of a model of images: `[T, C, H, W]`."""

from collections.abc import Sequence
from typing import Any

from comfy.model_base import SVD_img2vid
from torch import Tensor

# The key of the motion models that ComfyUI-AnimateDiff-Evolved adds to a MODEL.
# Source: Kosinkadink/ComfyUI-AnimateDiff-Evolved `animatediff/model_injection.py`, `ModelPatcherHelper`.
MOTION_MODELS = "ADE"
BATCH_NDIM = 4


def is_video_batch(model: Any, shapes: Sequence[Sequence[int]]) -> bool:
    """Whether the batch that the ModelPatcher `model` samples is one video, as with Stable Video Diffusion.

    Args:
        model: ModelPatcher that samples.
        shapes: shapes of its latents.
    """
    if len(shapes) != 1 or len(shapes[0]) != BATCH_NDIM:
        return False
    return isinstance(model.model, SVD_img2vid) or bool(model.get_additional_models_with_key(MOTION_MODELS))


def as_video(batch: Tensor) -> Tensor:
    """The batch `[T, C, H, W]` as one video `[1, C, T, H, W]`."""
    return batch.movedim(0, 1).unsqueeze(0)


def as_batch(video: Tensor) -> Tensor:
    """One video `[1, C, T, H, W]` as the batch `[T, C, H, W]`."""
    return video[0].movedim(0, 1)


def video_shape(batch: Sequence[int]) -> list[int]:
    """The shape of `as_video`."""
    frames, channels, *sides = batch
    return [1, channels, frames, *sides]
