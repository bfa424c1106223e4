"""The tools that measure the mesh of a decoder and train one on without it."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safelight.decoders.decoder import Card, Decoder
from safelight.decoders.files.decoder_file import read_card
from safelight.decoders.nets.conv import Conv
from safelight.fitting.encoders import ENCODERS
from safelight.fitting.pairs import Pairs
from safelight.fitting.procedural_images import generate_images
from safelight.fitting.train import Recipe
from safelight.tools import mesh, refine_decoder
from safelight.tools.mesh import blur, mesh_rows, smooth_pairs
from safelight.tools.mesh_energy import mesh_levels
from safelight.tools.refine_decoder import Halfway, learning_rate, refine, smooth_crops, soft_latents

DOWNSCALE, CHANNELS = 8, 4


def encode(rgb):
    """A linear VAE: the mean color of each latent pixel, and its brightness again."""
    small = F.avg_pool2d(rgb, DOWNSCALE)
    return torch.cat([small - 0.5, small.mean(1, keepdim=True) - 0.5], 1)


@pytest.fixture(scope="module")
def photographs():
    pixels = torch.stack([torch.from_numpy(image).movedim(-1, 0) for image in generate_images(6, 128, seed=4)])
    return Pairs(encode(pixels.float() / 255), pixels)


@pytest.fixture
def meshed():
    """A decoder to twice the latent size whose sub-pixels do not agree."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Conv(CHANNELS, (6,), subpixel=2, linear_kernel=3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.1)
        net.linear.weight[:, :, 1, 1] = torch.eye(CHANNELS)[:3].repeat_interleave(4, 0)
        net.linear.bias.copy_(0.5 + 0.02 * torch.tensor([1.0, -1.0, 1.0, -1.0]).repeat(3))
    return net


def test_smooth_crops_are_encoded_pictures_without_detail(photographs):
    smooth = smooth_crops(photographs, encode, 5, 64, seed=0)
    assert (len(smooth), smooth.pixels.shape[2:]) == (5, (64, 64))
    assert torch.allclose(encode(smooth.pixels.float() / 255), smooth.latents.float(), atol=1e-3)
    again = smooth_crops(photographs, encode, 5, 64, seed=0)
    assert torch.equal(again.pixels, smooth.pixels)
    rgb = smooth.rgb(DOWNSCALE)
    assert (rgb[..., 1:] - rgb[..., :-1]).abs().mean() < 0.01


def test_a_blur_keeps_the_mean_and_a_flat_picture(photographs):
    rgb = photographs.pixels.float()
    for sigma in (2.0, 6.0, 20.0):
        assert torch.allclose(blur(torch.full((1, 3, 40, 50), 255.0), sigma), torch.tensor(255.0), atol=1e-3)
        blurred = blur(rgb, sigma)
        assert (blurred.mean((2, 3)) - rgb.mean((2, 3))).abs().max() < 8
        assert 0 <= blurred.min() <= blurred.max() <= 255


def test_soft_latents_are_smoother_than_those_of_photographs(photographs):
    soft = soft_latents(photographs.latents, 7, torch.Generator().manual_seed(0))
    assert soft.shape == (7, CHANNELS, 16, 16)

    def steps(latents):
        return (latents[..., 1:] - latents[..., :-1]).abs().mean()

    assert steps(soft) < 0.5 * steps(photographs.latents)


def test_training_on_removes_the_mesh_and_keeps_the_colors(photographs, meshed, monkeypatch):
    monkeypatch.setattr(refine_decoder, "SMOOTH", 2)
    smooth = smooth_crops(photographs, encode, 8, 96, seed=1)
    soft = Halfway.of(soft_latents(photographs.latents, 4, torch.Generator().manual_seed(0)), meshed)
    before = {name: tensor.clone() for name, tensor in meshed.state_dict().items()}
    reports = []
    recipe = Recipe(steps=60, batch=2, lr=4e-3)
    refined = refine(meshed, photographs, smooth, (soft, soft), recipe, lambda step, _: reports.append(step))
    assert reports == [60]
    assert all(torch.equal(before[name], tensor) for name, tensor in meshed.state_dict().items()), "it trains a copy"
    with torch.no_grad():
        old, new = meshed(smooth.latents.float()), refined(smooth.latents.float())
    assert mesh_levels(new, 2) < 0.25 * mesh_levels(old, 2)
    truth = smooth.rgb(2)
    assert (new - truth).square().mean() < (old - truth).square().mean()
    assert not any(parameter.requires_grad for parameter in refined.parameters())
    with torch.no_grad():
        colors = F.avg_pool2d(refined(soft.latents), 2)
    assert (colors - soft.colors).abs().mean() < 0.03


def test_the_learning_rate_is_held_and_then_falls_to_nothing():
    rates = [learning_rate(step, 1000, 0.5) for step in (0, 49, 499, 750, 1000)]
    assert rates == pytest.approx([0.02, 1, 1, 0.5, 0], abs=0.01)
    assert learning_rate(999, 1000, 1.0) == 1


def test_the_mesh_is_listed_for_each_case_beside_the_target(photographs, meshed):
    decoder = Decoder(Card(name="meshed", space="sd1", kind="conv", channels=CHANNELS, scale=2), meshed)
    cases = iter([("smooth pictures", smooth_pairs(photographs, encode)), ("photographs", photographs)])
    rows = list(mesh_rows([decoder], cases))
    assert [(case, name) for case, name, *_ in rows] == [("smooth pictures", "meshed"), ("photographs", "meshed")]
    assert rows[0][2] > 3 > 0.5 > rows[0][3]


@pytest.fixture
def encoder(tmp_path):
    """A file with an encoder of random weights, of 32 channels."""
    path = tmp_path / "taef2_encoder.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        torch.save(ENCODERS["taef2"](32).state_dict(), path)
    return path


def test_the_command_prints_the_mesh_of_every_decoder_in_sub_pixels(tmp_path, encoder, capsys):
    for i, pixels in enumerate(generate_images(2, 128, seed=5)):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    arguments = ["--space", "flux2", "--encoder", encoder, "--images", tmp_path, "--size", 96]
    assert mesh.main(list(map(str, arguments))) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("on 2 crops of 96 px")
    names = {line[16:46].strip() for line in printed[1:]}
    assert names == {"flux2-conv-small", "flux2-conv-full", "flux2-affine-subpixel"}


def test_the_command_writes_a_decoder_that_names_the_command(tmp_path, encoder, monkeypatch, capsys):
    monkeypatch.setattr(refine_decoder, "SMOOTH_SIDE", 12)
    pixels = torch.stack([torch.from_numpy(image).movedim(-1, 0) for image in generate_images(2, 96, seed=6)])
    pairs = Pairs(torch.randn(2, 32, 12, 12, generator=torch.Generator().manual_seed(2)), pixels)
    pairs.save(tmp_path / "pairs.safetensors")
    out = tmp_path / "out.safetensors"
    arguments = ["flux2-conv-small", "--space", "flux2", "--pairs", tmp_path / "pairs.safetensors"]
    arguments += ["--encoder", encoder, "--choose", tmp_path / "pairs.safetensors"]
    arguments += ["--judge", tmp_path / "pairs.safetensors", "--smooth", 2, "--steps", 1, "--out", out]
    assert refine_decoder.main(list(map(str, arguments))) == 0
    card = read_card(out)
    assert "; then python -m safelight.tools.refine_decoder flux2-conv-small --space flux2" in card.source
    assert card.metrics["psnr_latent_db"] < 30
    assert "mesh" in capsys.readouterr().out
