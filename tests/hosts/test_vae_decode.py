"""The conversion between model space and what VAEs decode."""

from types import SimpleNamespace

import pytest
import torch
from safelight.hosts.vae_decode import from_vae, to_vae
from torch import nn


def vae(channels=4, norm=False, **config):
    module = SimpleNamespace(config=config, named_buffers=lambda recurse: [])
    if norm:
        module.bn = nn.BatchNorm2d(4 * channels, affine=False)
        module.bn.running_mean.uniform_(-1, 1)
        module.bn.running_var.uniform_(0.5, 4)
        config["batch_norm_eps"] = 1e-4
    return module


@pytest.mark.parametrize(
    ("module", "shifts"),
    [
        (vae(), True),
        (vae(scaling_factor=0.18215), True),
        (vae(scaling_factor=0.3611, shift_factor=0.1159), True),
        (vae(scaling_factor=0.3611, shift_factor=0.1159), False),
        (vae(latents_mean=[0.1, 0.2, 0.3, -0.4], latents_std=[1.0, 2.0, 3.0, 0.5], scaling_factor=0.5), True),
        (vae(norm=True), True),
    ],
)
def test_what_a_vae_decodes_is_converted_back(module, shifts):
    latents = torch.randn(2, 4, 1, 6, 8, generator=torch.Generator().manual_seed(1))
    decoded = to_vae(module, latents, shifts=shifts)
    assert torch.allclose(from_vae(module, decoded, shifts=shifts), latents, atol=1e-5)
    assert torch.equal(decoded, latents) is (not module.config)
