"""Files of `safelight export` in ComfyUI's own previewers."""

import os
import subprocess
import sys

import pytest
import torch
from safelight.cli.main import main
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.files.decoder_file import read_decoder
from safelight.decoders.latents.space_table import SPACES
from safelight.fitting.pairs import Pairs
from safetensors.torch import load_file, save_file

from ... import older
from .conftest import comfyui_version

HOST, PYTHON = os.environ.get("SAFELIGHT_COMFYUI", ""), os.environ.get("SAFELIGHT_COMFYUI_PYTHON", "")

pytestmark = pytest.mark.timeout(600)  # the host's imports

# Run inside ComfyUI: its previewers decode latents in model space to colors in -1..1.
DECODE = """
import sys
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
import torch
from safetensors.torch import load_file, save_file
from comfy.taesd.taesd import TAESD
latents = load_file(sys.argv[3])["latents"]
if latents.shape[1] == 128 and not hasattr(sys.modules["comfy.taesd.taesd"], "DecoderFlux2"):
    sys.exit("this host has no TAEF2")
with torch.no_grad():
    rgb = TAESD(None, sys.argv[2], latent_channels=latents.shape[1]).decode(latents)
save_file({"rgb": rgb.contiguous()}, sys.argv[4])
"""
PREVIEW = """
import sys
sys.path.insert(0, sys.argv[1])
from comfy.cli_args import args
args.cpu = True
import numpy, torch
from safetensors.torch import load_file, save_file
from latent_preview import Latent2RGBPreviewer
names = {}
exec(open(sys.argv[2]).read(), names)
previewer = Latent2RGBPreviewer(names["latent_rgb_factors"], names["latent_rgb_factors_bias"])
image = previewer.decode_latent_to_preview(load_file(sys.argv[3])["latents"])
save_file({"rgb": torch.from_numpy(numpy.asarray(image).copy())}, sys.argv[4])
"""


def in_the_host(script, exported, latents, folder):
    save_file({"latents": latents}, folder / "latents.safetensors")
    files = [str(path) for path in (exported, folder / "latents.safetensors", folder / "rgb.safetensors")]
    done = subprocess.run(
        [PYTHON, "-c", script, HOST, *files], capture_output=True, text=True, timeout=200, check=False
    )
    older.expect("this host has no TAEF2" not in done.stderr, "ComfyUI", comfyui_version(), "TAEF2")
    assert done.returncode == 0, done.stderr
    return load_file(files[2])["rgb"]


@pytest.mark.parametrize("name", ["sdxl", "flux1", "flux2"])
def test_comfyui_decodes_an_exported_net_as_safelight_does(tmp_path, name):
    space = SPACES[name]
    generator = torch.Generator().manual_seed(0)
    small = torch.rand((12, 3, 8, 8), generator=generator)
    latents = torch.randn((12, space.channels, 8, 8), generator=generator)
    pixels = small.mul(255).byte().repeat_interleave(8, 2).repeat_interleave(8, 3)
    Pairs(latents, pixels).save(tmp_path / "pairs.safetensors")
    arguments = ["--pairs", str(tmp_path / "pairs.safetensors"), "--crops", "1", "--steps", "1"]
    assert main(["export", "--taesd", "--space", name, *arguments, "--out", str(tmp_path / "out")]) == 0
    [exported] = (tmp_path / "out").iterdir()
    of_sampler = latents[:1]
    if name == "flux2":  # the host's sampler works on 2x2 patches
        of_sampler = torch.nn.functional.pixel_unshuffle(latents[:1], 2)
    theirs = (in_the_host(DECODE, exported, of_sampler, tmp_path) + 1) / 2
    assert (theirs.clamp(0, 1) - read_decoder(exported).decode(latents[:1])).abs().max() < 1e-4


def test_comfyui_shows_an_exported_table_as_safelight_does(tmp_path):
    out = tmp_path / "table.py"
    arguments = ["export", "--latent2rgb", "--space", "flux1", "--decoder", "flux1-affine-sdcpp", "--out", str(out)]
    assert main(arguments) == 0, sys.argv
    latents = torch.randn((1, 16, 12, 12), generator=torch.Generator().manual_seed(0))
    theirs = in_the_host(PREVIEW, out, latents, tmp_path).movedim(-1, 0) / 255
    ours = Catalogue().candidates(SPACES["flux1"], "flux1-affine-sdcpp")[0].open().decode(latents)[0]
    assert (theirs - ours).abs().max() < 2 / 255
