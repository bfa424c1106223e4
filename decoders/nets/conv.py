"""A linear convolution plus a few small nonlinear ones: the decoder that `fitting` trains.

The linear path is the best closed-form solution over its neighborhood. The nonlinear path adds what a linear map cannot
express. If the latents differ from those of the fit, only this correction is wrong, not the whole image.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import brief
from .base import MAX_LAYERS, Net
from .polynomial import MAX_SUBPIXEL

LINEAR_KERNEL = 5


@final
class Conv(Net):
    """`linear(x) + out(silu(conv(...silu(conv(x)))))`, with replicated borders.

    A hidden layer after the first is residual if its input and output widths are equal. With `overall`, each hidden
    layer also gets the mean of its input over the whole image: VAEs normalize over the whole image, so the meaning of
    one latent pixel depends on the others. This improves the image more than many times the parameters do.

    Args:
        channels: C of the latents.
        widths: channels of the hidden layers, such as `(32, 32)`.
        kernel: kernel size of the hidden layers and the last layer, odd.
        subpixel: r, at most `MAX_SUBPIXEL`; each latent pixel becomes r x r image pixels.
        overall: whether hidden layers get the mean over the whole image.
        linear_kernel: kernel size of the linear path, odd.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        *,
        kernel: int = 3,
        subpixel: int = 1,
        overall: bool = False,
        linear_kernel: int = LINEAR_KERNEL,
    ) -> None:
        super().__init__()
        if any(k < 1 or k % 2 == 0 for k in (kernel, linear_kernel)):
            raise ValueError(f"expected odd kernels, which have a center, got {kernel} and {linear_kernel}")
        if not 1 <= subpixel <= MAX_SUBPIXEL:
            raise ValueError(f"expected a subpixel of 1 to {MAX_SUBPIXEL}, got {subpixel}")
        if any(width < 1 for width in (channels, *widths)):
            raise ValueError(f"expected channels and widths of at least 1, got {channels} and {brief(widths)}")
        if len(widths) > MAX_LAYERS:
            raise ValueError(f"expected at most {MAX_LAYERS} hidden layers, got {len(widths):,}")
        self.channels, self.scale = channels, subpixel
        outputs = 3 * subpixel**2
        self.linear = _conv(channels, outputs, linear_kernel)
        sizes = (channels, *widths)
        self.hidden = nn.ModuleList(_conv(n_in, n_out, kernel) for n_in, n_out in pairwise(sizes))
        self.out = _conv(sizes[-1], outputs, kernel)
        self.overall = nn.ModuleList(nn.Linear(n_in, n_out, bias=False) for n_in, n_out in pairwise(sizes) if overall)

    def forward(self, latents: Tensor) -> Tensor:
        x = latents
        for i, conv in enumerate(self.hidden):
            y = conv(x)
            if self.overall:
                y = y + self.overall[i](x.mean((2, 3)))[:, :, None, None]
            y = F.silu(y)
            x = x + y if i > 0 and x.shape == y.shape else y
        rgb = self.linear(latents) + self.out(x)
        return F.pixel_shuffle(rgb, self.scale) if self.scale > 1 else rgb


def _conv(n_in: int, n_out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, padding_mode="replicate")
