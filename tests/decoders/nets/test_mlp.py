"""Compares the per-pixel network with the published one: `nn.Linear` over channels-last pixels."""

import pytest
import torch
from safelight.decoders.files.decoder_file import read_decoder
from safelight.decoders.nets.mlp import Mlp
from safelight.errors import DecoderFileError
from safetensors.torch import save_file
from torch import nn


class Published(nn.Module):
    """Linear layers over the last axis with the published keys; each second hidden layer is an activation."""

    def __init__(self, channels=4, width=12, hidden=1, colors=3):
        super().__init__()
        self.in_proj = nn.Linear(channels, width)
        pairs = ((nn.Linear(width, width), nn.SiLU()) for _ in range(hidden))
        self.hidden_layers = nn.Sequential(*(layer for pair in pairs for layer in pair))
        self.out_proj = nn.Linear(width, colors)

    def forward(self, latents):
        x = nn.functional.silu(self.in_proj(latents.permute(0, 2, 3, 1)))
        return self.out_proj(self.hidden_layers(x)).permute(0, 3, 1, 2)


def published(seed=0, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Published(**kwargs)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("channels", "width", "hidden"), [(4, 12, 1), (4, 12, 0), (4, 24, 2), (16, 64, 3), (4, 8, 11)], ids=str
)
def test_a_published_file_decodes_like_its_linear_layers(tmp_path, channels, width, hidden, suffix):
    reference = published(channels=channels, width=width, hidden=hidden)
    path = tmp_path / f"anything{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(reference.state_dict(), path)

    decoder = read_decoder(path)
    latents = torch.randn(2, channels, 5, 7, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = (reference(latents) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(decoder.decode(latents), expected, rtol=1e-5, atol=1e-5)
    assert decoder.card.kind == "mlp"
    assert decoder.card.settings["widths"] == (channels, *[width] * (hidden + 1), 3)
    assert decoder.card.parameters == sum(p.numel() for p in reference.parameters())
    assert "Birch-san" in decoder.card.source


def test_an_encoder_with_the_same_layout_is_refused(tmp_path):
    torch.save(published(channels=3, colors=4).state_dict(), tmp_path / "decoder.pt")
    with pytest.raises(DecoderFileError, match=r"3 for RGB, got \(3, 12, 12, 4\)"):
        read_decoder(tmp_path / "decoder.pt")


@pytest.mark.parametrize("widths", [(), (3,), (4, 12), (4, 12, 4)], ids=str)
def test_widths_that_do_not_end_in_rgb_are_refused(widths):
    with pytest.raises(ValueError, match="3 for RGB, got"):
        Mlp(widths)


def test_a_net_without_hidden_layers_is_an_affine_map():
    with torch.random.fork_rng():
        net = Mlp((4, 3))
    x = torch.randn(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    weight, bias = net.layers[0].weight[:, :, 0, 0], net.layers[0].bias
    torch.testing.assert_close(net(x), torch.einsum("bchw,rc->brhw", x, weight) + bias[:, None, None])
