"""Every latent format of a real ComfyUI against the row of our table that names it."""

import json
import os
import subprocess

import pytest
import torch
from safelight.decoders.latents.identify import Evidence, identify
from safelight.decoders.latents.space import AUDIO, IMAGE, VIDEO
from safelight.decoders.latents.space_table import SPACES

HOST, PYTHON = os.environ.get("SAFELIGHT_COMFYUI", ""), os.environ.get("SAFELIGHT_COMFYUI_PYTHON", "")
FORMATS_IN_033 = 41
AFTER_033 = {"QwenImage21", "MingImage", "YuE2", "Hunyuan3Dv2_1Paint"}

# Runs inside ComfyUI: it prints every format with its numbers, and the output of `process_in` for a ramp.
DUMP = """
import inspect, json, sys
sys.path.insert(0, sys.argv[1])
import torch
from comfy import latent_formats

def numbers(value):
    return value.flatten().tolist() if isinstance(value, torch.Tensor) else value

rows = []
for name, kind in inspect.getmembers(latent_formats, inspect.isclass):
    if kind.__module__ != latent_formats.__name__ or kind is latent_formats.LatentFormat:
        continue
    form = kind()
    row = {"name": name, "channels": form.latent_channels, "dims": form.latent_dimensions, "scale": form.scale_factor}
    for ours, theirs in (("shift", "shift_factor"), ("downscale", "spacial_downscale_ratio"),
                         ("frame_stride", "temporal_downscale_ratio"), ("mean", "latents_mean"),
                         ("std", "latents_std"), ("file", "taesd_decoder_name")):
        row[ours] = numbers(getattr(form, theirs, None))
    channels = int(sys.argv[2]) if name == "HunyuanImage21Refiner" else form.latent_channels
    if name in ("Trellis2ShapeSLAT", "Trellis2TexSLAT"):
        shape = (2, channels)
    else:
        shape = (2, channels) + {1: (6,), 2: (3, 4), 3: (3, 3, 4)}[form.latent_dimensions]
    ramp = torch.linspace(-3, 3, torch.Size(shape).numel(), dtype=torch.float64).reshape(shape)
    try:
        row["shape"], row["process_in"] = list(shape), form.process_in(ramp).flatten().tolist()
        row["processed"] = list(form.process_in(ramp).shape)
    except AttributeError as error:  # an abstract format has no numbers
        row["abstract"] = str(error)
    rows.append(row)
print(json.dumps(rows))
"""

# Formats whose class attribute differs from ComfyUI's own nodes and VAEs; see the comments in the table.
INHERITED_DOWNSCALE = {"SD_X4", "HunyuanImage21Refiner"}
INHERITED_STRIDE = {"SeedVR2", "HunyuanImage21Refiner"}
VIEWS = {"Hunyuan3Dv2_1Paint"}  # packed along the axis of time
NOT_PICTURES = {"ACEAudio", "TripoSplat", "Trellis2", "Trellis2SLAT", "Trellis2ShapeSLAT", "Trellis2TexSLAT"}
ABSTRACT = {"Trellis2SLAT"}


@pytest.fixture(scope="module")
def formats():
    refiner = SPACES["hunyuan_image21_refiner"]
    command = [PYTHON, "-c", DUMP, HOST, str(refiner.channels)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout.splitlines()[-1])}


def space_of(name):
    return next(space for space in SPACES if name in space.hosts.get("comfyui", ()))


def test_every_format_is_named_by_exactly_one_row(formats):
    assert len(formats) > 20
    named = {name: [space.name for space in SPACES if name in space.hosts.get("comfyui", ())] for name in formats}
    assert {name: rows for name, rows in named.items() if len(rows) != 1} == {}


def test_every_name_in_the_table_is_a_format_of_the_newest_host(formats):
    if len(formats) < FORMATS_IN_033:
        pytest.skip(f"this host has {len(formats)} formats, the table is of one with {FORMATS_IN_033}")
    newer = set() if AFTER_033 & set(formats) else AFTER_033
    assert {name for space in SPACES for name in space.hosts.get("comfyui", ())} - set(formats) == newer


def test_channels_agree(formats):
    for name, row in formats.items():
        space = space_of(name)
        assert row["channels"] in {space.channels, space.packed_channels}, name


def test_scale_shift_means_and_deviations_agree(formats):
    for name, row in formats.items():
        space = space_of(name)
        assert row["scale"] == space.scale, name
        assert (row["shift"] or 0.0) == space.shift, name
        for ours, theirs in ((space.mean, row["mean"]), (space.std, row["std"])):
            assert (ours is None) == (theirs is None), name
            assert ours is None or torch.equal(torch.tensor(ours), torch.tensor(theirs)), name


def test_dimensions_agree_if_the_host_states_them(formats):
    for name, row in formats.items():
        expected = AUDIO if name in NOT_PICTURES else IMAGE if name in VIEWS else row["dims"]
        assert space_of(name).dims == expected, name


def test_downscale_agrees(formats):
    for name, row in formats.items():
        space = space_of(name)
        if row["downscale"] is None or space.dims == AUDIO or name in INHERITED_DOWNSCALE:
            continue
        patch = 2 if space.layout == "patched" else 1
        assert row["downscale"] == space.downscale * patch, name


def test_frame_stride_agrees(formats):
    for name, row in formats.items():
        space = space_of(name)
        if row["frame_stride"] is None or space.dims != VIDEO or name in INHERITED_STRIDE:
            continue
        assert row["frame_stride"] == space.frame_stride, name


def test_to_model_is_process_in(formats):
    tried = 0
    for name, row in formats.items():
        if name in ABSTRACT:
            assert "latents_mean" in row["abstract"] or "NoneType" in row["abstract"]
            continue
        space = space_of(name)
        shape = torch.Size(row["shape"])
        ramp = torch.linspace(-3, 3, shape.numel(), dtype=torch.float64).reshape(shape)
        theirs = torch.tensor(row["process_in"], dtype=torch.float64).reshape(row["processed"])
        if space.layout == "frame_pairs":  # ComfyUI pairs the frames when it scales them
            theirs = space.unpack(theirs)
        # ComfyUI stores its means in single precision
        assert torch.allclose(space.to_model(ramp), theirs, rtol=1e-6, atol=1e-6), name
        tried += 1
    assert tried == len(formats) - len(ABSTRACT & set(formats))


def test_names_of_decoder_files_begin_as_the_host_expects(formats):
    for name, row in formats.items():
        image = space_of(name).dims == IMAGE and row["file"]
        if image and name != "SDXL_Playground_2_5":  # ComfyUI uses SDXL's decoder for it
            assert row["file"] in space_of(name).files, name


def test_the_hosts_facts_about_a_format_identify_its_space(formats):
    for name, row in formats.items():
        evidence = Evidence(
            host="comfyui",
            format_name=name,
            channels=row["channels"],
            dims=row["dims"],
            scale=row["scale"],
            shift=row["shift"],
            downscale=row["downscale"],
        )
        assert identify(evidence, SPACES) is space_of(name), name
