"""The `export` command."""

import pytest
import torch
from safelight.cli.main import main
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.files.decoder_file import read_card, read_decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.taesd import taesd
from safelight.fitting.pairs import Pairs
from safetensors import safe_open


@pytest.fixture
def pairs(tmp_path):
    generator = torch.Generator().manual_seed(0)
    small = torch.rand((6, 3, 12, 12), generator=generator)
    pixels = small.mul(255).to(torch.uint8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    path = tmp_path / "pairs.safetensors"
    Pairs(torch.cat([small * 2 - 1, small[:, :1]], dim=1), pixels, tuple(f"{i:012x}" for i in range(1, 7))).save(path)
    return path


def test_a_net_in_taesds_shape_is_read_back_with_the_same_picture(tmp_path, pairs, capsys):
    arguments = ["export", "--space", "sdxl", "--taesd", "--pairs", str(pairs), "--steps", "1", "--out", str(tmp_path)]
    assert main(arguments) == 0
    path = tmp_path / "taesdxl_decoder.safetensors"
    decoder, card = read_decoder(path), read_card(path)
    assert (card.kind, card.channels, card.scale) == ("tiny", 4, 8)
    assert card.settings["layers"] == taesd(4)
    with safe_open(path, "pt") as file:
        keys, state = set(file.keys()), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert {"1.weight", "1.bias", "3.conv.0.weight", "7.weight", "19.bias"} - keys == {"7.weight"} - keys
    latents = Pairs.load(pairs).latents[:1].float()
    assert torch.equal(decoder.decode(latents), reference(state, latents).clamp(0, 1))
    printed = capsys.readouterr().out
    assert "taesdxl_decoder.safetensors: for Stable Diffusion XL (sdxl)" in printed
    assert "put it into ComfyUI's models/vae_approx" in printed
    assert main(arguments) == 2
    assert "this file exists, and is not overwritten" in capsys.readouterr().err


@torch.no_grad()
def reference(state, latents):
    """TAESD's decoder, written out.

    Source: https://github.com/madebyollin/taesd/blob/5cccb12dc72074a4be35680c3b108548a7c69978/taesd.py
    """
    conv = torch.nn.functional.conv2d

    def layer(x, name):
        return conv(x, state[f"{name}.weight"], state.get(f"{name}.bias"), padding=1)

    def block(x, name):
        y = layer(x, f"{name}.conv.0").relu()
        return (layer(layer(y, f"{name}.conv.2").relu(), f"{name}.conv.4") + x).relu()

    x = layer(torch.tanh(latents / 3) * 3, "1").relu()
    for first in (3, 8, 13):
        for number in range(first, first + 3):
            x = block(x, str(number))
        x = layer(torch.nn.functional.interpolate(x, scale_factor=2), str(first + 4))
    return layer(block(x, "18"), "19")


def test_a_space_that_taesd_does_not_fit_is_refused_before_the_work(tmp_path, capsys):
    assert main(["export", "--space", "sana", "--taesd", "--out", str(tmp_path)]) == 2
    assert "TAESD's shape enlarges 8 times" in capsys.readouterr().err


def test_a_table_is_printed_as_python(capsys):
    assert main(["export", "--space", "flux1", "--latent2rgb", "--decoder", "flux1-affine-comfyui"]) == 0
    names = {}
    exec(capsys.readouterr().out, names)
    decoder = Catalogue().candidates(SPACES["flux1"], "flux1-affine-comfyui")[0].open()
    factors, bias = torch.tensor(names["latent_rgb_factors"]), torch.tensor(names["latent_rgb_factors_bias"])
    assert factors.shape == (16, 3)
    latents = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0))
    rgb = (torch.einsum("bchw,cr->brhw", latents, factors) + bias[:, None, None] + 1) / 2
    assert (rgb.clamp(0, 1) - decoder.decode(latents)).abs().max() < 1e-3


def test_more_than_a_table_needs_pairs(tmp_path, pairs, capsys):
    arguments = ["export", "--space", "sd1", "--latent2rgb", "--decoder", "sd1-conv-small"]
    assert main(arguments) == 2
    assert "sd1-conv-small is more than a table" in capsys.readouterr().err
    out = tmp_path / "table.py"
    assert main([*arguments, "--pairs", str(pairs), "--out", str(out)]) == 0
    assert "fitted to sd1-conv-small: colors in -1..1 from latents in model space" in out.read_text(encoding="utf-8")
    assert main([*arguments, "--pairs", str(pairs), "--out", str(out)]) == 2
    assert "is not overwritten" in capsys.readouterr().err
