"""The latents shipped for the demo, and the command that creates them."""

import hashlib
import json

import pytest
import torch
from safelight.decoders.files import shipped
from safelight.decoders.files.decoder_file import read_decoder
from safelight.errors import DecoderFileError
from safelight.fitting.encoders import ENCODERS
from safelight.tools import demo_latents
from safelight.tools.scenes import SCENES, scene_title
from safetensors import safe_open

SHIPPED = shipped.WEIGHTS / "demo-flux2-latents.safetensors"
KEYS = {"format", "space", "source", "command", "encoder_sha256", "titles"}


def opened(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(1)
    path = tmp_path / "taef2_encoder.pth"
    torch.save(ENCODERS["taef2"](32).state_dict(), path)
    return path


def test_the_shipped_latents_have_the_format_of_the_demo():
    metadata, tensors = opened(SHIPPED)
    assert metadata.keys() == KEYS
    assert (metadata["format"], metadata["space"]) == ("safelight.latents/1", "flux2")
    assert json.loads(metadata["titles"]) == [scene_title(name) for name in SCENES]
    assert tensors.keys() == {"latents"}
    latents = tensors["latents"]
    assert latents.shape == (len(SCENES), 32, 64, 64)
    assert latents.dtype == torch.float16
    assert torch.isfinite(latents).all()
    assert SHIPPED.stat().st_size < 1.6e6


def test_the_shipped_latents_decode_to_images_with_contrast():
    decoder = shipped.open_shipped("flux2-affine-comfyui")
    rgb = decoder.decode(opened(SHIPPED)[1]["latents"].float())
    assert ((rgb.flatten(1).quantile(0.95, 1) - rgb.flatten(1).quantile(0.05, 1)) > 0.3).all()


def test_the_shipped_latents_are_not_listed_as_a_decoder():
    with pytest.raises(DecoderFileError, match="not a decoder"):
        read_decoder(SHIPPED)
    assert SHIPPED.name in shipped.read_manifest()
    assert SHIPPED.stem not in {card.name for card in shipped.shipped_cards()}


def test_the_command_writes_latents_and_metadata(tmp_path, encoder, capsys):
    out = tmp_path / "latents.safetensors"
    assert demo_latents.main(["--encoder", str(encoder), "--out", str(out), "--size", "16"]) == 0
    metadata, tensors = opened(out)
    assert tensors["latents"].shape == (6, 32, 2, 2)
    assert metadata["encoder_sha256"] == hashlib.sha256(encoder.read_bytes()).hexdigest()
    assert str(tmp_path) not in json.dumps(metadata)
    assert "(6, 32, 2, 2)" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latents.safetensors", encoder.name]


def test_the_command_refuses_a_size_that_the_encoder_cannot_divide(tmp_path, encoder, capsys):
    with pytest.raises(SystemExit):
        demo_latents.main(["--encoder", str(encoder), "--out", str(tmp_path / "x.safetensors"), "--size", "20"])
    assert "multiple of 8; got taef2 and 20" in capsys.readouterr().err
