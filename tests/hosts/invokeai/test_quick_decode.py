"""Quick decodes of finished latents of InvokeAI."""

from contextlib import nullcontext
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.later_frames import measured_map
from safelight.errors import SpaceError
from safelight.hosts.invokeai import quick_decode
from safelight.hosts.invokeai.saved_inputs import choice_or

from ... import older


def test_the_picture_is_what_the_decoder_decodes(noise, tmp_path):
    picture = quick_decode.quick_decode(noise, tmp_path, base="flux", enlarge="off")
    again = quick_decode.quick_decode(noise[0], tmp_path, base=None, space="flux1")
    assert np.array_equal(np.asarray(picture), np.asarray(again))
    assert quick_decode.quick_decode(noise, tmp_path, base="flux", enlarge="nearest").size == (64, 48)


def test_without_a_model_the_space_must_be_chosen(noise, tmp_path):
    with pytest.raises(SpaceError, match="no model is connected"):
        quick_decode.quick_decode(noise, tmp_path, base=None)


def test_a_decoder_that_is_gone_is_replaced_and_the_log_says_so(noise, tmp_path, caplog):
    """A decoder file may be removed while the server runs; it is a choice of the node until then."""
    picture = quick_decode.quick_decode(noise, tmp_path, base="flux", wanted="gone.safetensors")
    assert np.array_equal(np.asarray(picture), np.asarray(quick_decode.quick_decode(noise, tmp_path, base="flux")))
    assert "gone.safetensors" in caplog.text


def test_a_space_that_is_gone_is_that_of_the_model_and_the_log_says_so(noise, tmp_path, caplog):
    picture = quick_decode.quick_decode(noise, tmp_path, base="flux", space="gone")
    assert np.array_equal(np.asarray(picture), np.asarray(quick_decode.quick_decode(noise, tmp_path, base="flux")))
    assert "there is no latent space 'gone'" in caplog.text


@pytest.mark.parametrize(
    ("saved", "used", "messages"), [("a", "a", 0), ("gone", "auto", 1), (7, 7, 0), (None, None, 0)]
)
def test_a_saved_name_that_is_no_choice_any_more_is_replaced(saved, used, messages):
    heard = []
    assert choice_or("auto", ("auto", "a"), "decoder", heard.append)(saved) == used
    assert len(heard) == messages  # other types are left to the host, which refuses them


def test_finished_latents_of_flux2_are_decoded_with_the_batch_norm_of_the_vae(tmp_path):
    """InvokeAI's denoise node returns them without the batch norm that they were sampled with."""
    older.expect(older.diffusers_has("Flux2Pipeline"), "diffusers", diffusers.__version__, "Flux2Pipeline")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = diffusers.AutoencoderKLFlux2(
            latent_channels=32,
            block_out_channels=(8, 8),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=8,
        ).eval()
    vae.bn.running_mean.copy_(torch.linspace(-1, 1, 128))
    vae.bn.running_var.copy_(torch.linspace(1, 3, 128))
    sampled = torch.randn((1, 32, 6, 8), generator=torch.Generator().manual_seed(8))
    packed = diffusers.Flux2Pipeline._patchify_latents(sampled)
    std = (vae.bn.running_var + vae.bn.eps).sqrt()
    without_norm = packed * std.view(1, -1, 1, 1) + vae.bn.running_mean.view(1, -1, 1, 1)
    returned = diffusers.Flux2Pipeline._unpatchify_latents(without_norm)
    with pytest.raises(SpaceError, match="connect the VAE as well"):
        quick_decode.quick_decode(returned, tmp_path, base="flux2")
    picture = quick_decode.quick_decode(returned, tmp_path, base="flux2", vae=lambda: nullcontext(vae))
    expected = quick_decode.quick_decode(sampled, tmp_path, base=None, space="flux2")
    assert np.abs(np.asarray(picture, np.int16) - np.asarray(expected, np.int16)).max() <= 1


def test_the_base_is_that_of_the_connected_model():
    unet = SimpleNamespace(unet=SimpleNamespace(base=SimpleNamespace(value="sdxl")))
    transformer = SimpleNamespace(transformer=SimpleNamespace(base="sd-3"))
    assert quick_decode.base_of(None, transformer) == "sd-3"
    assert quick_decode.base_of(unet, None) == "sdxl"
    assert quick_decode.base_of(None, None) is None


def test_the_middle_frame_of_a_video_is_shown_like_a_still(tmp_path):
    """Later latent frames of Wan have wider values, which the table for stills clips."""
    still = torch.randn((1, 16, 1, 12, 16), generator=torch.Generator().manual_seed(0)) * 0.4
    measured = measured_map(SPACES["wan21"])
    wide = ((still.movedim(1, -1) - measured.offset) @ torch.linalg.inv(measured.matrix)).movedim(-1, 1)
    video = torch.cat([still, *[wide] * 4], 2)
    first, middle, raw = (
        np.asarray(quick_decode.quick_decode(latents, tmp_path, base=None, space="wan21"), int)
        for latents in (still, video, wide)
    )
    assert np.abs(middle - first).mean() < 0.2 * np.abs(raw - first).mean()
