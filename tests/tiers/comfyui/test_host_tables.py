"""Our copies of ComfyUI's tables against the tables of a real ComfyUI."""

import json
import os
import subprocess

import numpy as np
import pytest
from safelight.decoders.files.shipped import SUFFIX, shipped_bytes, shipped_cards
from safelight.decoders.latents.space_table import SPACES
from safetensors.numpy import load

from ... import older
from .conftest import comfyui_version

AFTER_033 = {"QwenImage21", "MingImage"}
HOST, PYTHON = os.environ.get("SAFELIGHT_COMFYUI"), os.environ.get("SAFELIGHT_COMFYUI_PYTHON")

pytestmark = pytest.mark.skipif(
    not (HOST and PYTHON), reason="set SAFELIGHT_COMFYUI and SAFELIGHT_COMFYUI_PYTHON to run against a real host"
)

DUMP = """
import inspect, json, sys
sys.path.insert(0, sys.argv[1])
sys.argv = sys.argv[:1]
from comfy import latent_formats
formats = {}
for name, kind in inspect.getmembers(latent_formats, inspect.isclass):
    if issubclass(kind, latent_formats.LatentFormat) and kind is not latent_formats.LatentFormat:
        host = kind()
        formats[name] = [host.latent_rgb_factors, host.latent_rgb_factors_bias]
print(json.dumps(formats))
"""


@pytest.fixture(scope="module")
def host_tables() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    done = subprocess.run([PYTHON, "-c", DUMP, HOST], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    formats = json.loads(done.stdout.splitlines()[-1])
    return {
        name: (np.float32(factors).T, np.float32(bias or (0, 0, 0)))
        for name, (factors, bias) in formats.items()
        if factors is not None
    }


OURS = [card for card in shipped_cards() if card.name.endswith("-comfyui")]


@pytest.mark.parametrize("card", OURS, ids=lambda card: card.name)
def test_our_copy_of_a_table_equals_the_hosts_in_all_digits(card, host_tables):
    names = [name for name in SPACES[card.space].hosts.get("comfyui", ()) if name in host_tables]
    since = (0, 38) if {*SPACES[card.space].hosts["comfyui"]} <= AFTER_033 else ()
    older.expect(bool(names), "ComfyUI", comfyui_version(), f"table for {card.space}", since)
    ours = load(shipped_bytes(f"{card.name}{SUFFIX}"))
    assert card.settings["output_range"] == [-1, 1]
    for name in names:
        weight, bias = host_tables[name]
        np.testing.assert_array_equal(ours["weight"][:, :, 0, 0], weight)
        np.testing.assert_array_equal(ours.get("bias", np.zeros(3)), bias)


def test_we_have_every_table_of_the_host(host_tables):
    covered = {name for card in OURS for name in SPACES[card.space].hosts.get("comfyui", ())} | set(
        SPACES["pixels"].hosts.get("comfyui", ())
    )
    assert host_tables.keys() - covered == set()
