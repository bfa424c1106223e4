"""Compares the tiny decoders with diffusers' `AutoencoderTiny`, or with a functional forward if diffusers has none."""

import pytest
import torch
import torch.nn.functional as F
from safelight.decoders.files.decoder_file import read_card, read_decoder
from safelight.decoders.nets.taesd import Taesd, taesana, taesd
from safelight.errors import DecoderFileError
from safetensors.torch import save_file

# Widths of the stages. Each stage has three blocks, then an upscaling with a convolution to the next width.
STAGES = {"taesd": (64, 64, 64), "taef2": (64, 64, 64), "taesana": (256, 128, 64, 64, 64)}
LAYERS = {"taesd": taesd(4), "taef2": taesd(32, pooled=1), "taesana": taesana(32)}
CHANNELS = {"taesd": 4, "taef2": 32, "taesana": 32}
PREFIXES = ["", "decoder.", "taesd_decoder.", "decoder.layers."]


def random_state(architecture, seed=0):
    """Returns weights under the keys of the published file, scaled so that the image has contrast."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in Taesd(LAYERS[architecture]).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        spread = (shape[1:].numel() or 1) ** -0.5 if len(shape) == 4 else 0.1
        center = 1.0 if ".pool.1.weight" in key else 0.0
        state[key.removeprefix("layers.")] = center + torch.randn(shape, generator=generator) * spread
    return state


def forward(state, latents, widths, *, pooled=False):
    """Computes the published forward from the state dict."""

    def conv(x, at):
        return F.conv2d(x, state[f"{at}.weight"], state.get(f"{at}.bias"), padding=state[f"{at}.weight"].shape[-1] // 2)

    def block(x, at, *, pooled=False):
        if pooled:
            hidden = conv(x, f"{at}.pool.0")
            hidden = F.group_norm(hidden, 4, state[f"{at}.pool.1.weight"], state[f"{at}.pool.1.bias"])
            x = x + conv(F.relu(hidden), f"{at}.pool.3")
        hidden = F.relu(conv(F.relu(conv(x, f"{at}.conv.0")), f"{at}.conv.2"))
        return F.relu(conv(hidden, f"{at}.conv.4") + x)

    x = F.relu(conv(3 * torch.tanh(latents / 3), 1))
    at = 3
    for stage in range(len(widths)):
        for _ in range(3):
            x = block(x, at, pooled=pooled and stage == 0)
            at += 1
        x = conv(x.repeat_interleave(2, 2).repeat_interleave(2, 3), at + 1)
        at += 2
    return conv(block(x, at), at + 1)


def renamed(state, prefix):
    """Returns the same weights under the keys of another published layout."""
    offset = 1 if prefix == "decoder.layers." else 0
    split = ((key.partition("."), value) for key, value in state.items())
    return {f"{prefix}{int(number) - offset}.{rest}": value for (number, _, rest), value in split}


def latents_of(channels):
    return torch.randn(2, channels, 3, 4, generator=torch.Generator().manual_seed(1)) * 2


@pytest.mark.parametrize("channels", [4, 16])
def test_taesd_decodes_like_diffusers(tmp_path, channels):
    from diffusers import AutoencoderTiny

    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = AutoencoderTiny(latent_channels=channels).eval()
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file(theirs.state_dict(), path)

    decoder = read_decoder(path)
    latents = latents_of(channels)
    with torch.no_grad():
        rgb = decoder.net(latents)
        # diffusers returns -1..1.
        torch.testing.assert_close(rgb, theirs.decode(latents).sample * 0.5 + 0.5, rtol=1e-4, atol=1e-5)
    assert decoder.card.parameters == sum(p.numel() for p in theirs.decoder.parameters())
    assert decoder.scale == 8


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", PREFIXES, ids=lambda prefix: prefix or "plain")
@pytest.mark.parametrize("architecture", LAYERS)
def test_each_published_layout_decodes_like_the_published_net(tmp_path, architecture, prefix, suffix):
    channels = CHANNELS[architecture]
    state = random_state(architecture)
    path = tmp_path / f"x{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(renamed(state, prefix), path)

    decoder = read_decoder(path)
    latents = latents_of(channels)
    expected = forward(state, latents, STAGES[architecture], pooled=architecture == "taef2")
    assert expected.std() > 0.01
    with torch.no_grad():
        torch.testing.assert_close(decoder.net(latents), expected, rtol=1e-3, atol=1e-4)
    assert decoder.card.settings == {"layers": LAYERS[architecture]}
    assert decoder.scale == 2 ** len(STAGES[architecture])


def test_the_pooled_branch_is_the_difference_between_taef2_and_taesd():
    state = random_state("taef2")
    latents = latents_of(32)
    with_it, without = (forward(state, latents, STAGES["taef2"], pooled=pooled) for pooled in (True, False))
    assert not torch.allclose(with_it, without, atol=1e-2)


def test_a_half_precision_file_is_read_as_float32(tmp_path):
    state = {key: value.half() for key, value in random_state("taesd").items()}
    save_file(state, tmp_path / "x.safetensors")
    decoder = read_decoder(tmp_path / "x.safetensors")
    expected = forward({key: value.float() for key, value in state.items()}, latents_of(4), STAGES["taesd"])
    torch.testing.assert_close(decoder.decode(latents_of(4)), expected.clamp(0, 1), rtol=1e-3, atol=1e-4)
    assert {p.dtype for p in decoder.net.parameters()} == {torch.float32}


def test_the_encoder_of_an_autoencoder_is_ignored(tmp_path):
    state = renamed(random_state("taesd"), "decoder.")
    save_file(state | {"encoder.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "x.safetensors")
    assert read_card(tmp_path / "x.safetensors").parameters == sum(value.numel() for value in state.values())


@pytest.mark.parametrize("prefix", ["", "encoder.", "taesd_encoder.", "encoder.layers."], ids=lambda p: p or "plain")
def test_the_error_for_an_encoder_says_that_it_is_an_encoder(tmp_path, prefix):
    from diffusers.models.autoencoders.vae import EncoderTiny

    with torch.random.fork_rng():
        net = EncoderTiny(3, 4, num_blocks=(1, 3, 3, 3), block_out_channels=(64,) * 4, act_fn="relu")
    state = {prefix + key.removeprefix("layers."): value for key, value in net.state_dict().items()}
    save_file(state, tmp_path / "taesd_decoder.safetensors")
    with pytest.raises(DecoderFileError, match=r"not a decoder .*TAESD.*found tensors .*an encoder is not a decoder"):
        read_decoder(tmp_path / "taesd_decoder.safetensors")
