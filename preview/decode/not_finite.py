"""Marks the parts of a picture whose latents are NaN or infinite, which would look like a black image."""

import math

import numpy as np
import torch
from torch import Tensor

CHECKS = 16  # squares of the pattern along the shorter side
COLORS = ((200, 0, 200), (24, 24, 24))  # the pattern that stands for a missing texture in 3-D graphics
OVERFLOW_ADVICE = (
    "The model's numbers overflowed; this is no fault of the preview. Run the model in float32 or bfloat16."
)


def not_finite_mask(values: Tensor) -> Tensor | None:
    """Where `values` `[B, C, T, H, W]` are not finite in any channel, `[B, T, H, W]` bool; None if all are finite."""
    if math.isfinite(values.float().sum().item()):  # three times as fast as a test of each value
        return None
    mask = ~values.isfinite().all(1)
    return mask if bool(mask.any()) else None


def without_not_finite(values: Tensor) -> Tensor:
    """Returns `values` with 0 in place of NaN and infinity, which a decoder would spread."""
    return torch.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def share_of(mask: Tensor | None) -> float:
    """The marked share of a picture, 0 to 1."""
    return 0.0 if mask is None else mask.float().mean().item()


def percent(share: float) -> str:
    """`100 %`, `37 %`; `less than 1 %` for a small share."""
    return "less than 1 %" if share < 0.01 else f"{share * 100:.0f} %"


def mark_pixels(pixels: np.ndarray, mask: Tensor) -> None:
    """Draws a checkered pattern over the marked parts of `pixels` `[B, T, H, W, 3]` uint8, in place.

    Args:
        pixels: picture; its frames and size may be multiples of those of the mask.
        mask: `[B, t, h, w]` bool.
    """
    _, frames, height, width, _ = pixels.shape
    side = max(1, min(height, width) // CHECKS)
    rows, columns = np.ogrid[:height, :width]
    pattern = np.array(COLORS, np.uint8)[(rows // side + columns // side) % 2]
    for axis, length in ((1, frames), (2, height), (3, width)):
        index = torch.arange(length, device=mask.device) * mask.shape[axis] // length
        mask = mask.index_select(axis, index)
    marked = mask.cpu().numpy()
    pixels[marked] = np.broadcast_to(pattern, pixels.shape)[marked]
