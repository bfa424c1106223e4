"""A few small convolutions beside a linear one: the decoder that `fitting` trains.

The linear path alone is the best closed form over its neighbourhood; the other path adds what a linear map cannot. So a
net that is given latents unlike those it was fitted on errs by a correction, not by the whole picture.
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
    """`linear(x) + out(silu(conv(...silu(conv(x)))))`, the border repeated.

    A hidden layer after the first that is as wide as what it is given adds to it, instead of taking its place. With
    `overall`, each also sees the mean of what it is given over the whole picture: VAEs normalise over all of it, so
    what a latent pixel stands for depends on the others. It is worth more than many times the parameters.

    Args:
        channels: C, of the latents.
        widths: of the hidden layers, such as `(32, 32)`.
        kernel: of the hidden layers and the last, odd.
        subpixel: r, at most `MAX_SUBPIXEL`; every latent pixel becomes r x r picture pixels.
        overall: whether hidden layers see the whole picture.
        linear_kernel: of the linear path, odd.
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
            raise ValueError(f"expected odd kernels, so that they have a middle, got {kernel} and {linear_kernel}")
        if not 1 <= subpixel <= MAX_SUBPIXEL:
            raise ValueError(f"expected a subpixel of 1 to {MAX_SUBPIXEL}, got {subpixel}")
        if any(width < 1 for width in (channels, *widths)):
            raise ValueError(f"expected channels and widths from 1 up, got {channels} and {brief(widths)}")
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
