"""Latents of samplers, in common sizes."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoders.latents.space import LatentSpace
from ..decoders.latents.space_table import SPACES
from ..preview.snapshot import VIDEO_NDIM


class Case(NamedTuple):
    """The latents of a sampler.

    Args:
        space: name of their latent space.
        shape: shape in the sampler.
        table: name of the published table that the hosts' preview multiplies with.
    """

    space: str
    shape: tuple[int, ...]
    table: str

    @property
    def row(self) -> LatentSpace:
        return SPACES[self.space]

    def latents(self, device: str) -> Tensor:
        return picture_like(self.shape).to(device)


def picture_like(shape: tuple[int, ...]) -> Tensor:
    """Returns latents with large shapes and fine grain; their pictures take as long to encode as a photograph."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.randn((*shape[:2], *(max(1, side // 6) for side in shape[2:])), generator=generator)
    mode = "trilinear" if len(shape) == VIDEO_NDIM else "bicubic"
    return F.interpolate(coarse, size=shape[2:], mode=mode) + 0.3 * torch.randn(shape, generator=generator)


CASES: Mapping[str, Case] = {
    "SD1 64x64": Case("sd1", (1, 4, 64, 64), "sd1-linear-comfyui"),
    "SDXL 128x128": Case("sdxl", (1, 4, 128, 128), "sdxl-affine-comfyui"),
    "SDXL, batch of 8": Case("sdxl", (8, 4, 128, 128), "sdxl-affine-comfyui"),
    "FLUX.1 128x128": Case("flux1", (1, 16, 128, 128), "flux1-affine-comfyui"),
    "FLUX.2 128x128": Case("flux2", (1, 128, 64, 64), "flux2-affine-comfyui"),
    "Wan 2.1, 21 frames": Case("wan21", (1, 16, 21, 60, 104), "wan21-affine-comfyui"),
    "Wan 2.1, 81 frames": Case("wan21", (1, 16, 81, 60, 104), "wan21-affine-comfyui"),
}
