"""How truthful a decoder is."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FitError

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
# Of no error at all: in 8 bits pictures cannot agree better.
MAX_PSNR_DB = 60.0


def psnr_db(rgb: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture, `[B]`, in dB, of `[B, 3, H, W]` in 0..1."""
    mse = (rgb.clamp(0, 1) - truth).square().mean((1, 2, 3))
    return -10 * torch.log10(mse.clamp(min=10 ** (-MAX_PSNR_DB / 10)))


def ssim(rgb: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each picture, `[B]`, of `[B, 3, H, W]` in 0..1.

    Source: Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861, with its 11 x 11 Gaussian window.

    Raises:
        FitError: they are smaller than the window.
    """
    if min(rgb.shape[2:]) < SSIM_WINDOW:
        raise FitError(f"expected pictures of at least {SSIM_WINDOW} pixels a side, got {rgb.shape[3]}x{rgb.shape[2]}")
    offsets = torch.arange(SSIM_WINDOW, dtype=rgb.dtype, device=rgb.device) - SSIM_WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    window = window / window.sum()
    kernel = (window[:, None] * window).expand(rgb.shape[1], 1, -1, -1)

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=x.shape[1])

    x, y = rgb.clamp(0, 1), truth
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return similarity.mean((1, 2, 3))


def cast(rgb: Tensor, truth: Tensor) -> Tensor:
    """How far the mean colour of each picture is off, `[B]`: the RMS of red, green and blue, of 0..1."""
    return (rgb - truth).mean((2, 3)).square().mean(1).sqrt()


def detail(rgb: Tensor) -> Tensor:
    """How much each picture `[B, 3, H, W]` differs from its own blur over 3 x 3 pixels, `[B]`: RMS, of 0..1."""
    return (rgb - F.avg_pool2d(F.pad(rgb, (1,) * 4, mode="replicate"), 3, stride=1)).square().mean((1, 2, 3)).sqrt()


def at_size(rgb: Tensor, height: int, width: int) -> Tensor:
    """A decoder's `rgb` `[B, 3, h, w]` at another size: averaged when smaller, bicubic when larger."""
    if rgb.shape[2] > height:
        return F.interpolate(rgb, size=(height, width), mode="area")
    if rgb.shape[2] < height:
        return F.interpolate(rgb, size=(height, width), mode="bicubic", align_corners=False).clamp(0, 1)
    return rgb
