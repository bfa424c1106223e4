"""Compares the VAE-approx net with its published forward, reimplemented from its description."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.files.decoder_file import read_decoder
from safetensors.torch import save_file

SHAPES = [(8, None, 7), (16, 8, 5), (32, 16, 3), (64, 32, 3), (32, 64, 3), (16, 32, 3), (8, 16, 3), (3, 8, 3)]


def random_state(channels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for i, (n_out, n_in, kernel) in enumerate(SHAPES, 1):
        n_in = n_in or channels
        spread = 1.4 / (n_in * kernel**2) ** 0.5
        state[f"conv{i}.weight"] = torch.randn(n_out, n_in, kernel, kernel, generator=generator) * spread
        state[f"conv{i}.bias"] = torch.randn(n_out, generator=generator) * 0.1
    return state


def reference(state, latents):
    """Decodes to -1..1 at twice the size: pads once, then each unpadded convolution removes a part of the padding."""
    x = torch.from_numpy(np.kron(latents.numpy(), np.ones((1, 1, 2, 2), np.float32)))
    x = F.pad(x, (11, 11, 11, 11), value=0.0)
    for i in range(1, 9):
        x = F.conv2d(x, state[f"conv{i}.weight"], state[f"conv{i}.bias"])
        x = torch.where(x > 0, x, x * 0.1)
    return x


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("channels", [4, 16])
def test_a_published_file_decodes_like_the_published_forward(tmp_path, channels, suffix):
    state = random_state(channels)
    path = tmp_path / f"model{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)

    decoder = read_decoder(path)
    latents = torch.randn(2, channels, 6, 9, generator=torch.Generator().manual_seed(1))
    expected = ((reference(state, latents) + 1) / 2).clamp(0, 1)
    assert expected.std() > 0.05  # otherwise two gray images would be equal
    torch.testing.assert_close(decoder.decode(latents), expected, rtol=1e-4, atol=1e-5)
    assert (decoder.card.kind, decoder.scale, decoder.decode(latents).shape) == ("approx", 2, (2, 3, 12, 18))
    assert "VAE-approx" in decoder.card.source
