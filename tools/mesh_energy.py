"""Measures the mesh that a decoder in sub-pixels draws over smooth parts of a picture.

Such a decoder creates each group of sub-pixels from one latent pixel, with other weights for each sub-pixel. Where they
do not agree, the group repeats as a mesh: energy at multiples of the latents' own frequency.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FitError

WINDOW = 8  # latent pixels along one side over which a mesh repeats; textures rarely do


def mesh_energy(rgb: Tensor, subpixel: int) -> Tensor:
    """Energy of pictures at the frequencies of their sub-pixel grid, `[B]`: mean square, in units of 0..1 squared.

    Args:
        rgb: pictures `[B, 3, h*subpixel, w*subpixel]`; their border, one latent pixel wide, does not count.
        subpixel: sub-pixels along one side of a latent pixel, at least 2.

    Raises:
        FitError: the pictures are smaller than the window.
    """
    least = (WINDOW + 2) * subpixel
    if min(rgb.shape[2:]) < least:
        raise FitError(
            f"expected pictures of at least {least} pixels a side to measure a mesh of {subpixel} pixels, "
            f"got {rgb.shape[3]}x{rgb.shape[2]}"
        )
    return repeating_part(rgb, subpixel).square().mean((1, 2, 3))


def mesh_levels(rgb: Tensor, subpixel: int) -> float:
    """RMS of the mesh over all pictures, in levels of 255."""
    return 255 * float(mesh_energy(rgb, subpixel).mean().sqrt())


def repeating_part(rgb: Tensor, subpixel: int) -> Tensor:
    """The sub-pixel groups that repeat, `[B, 3*subpixel², h', w']`: means over windows, at every half window."""
    inner = rgb[..., subpixel:-subpixel, subpixel:-subpixel]
    groups = F.pixel_unshuffle(inner - _smoothed(rgb, subpixel), subpixel)
    return F.avg_pool2d(groups, WINDOW, stride=WINDOW // 2)


def _smoothed(rgb: Tensor, subpixel: int) -> Tensor:
    """Removes exactly the frequencies of the grid, without the border; a slope stays, so it is no part of a mesh."""
    box = rgb.new_full((1, 1, subpixel), 1 / subpixel)
    tent = F.conv1d(box, box, padding=subpixel - 1).flatten()
    channels = rgb.shape[1]
    return F.conv2d(rgb, torch.outer(tent, tent).expand(channels, 1, -1, -1), groups=channels)[..., 1:-1, 1:-1]
