"""Image quality metrics of decoders."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FitError

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
# The PSNR of identical images: 8-bit images cannot agree better.
MAX_PSNR_DB = 60.0


def psnr_db(rgb: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, `[B]`, in dB, for `[B, 3, H, W]` in 0..1."""
    mse = (rgb.clamp(0, 1) - truth).square().mean((1, 2, 3))
    return -10 * torch.log10(mse.clamp(min=10 ** (-MAX_PSNR_DB / 10)))


def ssim(rgb: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each image, `[B]`, for `[B, 3, H, W]` in 0..1.

    Source: Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861, with its 11 x 11 Gaussian window.

    Raises:
        FitError: the images are smaller than the window.
    """
    if min(rgb.shape[2:]) < SSIM_WINDOW:
        raise FitError(f"expected images of at least {SSIM_WINDOW} pixels a side, got {rgb.shape[3]}x{rgb.shape[2]}")
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


def color_cast(rgb: Tensor, truth: Tensor) -> Tensor:
    """Error of the mean color of each image, `[B]`: the RMS over red, green and blue, in units of 0..1."""
    return (rgb - truth).mean((2, 3)).square().mean(1).sqrt()


def detail_rms(rgb: Tensor) -> Tensor:
    """RMS difference of each image `[B, 3, H, W]` from its own 3 x 3 blur, `[B]`, in units of 0..1."""
    return (rgb - F.avg_pool2d(F.pad(rgb, (1,) * 4, mode="replicate"), 3, stride=1)).square().mean((1, 2, 3)).sqrt()


def resize_rgb(rgb: Tensor, height: int, width: int) -> Tensor:
    """Resizes `rgb` `[B, 3, h, w]`: by averaging if it gets smaller, bicubic if it gets larger."""
    if rgb.shape[2] > height:
        return F.interpolate(rgb, size=(height, width), mode="area")
    if rgb.shape[2] < height:
        return F.interpolate(rgb, size=(height, width), mode="bicubic", align_corners=False).clamp(0, 1)
    return rgb
