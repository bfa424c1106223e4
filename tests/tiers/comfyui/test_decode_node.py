"""Quick Decode on a real server: bit-identical to our decoders on the model's latents."""

import itertools
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safelight.decoders.decoder import Card
from safelight.decoders.files.decoder_file import write_decoder
from safelight.decoders.files.shipped import default_for
from safelight.decoders.latents.space import LatentSpace
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.later_frames import measured_map
from safetensors.torch import load_file, save_file

from ... import older

REPOSITORY = Path(__file__).resolve().parents[3]
PYTHON = os.environ.get("SAFELIGHT_COMFYUI_PYTHON", "")
COUNT = itertools.count(1)

# Runs in ComfyUI's own Python, whose PyTorch may round differently: each picture alone, with each decoder's file.
ORACLE = """
import sys
import torch
from safetensors.torch import load_file
from safelight.decoders.files.shipped import open_shipped
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.later_frames import measured_map
for kept, space, name in zip(*[iter(sys.argv[1:])] * 3):
    tensors = load_file(kept)
    plain = SPACES[space].unpack(tensors["processed"])
    decoder = open_shipped(name).to("cpu")
    frames = [rgb[0] for item in plain for rgb in decoder.frames(item[None])]
    print(int(torch.equal(torch.stack(frames).movedim(1, -1), tensors["image"])))
"""


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Desk:
    """Decodes on a server."""

    def __init__(self, server):
        self.server = server

    def has(self, latent_format):
        """Whether this version of the host has it."""
        return latent_format in self.server.inputs_of("LabModel")["latent_format"][0]

    def graph(self, samples, *, latent_format=None, sound=None, **inputs):
        """A graph that decodes a LATENT, with a model if `latent_format` is given; and the name of its output file."""
        number = next(COUNT)
        name, out = f"latent_{number}.safetensors", f"image_{number}.safetensors"
        tensors = {"samples": samples} | ({} if sound is None else {"sound": sound})
        save_file(tensors, self.server.output / name)
        decode = {"samples": ["1", 0], "decoder": "auto", "space": "from model", "enlarge": "off"} | inputs
        keep = {"file": out, "image": ["3", 0]}
        graph = {"1": {"class_type": "LabLatent", "inputs": {"file": name}}}
        if latent_format:
            model = {"flow": False, "height": 2, "width": 2, "frames": 1, "batch": 1}
            model |= {"step_ms": 0.0, "fail_at": 0, "targets_file": "", "again": 0, "latent_format": latent_format}
            graph["2"] = {"class_type": "LabModel", "inputs": model}
            decode["model"] = ["2", 0]
        graph["3"] = {"class_type": "SafelightDecode", "inputs": decode}
        graph["4"] = {"class_type": "LabKeep", "inputs": keep}
        return graph, self.server.output / out

    def decode(self, samples, **kwargs):
        graph, out = self.graph(samples, **kwargs)
        played = self.server.play(graph)
        assert played.ends == ["execution_success"], played.named("execution_error")
        return load_file(out)["image"]

    def refusal(self, samples, **kwargs):
        graph, _ = self.graph(samples, **kwargs)
        (error,) = self.server.play(graph).named("execution_error")
        assert error.data["node_type"] == "SafelightDecode"
        return error.data["exception_message"]


@pytest.fixture(scope="module")
def desk(server):
    return Desk(server)


CASES = {
    # format: shape of the LATENT, space, decoder
    "SD15": ((1, 4, 12, 20), "sd1", default_for("sd1")[0]),
    "SDXL": ((3, 4, 6, 8), "sdxl", "sdxl-affine-comfyui"),
    "Flux": ((2, 16, 6, 8), "flux1", "flux1-affine-comfyui"),
    "Flux2": ((2, 128, 4, 6), "flux2", "flux2-conv-full"),
    "Wan21": ((2, 16, 3, 6, 8), "wan21", "wan21-affine-comfyui"),
}


def test_the_image_is_bit_identical_to_the_decoders_output_for_the_models_latents(desk, tmp_path):
    (tmp_path / "safelight").symlink_to(REPOSITORY)
    asked, images = [], {}
    for latent_format in filter(desk.has, CASES):
        shape, space, decoder = CASES[latent_format]
        graph, out = desk.graph(drawn(*shape), latent_format=latent_format, decoder=decoder)
        graph["4"]["inputs"] |= {"samples": ["1", 0], "model": ["2", 0]}
        assert desk.server.play(graph).ends == ["execution_success"]
        asked += [str(out), space, decoder]
        images[latent_format] = load_file(out)["image"]
    done = subprocess.run(
        [PYTHON, "-c", ORACLE, *asked],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout.split() == ["1"] * len(images), done.stderr
    assert len(images) >= 4
    sizes = {"SD15": (1, 24, 40), "SDXL": (3, 6, 8), "Flux": (2, 6, 8), "Flux2": (2, 64, 96), "Wan21": (6, 6, 8)}
    for latent_format, image in images.items():
        assert image.shape == (*sizes[latent_format], 3)
        assert image.dtype == torch.float32
        assert 0 <= image.min() < image.max() <= 1


def test_auto_uses_the_decoder_of_the_catalogue(desk):
    samples = drawn(1, 128, 3, 4)
    auto = desk.decode(samples, space="flux2")
    assert torch.equal(auto, desk.decode(samples, space="flux2", decoder=default_for("flux2")[0]))


@pytest.mark.parametrize("latent_format", CASES)
def test_a_space_by_name_gives_the_same_image_as_a_model(desk, latent_format):
    older.expect(desk.has(latent_format), "ComfyUI", desk.server.version, f"latent format {latent_format}")
    shape, space, _ = CASES[latent_format]
    samples = drawn(*shape)
    with_model = desk.decode(samples, latent_format=latent_format)
    assert torch.allclose(desk.decode(samples, space=space), with_model, atol=1e-6)


def test_a_space_by_name_has_priority_over_the_model(desk):
    samples = drawn(1, 4, 4, 4)
    named = desk.decode(samples, latent_format="SDXL", space="sd1")
    assert torch.equal(named, desk.decode(samples, space="sd1"))
    by_model = desk.decode(samples, latent_format="SDXL")
    assert named.shape != by_model.shape or not torch.allclose(named, by_model, atol=0.01)


def test_an_image_of_a_video_model_is_a_video_of_one_frame(desk):
    samples = drawn(2, 16, 4, 6)
    flat = desk.decode(samples, latent_format="Wan21")
    assert torch.equal(flat, desk.decode(samples.unsqueeze(2), latent_format="Wan21"))
    assert flat.shape == (2, 4, 6, 3)
    assert torch.allclose(flat, desk.decode(samples, space="wan21"), atol=1e-6)


def test_later_frames_of_a_video_are_shown_like_the_first(desk):
    """Later latent frames of Wan have wider values, which the table for stills clips."""
    space, measured = SPACES["wan21"], measured_map(SPACES["wan21"])
    still = 0.4 * drawn(1, 16, 1, 12, 16)
    wide = ((still.movedim(1, -1) - measured.offset) @ torch.linalg.inv(measured.matrix)).movedim(-1, 1)
    video = space.to_vae(torch.cat([still, *[wide] * 3], 2)).contiguous()
    first, _, *later = desk.decode(video, latent_format="Wan21")
    (alone,) = desk.decode(video[:, :, 2:3].contiguous(), latent_format="Wan21")
    for frame in later:
        assert (frame - first).abs().mean() < 0.2 * (alone - first).abs().mean()


def test_the_video_of_a_video_with_audio_is_decoded(desk):
    video, sound = drawn(1, 128, 2, 3, 4), drawn(1, 8, 25, 16, seed=1)
    alone = desk.decode(video, latent_format="LTXV")
    assert alone.shape == (2, 3, 4, 3)
    assert torch.equal(desk.decode(video, sound=sound, latent_format="LTXV"), alone)


def test_audio_is_shown_over_time(desk):
    image = desk.decode(drawn(2, 64, 40), space="stable_audio1", enlarge="lanczos")
    assert image.shape == (2, 256, 40, 3)
    assert image.std() > 0.05


@pytest.mark.parametrize("method", ["nearest", "bicubic", "lanczos"])
def test_an_enlarged_image_has_the_final_images_size(desk, method):
    samples = drawn(2, 4, 4, 6)
    small, large = (desk.decode(samples, space="sd1", enlarge=enlarge) for enlarge in ("off", method))
    assert large.shape == (2, 32, 48, 3)
    resampling = {name: Image.Resampling[name.upper()] for name in ("nearest", "bicubic", "lanczos")}[method]
    for one, other in zip(small, large, strict=True):
        pixels = Image.fromarray((one * 255).round().to(torch.uint8).numpy())
        expected = np.asarray(pixels.resize((48, 32), resampling)) / 255
        assert np.abs(expected - other.numpy()).max() < 3 / 255  # Pillow rounds to bytes between its two passes


def test_items_of_a_batch_do_not_affect_each_other(desk):
    samples = drawn(2, 4, 4, 6) * torch.tensor([1.0, 5.0])[:, None, None, None]
    both = desk.decode(samples, space="sd1", decoder="principal")
    assert torch.equal(both[1:], desk.decode(samples[1:], space="sd1", decoder="principal"))


# Refusals


def test_latents_of_another_space_are_refused_with_the_spaces_that_fit(desk):
    told = desk.refusal(drawn(1, 4, 4, 6), space="flux2")
    assert "FLUX.2 (flux2)" in told
    assert "Spaces that latents [1, 4, 4, 6] fit: " in told
    listed = told.split(" fit: ")[1].rstrip(".\n").split(", ")
    assert {"sd1", "sdxl", "playground25"} <= set(listed)
    assert "flux1" not in listed
    assert all(4 in (SPACES[name].channels, SPACES[name].packed_channels) or name == "pixels" for name in listed)


@pytest.mark.parametrize("latent_format", ["Flux", "Wan21"])
def test_latents_of_another_model_are_refused_with_the_spaces_that_fit(desk, latent_format):
    assert "Spaces that latents " in desk.refusal(drawn(1, 4, 4, 6), latent_format=latent_format)


def test_without_a_model_or_a_space_the_message_asks_for_one(desk):
    told = desk.refusal(drawn(1, 16, 4, 6))
    assert "connect the model, or choose a space" in told
    assert "flux1" in told


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"decoder": "gone.safetensors"}, "no decoder is named 'gone.safetensors'"),
        ({"decoder": "flux2-affine"}, "decodes flux2 of 32 channels"),
        ({"decoder": "tiny"}, "no tiny decoder"),
        ({"space": "gone"}, "no latent space is named 'gone'; there are: sd1"),
    ],
)
def test_a_decoder_or_space_that_is_gone_is_named(desk, inputs, expected):
    assert expected in desk.refusal(drawn(1, 4, 4, 6), **{"space": "sd1", **inputs})


# Files of the user

NEVER_SEEN = LatentSpace(
    name="never_seen",
    title="Never seen",
    channels=6,
    scale=0.7,
    hosts={"comfyui": ("NeverSeen",)},
    source="the lab's own format",
)


def put(folder, name, space, value, **facts):
    """A decoder that outputs one gray."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"channels": space.channels}
    card = Card(name=name, space=space.name, kind="polynomial", settings=settings, source="a test", **facts)
    state = {"weight": torch.zeros(3, space.channels, 1, 1), "bias": torch.full((3,), value)}
    write_decoder(folder / f"{name}.safetensors", card, state)
    return folder / f"{name}.safetensors"


@pytest.fixture
def brought(server):
    path = put(server.models / "safelight", "of-never-seen", NEVER_SEEN, 0.25, latent_space=NEVER_SEEN)
    yield path
    path.unlink()


def test_an_unknown_format_is_decoded_by_a_file_that_contains_its_space(desk, brought):
    samples = drawn(1, 6, 4, 6)
    assert (desk.decode(samples, latent_format="NeverSeen") == 0.25).all()
    assert (desk.decode(samples, space="never_seen") == 0.25).all()
    assert "never_seen" in json.dumps(desk.server.inputs_of("SafelightDecode")["space"])
    brought.rename(brought.with_suffix(".away"))
    try:
        assert (desk.decode(samples, latent_format="NeverSeen") != 0.25).any()
        assert "no latent space is named 'never_seen'" in desk.refusal(samples, space="never_seen")
    finally:
        brought.with_suffix(".away").rename(brought)


def test_the_steps_of_an_unknown_format_are_decoded_by_that_file(server, wire, brought):
    prefix = "seen/steps"
    played = server.play(wire("NeverSeen", preview={"write_intermediates": True, "filename_prefix": prefix}))
    assert played.ends == ["execution_success"]
    folder = server.output / "seen/steps_00001"
    manifest = json.loads((folder / "run.json").read_text())
    assert (manifest["space"], manifest["decoder"]["name"]) == ("never_seen", "of-never-seen")
    assert manifest["notes"] == []
    with Image.open(folder / "step_0004.png") as picture:
        assert picture.convert("RGB").getextrema() == ((64, 64),) * 3


def test_a_better_decoder_is_used_in_the_next_run_and_no_image_is_decoded_twice(desk):
    metrics = {"psnr_full_db": 40.0, "beside": {default_for("sd1")[0]: {"psnr_full_db": 20.0}}}
    graph, out = desk.graph(drawn(1, 4, 4, 6), space="sd1")
    played = [desk.server.play(graph)]
    before = load_file(out)["image"]
    path = put(desk.server.models / "safelight", "better", SPACES["sd1"], 0.75, metrics=metrics)
    try:
        played += [desk.server.play(graph) for _ in range(2)]
    finally:
        path.unlink()
    assert (before != 0.75).any()
    assert (load_file(out)["image"] == 0.75).all()
    ran = [any(event.data.get("node") == "3" for event in run.named("executing")) for run in played]
    assert ran == [True, True, False]
