"""Polynomials of the latents: linear, affine, quadratic or cubic, per pixel or over a neighborhood.

    degree 1, no constant      rgb = A x
    degree 1                   rgb = A x + B
    degree 2                   rgb = A x² + B x + C
    degree 3                   rgb = A x³ + B x² + C x + D

where x² and x³ stand for all products of two and three channels. With `kernel` k each term covers the k x k latent
pixels around it, with replicated borders. With `subpixel` r each latent pixel becomes r x r image pixels.
With `overall` the constant depends on the mean of the latents over the whole image, C + M mean(x): VAEs normalize over
the whole image, so the meaning of one latent pixel depends on the others. In FLUX.2's space this gains 2 dB.

Source: https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204
"""

from functools import reduce
from itertools import combinations_with_replacement
from math import comb
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Net

DEGREES = (1, 2, 3)
MAX_SUBPIXEL = 64  # no VAE upscales by more


def monomials(channels: int, degree: int) -> list[tuple[int, ...]]:
    """Returns the channel indices of each product up to `degree`, in the order of `weight`: by degree, then index."""
    return [m for d in range(1, degree + 1) for m in combinations_with_replacement(range(channels), d)]


def count_features(channels: int, degree: int) -> int:
    """Counts the products of `monomials`: C, C + C(C+1)/2, and so on."""
    return sum(comb(channels + d - 1, d) for d in range(1, degree + 1))


@final
class Polynomial(Net):
    """A polynomial of the latents as one convolution over their products.

    Args:
        channels: C of the latents.
        degree: 1, 2 or 3.
        constant: whether there is a constant term.
        kernel: k, odd.
        subpixel: r, at most `MAX_SUBPIXEL`.
        overall: whether the constant depends on the mean over the whole image.
    """

    def __init__(
        self,
        channels: int,
        *,
        degree: int = 1,
        constant: bool = True,
        kernel: int = 1,
        subpixel: int = 1,
        overall: bool = False,
    ) -> None:
        super().__init__()
        if degree not in DEGREES:
            raise ValueError(f"expected a degree among {DEGREES}, got {degree}")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"expected an odd kernel, which has a center, got {kernel}")
        if not 1 <= subpixel <= MAX_SUBPIXEL:
            raise ValueError(f"expected a subpixel of 1 to {MAX_SUBPIXEL}, got {subpixel}")
        self.channels, self.degree, self.scale = channels, degree, subpixel
        outputs = 3 * subpixel**2
        self.weight = nn.Parameter(torch.zeros(outputs, count_features(channels, degree), kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if constant else None
        self.overall = nn.Parameter(torch.zeros(outputs, channels)) if overall else None
        self._indices: list[Tensor] = []

    def rescale(self, black: float, white: float) -> None:
        constant = self.weight.new_zeros(len(self.weight)) if self.bias is None else self.bias.data
        self.bias = nn.Parameter((constant - black) / (white - black))
        self.weight.data /= white - black
        if self.overall is not None:
            self.overall.data /= white - black

    def forward(self, latents: Tensor) -> Tensor:
        constant = self._constant(latents)
        if self.weight.shape[-1] > 1:
            reach = self.weight.shape[-1] // 2
            rgb = F.conv2d(F.pad(self.products(latents), (reach,) * 4, mode="replicate"), self.weight)
            rgb = rgb if constant is None else rgb.add_(constant[..., None])
        elif self.degree == 2 and len(self.weight) == 3:
            rgb = self._nest(latents, constant)
        else:
            rgb = _mix(self.weight[:, :, 0, 0], self.products(latents), constant)
        return F.pixel_shuffle(rgb, self.scale) if self.scale > 1 else rgb

    def _constant(self, latents: Tensor) -> Tensor | None:
        """The constant term, `[B or 1, outputs, 1]`."""
        constant = None if self.bias is None else self.bias[None, :, None]
        if self.overall is None:
            return constant
        overall = F.linear(latents.mean((2, 3)), self.overall)[:, :, None]
        return overall if constant is None else overall + constant

    def products(self, latents: Tensor) -> Tensor:
        """Computes the products of `monomials`, `[B, F, H, W]`."""
        if self.degree == 1:
            return latents
        if not self._indices or self._indices[0].device != latents.device:
            products = monomials(latents.shape[1], self.degree)
            self._indices = [
                torch.tensor([m for m in products if len(m) == d], device=latents.device).T
                for d in range(2, self.degree + 1)
            ]
        higher = [reduce(torch.mul, (latents[:, channel] for channel in factors)) for factors in self._indices]
        return torch.cat([latents, *higher], dim=1)

    def _nest(self, latents: Tensor, constant: Tensor | None) -> Tensor:
        """Computes `A x² + B x + C` as `x (A x + B) + C`, without storing the products: 528 for 32 channels."""
        channels = latents.shape[1]
        weight = self.weight[:, :, 0, 0]
        upper = torch.triu_indices(channels, channels, device=weight.device)
        matrices = weight.new_zeros(3, channels, channels)
        matrices[:, upper[0], upper[1]] = weight[:, channels:]
        factors = _mix(matrices.flatten(0, 1), latents, weight[:, :channels].reshape(1, -1, 1))
        rgb = factors.unflatten(1, (3, channels)).mul_(latents[:, None]).sum(2)
        return rgb if constant is None else rgb.add_(constant[..., None])


def _mix(matrix: Tensor, x: Tensor, constant: Tensor | None) -> Tensor:
    """Multiplies `matrix` `[n, F]` with the features of each pixel of `x` `[B, F, H, W]`; returns `[B, n, H, W]`.

    One matrix product: a 1x1 convolution is up to ten times slower, because it waits for a second core.
    """
    rows, many = x.flatten(2), matrix.expand(len(x), -1, -1)
    mixed = many @ rows if constant is None else torch.baddbmm(constant, many, rows)
    return mixed.unflatten(2, x.shape[2:])
