"""`pairs`, `fit` and `compare`, as typed."""

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders.files import read_decoder
from safelight.decoders.space_table import SPACES
from safelight.fitting.pairs import Pairs
from safelight.hosts.cli import main
from safetensors.torch import save_file

SPACE = SPACES["flux2"]


@pytest.fixture
def pairs(tmp_path):
    """Latents whose first channels are the picture's colours: any rung can learn them."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand((10, 3, 12, 12), generator=generator)
    noise = torch.randn((10, SPACE.channels - 3, 12, 12), generator=generator)
    pixels = small.mul(255).to(torch.uint8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    path = tmp_path / "pairs.safetensors"
    Pairs(torch.cat([small * 2 - 1, noise], dim=1), pixels).save(path)
    return path


def test_fit_writes_a_decoder_that_says_where_it_came_from(tmp_path, pairs, capsys):
    out = tmp_path / "mine.safetensors"
    assert main(["fit", "--space", "flux2", "--pairs", str(pairs), "--kind", "affine", "--out", str(out)]) == 0
    decoder = read_decoder(out)
    assert (decoder.card.name, decoder.card.space, decoder.card.kind) == ("mine", "flux2", "polynomial")
    assert decoder.card.fitted_on == "10 pairs of pairs.safetensors"
    assert str(tmp_path) not in decoder.card.source
    assert decoder.card.metrics["psnr_latent_db"] > 30
    loaded = Pairs.load(pairs)
    assert (decoder.decode(loaded.latents) - loaded.rgb(1)).abs().max() < 0.05
    assert "flux2" in (printed := capsys.readouterr().out)
    assert "mine" in printed


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_fit_trains(tmp_path, pairs, kind):
    out = tmp_path / "net.safetensors"
    arguments = ["fit", "--space", "flux2", "--pairs", str(pairs), "--kind", kind, "--steps", "3", "--out", str(out)]
    assert main(arguments) == 0
    assert read_decoder(out).card.kind == kind


def test_pairs_are_encoded_from_pictures(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        latent_channels=4,
    )
    vae.save_pretrained(tmp_path / "vae")
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "pictures" / f"{i}.png")
    out = tmp_path / "pairs.safetensors"
    arguments = ["pairs", "--space", "sd1", "--encoder", str(tmp_path / "vae"), "--images", str(tmp_path / "pictures")]
    assert main([*arguments, "--size", "32", "--crops", "2", "--out", str(out)]) == 0
    pairs = Pairs.load(out)
    assert pairs.pixels.shape == (6, 3, 32, 32)
    rgb = pairs.rgb(pairs.downscale)
    expected = SPACES["sd1"].to_model(vae.eval().encode(rgb * 2 - 1).latent_dist.mode())
    assert torch.allclose(pairs.latents.float(), expected, atol=2e-3)


def test_compare_judges_every_decoder_on_the_same_pictures(pairs, capsys):
    assert main(["compare", "--space", "flux2", "--pairs", str(pairs)]) == 0
    printed = capsys.readouterr().out
    assert "flux2-affine-comfyui" in printed
    assert "flux2-affine-sdcpp" in printed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "say what to fit on: --encoder FILE [--images DIR], or --pairs FILE"),
        (["--pairs", "missing.safetensors"], "cannot be read"),
        (["--out", "mine.pth", "--pairs", "missing.safetensors"], "expected a folder, or a name that ends in .safetensors"),
    ],
)
def test_what_is_missing_is_told(capsys, arguments, told):
    assert main(["fit", "--space", "flux2", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_pairs_of_another_space_are_refused(tmp_path, pairs, capsys):
    assert main(["fit", "--space", "sd1", "--pairs", str(pairs), "--out", str(tmp_path / "x.safetensors")]) == 2
    assert "expected latents of 4 channels, found 32" in capsys.readouterr().err
    assert not (tmp_path / "x.safetensors").exists()


def test_pairs_that_are_none_are_refused(tmp_path, capsys):
    save_file({"latents": torch.zeros(1, 4, 2, 2)}, tmp_path / "half.safetensors")
    assert main(["fit", "--space", "sd1", "--pairs", str(tmp_path / "half.safetensors")]) == 2
    assert "pixels missing" in capsys.readouterr().err
