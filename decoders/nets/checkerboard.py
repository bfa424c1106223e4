"""Shows transparent pictures over a checkerboard."""

import torch
from torch import Tensor

CHECK_SIDE_PX = 16
DARK, LIGHT = 0.4, 0.6  # brightness of the checks, 0..1
RGBA_CHANNELS = 4


def over_checkerboard(x: Tensor) -> Tensor:
    """Returns `rgb` `[B, 3, H, W]` of `x`, which is RGB or RGBA `[B, 4, H, W]` with straight alpha, in 0..1."""
    if x.shape[1] != RGBA_CHANNELS:
        return x
    rgb, alpha = x[:, :3].clamp(0, 1), x[:, 3:].clamp(0, 1)
    rows, columns = (torch.arange(side, device=x.device) // CHECK_SIDE_PX for side in x.shape[2:])
    light = (rows[:, None] + columns) % 2 == 0
    board = torch.where(light, LIGHT, DARK).to(x.dtype)
    return board + alpha * (rgb - board)
