"""Model space latents of VAEs, against diffusers."""

import diffusers
import pytest
import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import FitError
from safelight.hosts.vae_encode import encode_with_vae, vae_encoding

from .. import older

RGB = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(3))


def random_vae(kind, **settings):
    """Creates a VAE with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(**settings).eval().requires_grad_(False)


def kl(kind=diffusers.AutoencoderKL, channels=4, **settings):
    return random_vae(
        kind,
        latent_channels=channels,
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        **settings,
    )


def video_vae(kind):
    return random_vae(kind, base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


@pytest.mark.parametrize(("name", "channels"), [("sd1", 4), ("sdxl", 4), ("sd3", 16), ("flux1", 16), ("cogview4", 16)])
def test_latents_are_the_scaled_and_shifted_mode_of_an_autoencoder(name, channels):
    vae, space = kl(channels=channels), SPACES[name]
    expected = (vae.encode(RGB * 2 - 1).latent_dist.mode() - space.shift) * space.scale
    torch.testing.assert_close(encode_with_vae(vae, space, RGB), expected)


def test_latents_of_a_tiny_autoencoder_are_in_model_space():
    vae = random_vae(
        diffusers.AutoencoderTiny,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    torch.testing.assert_close(encode_with_vae(vae, SPACES["sd1"], RGB), vae.encode(RGB * 2 - 1).latents)


def test_latents_of_flux2_are_normalized_in_patches():
    older.expect(older.diffusers_has("Flux2Pipeline"), "diffusers", diffusers.__version__, "Flux2Pipeline")
    vae, pipeline = kl(diffusers.AutoencoderKLFlux2, channels=32), diffusers.Flux2Pipeline
    generator = torch.Generator().manual_seed(4)
    vae.bn.running_mean.copy_(torch.randn(128, generator=generator))
    vae.bn.running_var.copy_(torch.rand(128, generator=generator) + 0.5)
    packed = pipeline._patchify_latents(vae.encode(RGB * 2 - 1).latent_dist.mode())
    expected = pipeline._unpatchify_latents(vae.bn(packed))
    torch.testing.assert_close(encode_with_vae(vae, SPACES["flux2"], RGB), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [diffusers.AutoencoderKLWan, diffusers.AutoencoderKLQwenImage])
def test_a_video_vae_encodes_each_image_as_a_video_of_one_frame(kind):
    vae = video_vae(kind)
    frames = vae.encode((RGB * 2 - 1).unsqueeze(2)).latent_dist.mode()
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std))
    torch.testing.assert_close(
        encode_with_vae(vae, SPACES["wan21"], RGB), (frames[:, :, 0] - mean) / std, rtol=1e-4, atol=1e-4
    )


def test_a_vae_that_scales_by_itself_is_not_scaled_again():
    class AutoEncoder:
        """InvokeAI's class for FLUX.1."""

        def encode(self, rgb, sample):
            assert sample is False
            return 0.3611 * (rgb.mean((2, 3), keepdim=True) - 0.1159)

    expected = 0.3611 * ((RGB * 2 - 1).mean((2, 3), keepdim=True) - 0.1159)
    torch.testing.assert_close(encode_with_vae(AutoEncoder(), SPACES["flux1"], RGB), expected)


def test_a_subclass_of_a_known_class_is_known():
    class Patched(diffusers.AutoencoderKL):
        pass

    assert vae_encoding(kl(Patched)) is vae_encoding(kl())


def test_an_unknown_vae_is_refused_by_name():
    with pytest.raises(FitError, match=r"expected a VAE of AutoencoderKL, .* got one of Linear"):
        encode_with_vae(torch.nn.Linear(1, 1), SPACES["sd1"], RGB)
