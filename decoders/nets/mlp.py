"""A small multilayer perceptron that maps each latent pixel to a color, independent of its neighbors.

Source: https://github.com/Birch-san/diffusers-play (4-12-12-3 with SiLU), any depth and width here.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import brief
from .base import MAX_LAYERS, Net


@final
class Mlp(Net):
    """Linear layers with SiLU between them, computed as 1x1 convolutions.

    Args:
        widths: channels of the latents, of each hidden layer, and 3; such as `(4, 12, 12, 3)`.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        if len(widths) < 2 or widths[-1] != 3:
            raise ValueError(f"expected latent channels, hidden widths if any, and 3 for RGB, got {brief(widths)}")
        if len(widths) > MAX_LAYERS + 2:
            raise ValueError(f"expected at most {MAX_LAYERS} hidden widths, got {len(widths) - 2:,}")
        self.channels = widths[0]
        self.layers = nn.ModuleList(nn.Conv2d(n_in, n_out, 1) for n_in, n_out in pairwise(widths))

    def rescale(self, black: float, white: float) -> None:
        weight, bias = self.layers[-1].parameters()
        bias.data = (bias.data - black) / (white - black)
        weight.data /= white - black

    def forward(self, latents: Tensor) -> Tensor:
        x = latents
        for layer in self.layers[:-1]:
            x = F.silu(layer(x))
        return self.layers[-1](x)
