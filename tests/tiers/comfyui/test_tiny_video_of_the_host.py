"""TAEHV decoders with random weights against ComfyUI's own."""

import json
import os
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders.decoder import to_bytes
from safelight.decoders.files.decoder_file import read_card, read_decoder
from safetensors.torch import load_file

from ... import older
from .conftest import comfyui_version

HOST, PYTHON = os.environ.get("SAFELIGHT_COMFYUI", ""), os.environ.get("SAFELIGHT_COMFYUI_PYTHON", "")
NETS = {  # file name: channels, latent frames of a video
    "taehv": (16, 3),
    "taew2_2": (48, 3),
    "lighttaehy1_5": (32, 3),
    "taeltx_2": (128, 3),
    "taeh3": (24, 7),
}

# Runs inside ComfyUI: it builds each net, saves it for its VAE loader, and decodes noise in model space.
MAKE = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
import torch
from safetensors.torch import save_file
try:
    from comfy.taesd.taehv import TAEHV
except ImportError:
    sys.exit("this host has no TAEHV")
for seed, (name, (channels, frames)) in enumerate(json.loads(sys.argv[3]).items()):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        net = TAEHV(latent_channels=channels).eval()
        for weight in net.parameters():
            fan_in = weight[0].numel() if weight.ndim > 1 else 64
            weight.copy_((torch.randn(weight.shape, generator=generator) * 1.8 / fan_in**0.5).half())
        state = {key: value.half() for key, value in net.state_dict().items()}
        save_file(state, Path(sys.argv[2], f"{name}.safetensors"))
        latents = torch.randn(1, channels, frames, 3, 4, generator=generator)
        save_file({"latents": latents, "rgb": net.decode(latents).contiguous()}, Path(sys.argv[2], f"{name}.made"))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a file of each net, and ComfyUI's output for it."""
    folder = tmp_path_factory.mktemp("nets")
    command = [PYTHON, "-c", MAKE, HOST, str(folder), json.dumps(NETS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    older.expect("this host has no TAEHV" not in done.stderr, "ComfyUI", comfyui_version(), "TAEHV")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", NETS)
def test_frame_by_frame_equals_the_hosts_decode_of_all_frames(made, name):
    tensors = load_file(made / f"{name}.made")
    card, decoder = read_card(made / f"{name}.safetensors"), read_decoder(made / f"{name}.safetensors")
    assert (card.kind, card.channels) == ("tiny_video", NETS[name][0])
    frames = torch.stack(list(decoder.frames(tensors["latents"])), 2)
    expected = tensors["rgb"].clamp(0, 1)
    assert 0.02 < expected.mean() < 0.98, "nothing to see"
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("latent_format", "name", "frames", "fps", "wrongly"),
    # The last value: the output if the latents were scaled twice, or not at all.
    [("HunyuanVideo", "taehv", 9, 24.0, 0.476986), ("LTXAV", "taeltx_2", 17, 24.0, 1.3)],
)
def test_a_decoder_file_of_the_user_shows_the_steps_of_its_format(
    own_server, wire, made, latent_format, name, frames, fps, wrongly
):
    (own_server.models / "vae_approx" / f"{name}.safetensors").write_bytes((made / f"{name}.safetensors").read_bytes())
    preview = {"decoder": "tiny_video", "frames": "all files", "write_intermediates": True, "filename_prefix": name}
    graph = wire(latent_format, flow=True, frames=3, height=4, width=6, steps=3, spy=f"spied/{name}", preview=preview)
    played = own_server.play(graph)
    assert played.ends == ["execution_success"], played.named("execution_error")
    folder = own_server.output / f"{name}_00001"
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert manifest["notes"] == []
    assert manifest["decoder"]["kind"] == "tiny_video"
    assert (manifest["picture"]["frames"], manifest["picture"]["fps"]) == (frames, fps)
    decoder = read_decoder(made / f"{name}.safetensors")
    latents = load_file(own_server.output / f"spied/{name}_1.safetensors")["x0"][-1]

    def by_ours(latents):
        return np.stack([to_bytes(rgb)[0].numpy() for rgb in decoder.frames(latents)]).astype(float)

    shown = np.stack([np.asarray(Image.open(path), dtype=float) for path in sorted((folder / "step_0003").iterdir())])
    expected = by_ours(latents)
    assert shown.shape == expected.shape
    off = np.abs(shown - expected).mean()  # random weights amplify the rounding differences between versions of PyTorch
    assert off < 0.2
    assert np.abs(shown - by_ours(latents * wrongly)).mean() > 1 + 10 * off
