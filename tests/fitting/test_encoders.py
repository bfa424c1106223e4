"""TAESD encoders: against diffusers, shapes, valid and invalid files."""

import pytest
import torch
from safelight.errors import DecoderFileError, MisshapenFileError, PickledFileError
from safelight.fitting.encoders import ENCODERS, TaesdEncoder, read_encoder
from safetensors.torch import save_file

SHAPES = [("taesd", 4, 8), ("taesd", 16, 8), ("taef2", 32, 8), ("taesana", 32, 32)]
PREFIXES = ["", "encoder.", "taesd_encoder.", "encoder.layers."]


class Runs:
    def __reduce__(self):
        return print, ("ran",)


def state_of(architecture, channels, prefix=""):
    torch.manual_seed(3)
    return {prefix + key: tensor for key, tensor in ENCODERS[architecture](channels).state_dict().items()}


def written(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize("channels", [4, 16])
def test_taesd_gives_the_same_latents_as_diffusers(tmp_path, channels):
    with torch.random.fork_rng():
        tiny = pytest.importorskip("diffusers").AutoencoderTiny(latent_channels=channels)
    path = written(tmp_path / "both.pth", tiny.state_dict())
    rgb = torch.rand(2, 3, 32, 48)
    with torch.inference_mode():
        expected = tiny.encoder(rgb * 2 - 1)
        torch.testing.assert_close(read_encoder(path)(rgb), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("architecture", "channels", "scale"), SHAPES)
def test_latents_have_the_shape_of_their_space(tmp_path, architecture, channels, scale):
    encoder = read_encoder(written(tmp_path / "any_name.pth", state_of(architecture, channels)))
    assert (encoder.architecture, encoder.channels, encoder.scale) == (architecture, channels, scale)
    assert encoder(torch.rand(1, 3, 64, 96)).shape == (1, channels, 64 // scale, 96 // scale)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("architecture", ["taesd", "taef2"])
def test_an_encoder_is_found_with_every_prefix_next_to_its_decoder(tmp_path, architecture, prefix):
    state = state_of(architecture, 32, prefix) | ({"decoder.1.weight": torch.zeros(64, 32, 3, 3)} if prefix else {})
    plain = read_encoder(written(tmp_path / "plain.pth", state_of(architecture, 32)))
    found = read_encoder(written(tmp_path / "prefixed.pth", state))
    rgb = torch.rand(1, 3, 16, 16)
    assert torch.equal(found(rgb), plain(rgb))


def test_safetensors_are_read_as_well(tmp_path):
    save_file(state_of("taesd", 4), tmp_path / "encoder.safetensors")
    assert read_encoder(tmp_path / "encoder.safetensors").channels == 4


def test_half_precision_becomes_float32_without_gradients(tmp_path):
    state = {key: tensor.half() for key, tensor in state_of("taef2", 32).items()}
    encoder = read_encoder(written(tmp_path / "half.pth", state))
    assert {(tensor.dtype, tensor.requires_grad) for tensor in encoder.parameters()} == {(torch.float32, False)}


def test_taef2_differs_from_taesd_only_by_its_pooled_blocks():
    extra = state_of("taef2", 32).keys() - state_of("taesd", 32).keys()
    assert {key.split(".")[0] for key in extra} == {"11", "12", "13"}
    assert {key.split(".")[1] for key in extra} == {"pool"}


def test_reading_does_not_change_the_global_random_state(tmp_path):
    path = written(tmp_path / "encoder.pth", state_of("taesd", 4))
    before = torch.get_rng_state()
    read_encoder(path)
    assert torch.equal(before, torch.get_rng_state())


def test_a_missing_tensor_is_reported_by_name(tmp_path):
    state = state_of("taesd", 4)
    del state["3.conv.2.bias"]
    with pytest.raises(
        MisshapenFileError, match=r"'layers\.3\.conv\.2\.bias' of taesd should have shape \(64,\), has none"
    ):
        read_encoder(written(tmp_path / "encoder.pth", state))


def test_nan_is_refused(tmp_path):
    state = state_of("taesd", 4)
    state["0.bias"][5] = torch.nan
    with pytest.raises(MisshapenFileError, match=r"'layers\.0\.bias' holds NaN or infinity"):
        read_encoder(written(tmp_path / "encoder.pth", state))


def test_a_decoder_file_is_refused(tmp_path):
    state = {"1.weight": torch.zeros(64, 4, 3, 3), "3.conv.0.weight": torch.zeros(64, 64, 3, 3)}
    with pytest.raises(
        DecoderFileError, match=r"expected an encoder of taesd, taef2, taesana; found tensors '1\.weight'"
    ):
        read_encoder(written(tmp_path / "decoder.pth", state))


def test_a_file_that_would_run_code_is_refused(tmp_path):
    with pytest.raises(PickledFileError, match="would run code"):
        read_encoder(written(tmp_path / "bad.pth", {"0.weight": Runs()}))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DecoderFileError, match="cannot be read"):
        read_encoder(tmp_path / "none.pth")


def test_the_scale_is_computed_from_the_strides():
    with torch.device("meta"):
        assert TaesdEncoder("taesana", 32).scale == 32
