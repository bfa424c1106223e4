"""Decodes of made-up VAEs, and a folder that learns from them."""

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space_table import SPACES
from safelight.fitting.online.learned_files import LearnedFiles
from safelight.fitting.online.state import DecodedPair
from safelight.fitting.online.update import learn_from_decode

VAE = "a1b2c3d4e5f6"


@pytest.fixture
def decode():
    """Decodes as a made-up VAE: colors depend on a latent pixel and its neighbors. Another seed is another VAE."""

    def decode(latents, vae_seed=5):
        generator = torch.Generator().manual_seed(vae_seed)
        kernel = torch.randn(3, latents.shape[1], 3, 3, generator=generator) * 0.02
        kernel[:, :, 1, 1] += torch.randn(3, latents.shape[1], generator=generator) * 0.06
        return (0.5 + F.conv2d(F.pad(latents, (1,) * 4, mode="replicate"), kernel)).clamp(0, 1)

    return decode


@pytest.fixture
def decoded(decode):
    """Makes a decode of smooth latents with grain."""

    def make(seed, size=(24, 32), channels=4, batch=1, vae_seed=5):
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.randn(batch, channels, 5, 5, generator=generator)
        latents = F.interpolate(coarse, size=size, mode="bicubic")
        latents = latents + 0.1 * torch.randn(batch, channels, *size, generator=generator)
        return DecodedPair(latents, decode(latents, vae_seed))

    return make


@pytest.fixture
def learn(decoded):
    """Learns from the decodes of some seeds, and returns the texts for the user."""

    def learn(folder, seeds, space=SPACES["sdxl"], evidence=None, *, vae=VAE, **kwargs):
        return [
            learn_from_decode(folder, space, decoded(seed, **kwargs), Catalogue([folder]), evidence, vae=vae)
            for seed in seeds
        ]

    return learn


@pytest.fixture
def files(tmp_path):
    """The files of SDXL's space and the first made-up VAE."""
    return LearnedFiles(tmp_path, "sdxl", VAE)
