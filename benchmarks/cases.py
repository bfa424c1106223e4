"""The latents that samplers hand over, at the sizes people use."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ..decoders.space_table import SPACES
from ..decoders.spaces import LatentSpace


class Case(NamedTuple):
    """A sampler's tensor.

    Args:
        space: name of its latent space.
        shape: as the sampler has it.
        textbook: name of the published table that the textbook way multiplies with.
    """

    space: str
    shape: tuple[int, ...]
    textbook: str

    @property
    def row(self) -> LatentSpace:
        return SPACES[self.space]

    def latents(self, device: str) -> Tensor:
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(0)).to(device)


CASES: Mapping[str, Case] = {
    "SD1 64x64": Case("sd1", (1, 4, 64, 64), "sd1-linear-comfyui"),
    "SDXL 128x128": Case("sdxl", (1, 4, 128, 128), "sdxl-affine-comfyui"),
    "SDXL, batch of 8": Case("sdxl", (8, 4, 128, 128), "sdxl-affine-comfyui"),
    "FLUX.1 128x128": Case("flux1", (1, 16, 128, 128), "flux1-affine-comfyui"),
    "FLUX.2 128x128": Case("flux2", (1, 128, 64, 64), "flux2-affine-comfyui"),
    "Wan 2.1, 21 frames": Case("wan21", (1, 16, 21, 60, 104), "wan21-affine-comfyui"),
    "Wan 2.1, 81 frames": Case("wan21", (1, 16, 81, 60, 104), "wan21-affine-comfyui"),
}
