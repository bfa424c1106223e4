"""VAE Decode and Learn on a real server: bit-identical to VAE Decode, and previews learn from it."""

import itertools
import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from safelight.fitting.online.state import OnlineState
from safetensors.torch import load_file, save_file

COUNT = itertools.count(1)
SCALE = {"SDXL": 0.13025, "NeverSeen": 0.7}
CHANNELS = {"SDXL": 4, "NeverSeen": 6}


def latents(seed, latent_format="SDXL", size=(24, 32), batch=1):
    """Smooth latents with grain, in a VAE's units."""
    generator = torch.Generator().manual_seed(seed)
    channels = CHANNELS[latent_format]
    smooth = F.interpolate(torch.randn(batch, channels, 5, 5, generator=generator), size=size, mode="bicubic")
    return (smooth + 0.1 * torch.randn(batch, channels, *size, generator=generator)) / SCALE[latent_format]


class Desk:
    """Decodes on a server."""

    def __init__(self, server, wire):
        self.server, self.wire = server, wire
        self.folder = server.models / "safelight"

    def graph(self, samples, *, latent_format=None, tiny=False, broken=False, plain=False, sound=None, space=None):
        """A graph that decodes with our node, or with VAE Decode if `plain`; and its output file."""
        number = next(COUNT)
        name, out = f"latent_{number}.safetensors", f"image_{number}.safetensors"
        save_file({"samples": samples} | ({} if sound is None else {"sound": sound}), self.server.output / name)
        inputs = {"samples": ["10", 0], "vae": ["11", 0]}
        graph = {
            "10": {"class_type": "LabLatent", "inputs": {"file": name}},
            "11": {"class_type": "LabDecoder", "inputs": {"tiny": tiny, "broken": broken}},
            "13": {"class_type": "LabKeep", "inputs": {"file": out, "image": ["12", 0]}},
        }
        if plain:
            graph["12"] = {"class_type": "VAEDecode", "inputs": inputs}
            return graph, self.server.output / out
        inputs["space"] = space or "from model"
        if latent_format:
            graph["1"] = self.wire(latent_format, height=2, width=2)["1"]
            inputs["model"] = ["1", 0]
        graph["12"] = {"class_type": "SafelightLearn", "inputs": inputs}
        graph["14"] = {"class_type": "LabLearned", "inputs": {"image": ["12", 0]}}
        return graph, self.server.output / out

    def decode(self, samples, **kwargs):
        graph, out = self.graph(samples, **kwargs)
        played = self.server.play(graph)
        return load_file(out)["image"] if played.ends == ["execution_success"] else played.ends

    def learn(self, seeds, latent_format="SDXL"):
        graphs = [self.graph(latents(seed, latent_format), latent_format=latent_format)[0] for seed in seeds]
        assert set(self.server.play(*graphs).ends) == {"execution_success"}

    def shown_by(self, latent_format="SDXL"):
        """The decoder that Preview Steps uses for a run."""
        before = set((self.server.output / "learned").glob("run_*"))
        preview = {"write_intermediates": True, "filename_prefix": "learned/run"}
        played = self.server.play(self.wire(latent_format, preview=preview))
        assert played.ends == ["execution_success"]
        (folder,) = set((self.server.output / "learned").glob("run_*")) - before
        return json.loads((folder / "run.json").read_text(encoding="utf-8"))["decoder"]["name"]

    def known(self, space="sdxl"):
        return OnlineState.load(self.folder / "learned" / space / "state.safetensors")


@pytest.fixture(scope="module")
def desk(own_server, wire):
    own_server.inputs_of("SafelightLearn")
    return Desk(own_server, wire)


@pytest.fixture
def nothing_learned(desk):
    shutil.rmtree(desk.folder, ignore_errors=True)


@pytest.mark.parametrize("tiny", [False, True], ids=["made up", "the host's tiny one"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_image_is_bit_identical_to_vae_decodes(desk, tiny, batch):
    samples = latents(1, batch=batch) * (0.1 if tiny else 1)
    ours = desk.decode(samples, latent_format="SDXL", tiny=tiny)
    assert ours.shape == (batch, 192, 256, 3)
    assert ours.std() > 0.01
    assert torch.equal(ours, desk.decode(samples, plain=True, tiny=tiny))


def test_videos_and_latents_with_audio_are_decoded_as_the_host_does(desk):
    """Older versions of ComfyUI decode no latents with audio; then neither do we."""
    video = torch.stack([latents(seed)[0] for seed in range(3)], 1)[None]
    ours = desk.decode(video, space="sdxl")
    assert ours.shape == (9, 192, 256, 3)
    assert torch.equal(ours, desk.decode(video, plain=True))
    sounding = {"sound": torch.zeros(1, 8, 20)}
    ours, theirs = (desk.decode(latents(4), plain=plain, space="sdxl", **sounding) for plain in (False, True))
    assert ours == theirs if isinstance(theirs, list) else torch.equal(ours, theirs)


@pytest.mark.usefixtures("nothing_learned")
def test_after_twenty_decodes_the_preview_is_better_and_a_new_server_uses_it(desk, wire, restarted):
    assert desk.shown_by() == "sdxl-affine-comfyui"
    desk.learn(range(20))
    assert desk.shown_by() == "sdxl-learned-unknown"
    known = desk.known()
    assert (known.decodes, known.pixels, len(known.test_pairs)) == (20, 15 * 24 * 32, 5)
    assert known.comparison.in_use == "sdxl-affine-sdcpp"  # the better table on these pictures
    assert known.comparison.learned_db > known.comparison.in_use_db + 6
    again = Desk(restarted(desk.server), wire)
    assert again.shown_by() == "sdxl-learned-unknown"
    again.learn([*range(20), 20])
    assert again.known().decodes == 21


@pytest.mark.usefixtures("nothing_learned")
def test_a_space_by_name_learns_as_the_model_does(desk):
    """Equal latents are recognized, so both are equal in every significant bit."""
    desk.decode(latents(7), latent_format="SDXL")
    desk.decode(latents(7), space="sdxl")
    assert desk.known().decodes == 1
    desk.decode(latents(8), space="sdxl")
    assert desk.known().decodes == 2


@pytest.mark.usefixtures("nothing_learned")
def test_an_unknown_format_gets_its_own_space(desk):
    assert desk.shown_by("NeverSeen") == "principal"
    desk.learn(range(10), "NeverSeen")
    assert desk.shown_by("NeverSeen") == "neverseen-learned-unknown"
    assert desk.known("neverseen").space.scale == 0.7


@pytest.mark.usefixtures("nothing_learned")
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "no model is connected"),
        ({"space": "gone"}, "no latent space is named 'gone'"),
        ({"space": "flux2"}, "expected [B, C*4, h, w]"),
        ({"space": "sdxl", "broken": True}, "NaN"),
        ({"latent_format": "ChromaRadiance"}, "are pixels already"),
        ({"latent_format": "StableAudio1"}, "are audio"),
    ],
    ids=lambda value: str(value),
)
def test_unusable_pairs_are_decoded_and_logged_in_one_line(desk, asked, told):
    for seed in (0, 1):
        ours = desk.decode(latents(seed), **asked)
        theirs = desk.decode(latents(seed), plain=True, broken=asked.get("broken", False))
        assert torch.equal(torch.nan_to_num(ours), torch.nan_to_num(theirs))
    lines = [line for line in desk.server.log.splitlines() if "learning while decoding" in line and told in line]
    assert len(lines) == 1
    assert not (desk.folder / "learned" / "sdxl").exists()
