"""Pairs of a toy latent space that a linear decoder cannot quite read."""

import pytest
import torch
import torch.nn.functional as F
from safelight.fitting.pairs import Pairs


@pytest.fixture
def toy_pairs():
    """Makes `count` pairs: pictures of 16 x 16, latents of 8 x 8 with 4 channels, bent by a square root."""

    def make(count, seed=0):
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(count, 3, 5, 5, generator=generator)
        rgb = F.interpolate(coarse, size=(16, 16), mode="bilinear", align_corners=False)
        pixels = (rgb * 255).round().byte()
        mean = F.avg_pool2d(pixels.float() / 255, 2)
        return Pairs(torch.cat([4 * mean.sqrt() - 3, mean.prod(1, keepdim=True)], 1), pixels)

    return make


@pytest.fixture
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
