"""Learning from the images that pipelines decode themselves."""

import copy
import logging
import subprocess
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.configuration_utils import register_to_config
from safelight.decoders.latents.space_table import SPACES
from safelight.errors import OptionError
from safelight.fitting.online.learned_files import list_learned_files
from safelight.fitting.online.state import OnlineState
from safelight.hosts.diffusers import Previews, learning, watch
from safelight.hosts.diffusers.options import WatchOptions
from safelight.hosts.online_learning import OnlineLearner, fingerprint_of
from tiny_models import kl
from tiny_pipelines import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore")
SD1 = FAMILIES["StableDiffusion"]


@pytest.fixture(autouse=True)
def learner(monkeypatch):
    """A learner of this test, which ends with it."""
    learner = OnlineLearner(waiting=64)
    monkeypatch.setattr(learning, "LEARNER", learner)
    yield learner
    learner.close()


@pytest.fixture
def pairs(monkeypatch):
    """The pairs that would be learned from, each with its latent space and the fingerprint of its VAE."""
    found = []

    def learn(folder, space, decoded, catalogue, evidence, *, vae):
        found.append(SimpleNamespace(folder=folder, space=space, decoded=decoded, vae=vae))

    monkeypatch.setattr(learning, "learn_from_decode", learn)
    return found


def states(folder):
    return [OnlineState.load(files.state) for files in list_learned_files(folder)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_pair_is_what_the_pipeline_decoded_and_nothing_changes(make, family, tmp_path, learner, pairs):
    tiny, pipe = make(family)
    plain = np.asarray(tiny.run(pipe))
    latents = tiny.run(pipe, output_type="latent")
    attributes = set(vars(pipe)), set(vars(pipe.vae))
    decodes = []
    with watch(pipe, screen="off", learn=True, decoder_folder=tmp_path) as run:
        hook = pipe.vae.forward  # any other method, to be sure that only `decode` is replaced
        result = np.asarray(tiny.run(pipe))
        assert pipe.vae.forward == hook
        decodes.append(pipe.vae.decode.__wrapped__)
    assert np.array_equal(plain, result)
    assert (set(vars(pipe)), set(vars(pipe.vae))) == attributes
    assert run.notes == []
    learner.wait()
    (pair,) = pairs
    assert (pair.folder, pair.space.name, pair.vae) == (tmp_path, tiny.space, fingerprint_of(pipe.vae))
    # The pipeline's own latents, in model space; of a causal video the first frame.
    rows, (channels, _, height, width) = SPACES[tiny.space], tiny.latents
    assert pair.decoded.latents.shape == (len(pair.decoded.latents), channels, height, width)
    if torch.is_tensor(latents) and latents.ndim in (4, 5) and latents.shape[-2:] == (height, width):
        expected = tiny.unpack(pipe, latents).reshape(1, channels, -1, height, width)
        assert torch.allclose(pair.decoded.latents[:1], expected[:, :, 0], atol=2e-3), rows.name
    # The pipeline's own picture, at twice the latent size.
    frames = torch.from_numpy(result if result.ndim == 5 else result[:, None]).movedim(-1, 2)
    factor = frames.shape[-1] // pair.decoded.rgb.shape[-1]
    assert torch.allclose(pair.decoded.rgb[0], F.avg_pool2d(frames[0, :1], factor)[0], atol=1e-5)


def test_a_decoder_is_learned_and_the_next_run_shows_it(sd1, tmp_path, learner, caplog):
    with caplog.at_level(logging.INFO, "safelight.learning"):
        for seed in range(9):
            with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path):
                SD1.run(sd1, generator=torch.Generator().manual_seed(seed))
            learner.wait()
    (state,) = states(tmp_path)
    assert (state.space.name, state.decodes, state.vae) == ("sd1", 9, fingerprint_of(sd1.vae))
    assert "auto uses it from the next run on" in caplog.text
    with watch(sd1, screen="off", decoder_folder=tmp_path) as run:
        SD1.run(sd1)
    assert run.pictures[-1].decoder.startswith("sd1-learned")
    assert len(states(tmp_path)) == 1
    assert states(tmp_path)[0].decodes == 9  # without the option nothing is learned


def test_a_decoder_of_another_vae_is_not_used(sd1, tmp_path, learner):
    for seed in range(9):
        with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path):
            SD1.run(sd1, generator=torch.Generator().manual_seed(seed))
        learner.wait()
    torch.manual_seed(7)
    other = copy.copy(sd1)
    other.vae = kl(4, 0.18215).eval()
    with watch(other, screen="off", learn=True, decoder_folder=tmp_path) as run:
        SD1.run(other)
    learner.wait()
    assert not run.pictures[-1].decoder.startswith("sd1-learned")
    assert sorted(state.decodes for state in states(tmp_path)) == [1, 9]


@pytest.mark.parametrize("output", ["pil", "np", "pt"])
def test_the_form_of_the_output_makes_no_difference(sd1, tmp_path, learner, pairs, output):
    with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path):
        SD1.run(sd1, output_type=output)
    learner.wait()
    assert len(pairs) == 1


def test_without_a_decode_one_note_says_so(sd1, tmp_path, learner, pairs):
    with watch(sd1, tmp_path / "runs", screen="off", learn=True, decoder_folder=tmp_path) as run:
        for _ in range(2):
            SD1.run(sd1, output_type="latent")
    assert pairs == []
    (note,) = run.notes
    assert note.startswith("nothing was learned: the pipeline decoded no image")
    assert run.manifest()["notes"] == [note]


def test_a_note_says_why_a_decode_teaches_nothing(sd1, tmp_path, monkeypatch):
    decode = sd1.vae.decode
    monkeypatch.setattr(
        sd1.vae, "decode", lambda *args, **kwargs: (decode(*args, **kwargs)[0][:, :1].expand(-1, 4, -1, -1),)
    )
    with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path) as run:
        SD1.run(sd1, output_type="pt")
    (note,) = run.notes
    assert note.startswith("nothing was learned: expected images [N, H, W, 3]")


def test_a_vae_with_a_codebook_teaches_nothing(sd1, tmp_path, monkeypatch, pairs):
    monkeypatch.setattr(sd1.vae, "quantize", object(), raising=False)
    with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path) as run:
        SD1.run(sd1)
    assert "has a codebook" in run.notes[0]
    assert pairs == []


@pytest.mark.parametrize("method", ["enable_tiling", "enable_slicing"])
def test_tiles_and_slices_are_one_decode(make, tmp_path, learner, pairs, method):
    tiny, pipe = make("StableDiffusion")
    getattr(pipe.vae, method)()
    try:
        with watch(pipe, screen="off", learn=True, decoder_folder=tmp_path):
            tiny.run(pipe, num_images_per_prompt=3)
    finally:
        getattr(pipe.vae, method.replace("enable", "disable"))()
    learner.wait()
    (pair,) = pairs
    assert len(pair.decoded.latents) == 3


def test_several_calls_of_one_block_teach_once_each(sd1, tmp_path, learner, pairs):
    with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path):
        for seed in range(3):
            SD1.run(sd1, generator=torch.Generator().manual_seed(seed))
    learner.wait()
    assert len(pairs) == 3
    assert not torch.equal(pairs[0].decoded.latents, pairs[1].decoded.latents)


def test_decodes_of_unfinished_latents_are_not_used(sd1, tmp_path, learner, pairs):
    def show(pipe, index, timestep, kwargs):
        pipe.vae.decode(kwargs["latents"] / pipe.vae.config.scaling_factor)
        return kwargs

    with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path, decoder="full", full_every_n_steps=1):
        sd1.vae.decode(torch.zeros(1, 4, 8, 8))  # before the pipeline is called
        SD1.run(sd1, callback_on_step_end=show)
    learner.wait()
    assert len(pairs) == 1


def test_a_decode_with_a_mask_is_not_used(sd1, tmp_path, learner, pairs, monkeypatch):
    decode = sd1.vae.decode
    monkeypatch.setattr(sd1.vae, "decode", lambda *args, mask=None, **kwargs: decode(*args, **kwargs))
    with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path):
        SD1.run(sd1)
        sd1.vae.decode(torch.zeros(1, 4, 8, 8), mask=torch.ones(1))
    learner.wait()
    assert len(pairs) == 1


SCRIPT = """
import threading
from pathlib import Path
from safelight.hosts.diffusers import learning

def task():
    while not learning.LEARNER._closed:  # until the script ends
        threading.Event().wait(0.001)
    Path("learned").touch()

learning.LEARNER.offer(task)
"""


@pytest.mark.timeout(600)  # it imports torch in another process
def test_a_script_that_ends_waits_until_all_is_learned(tmp_path):
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=tmp_path, check=True)
    assert (tmp_path / "learned").exists()


def test_the_callback_learns_too(sd1, tmp_path, learner, pairs):
    SD1.run(sd1, callback_on_step_end=Previews(sd1, screen="off", learn=True, decoder_folder=tmp_path))
    learner.wait()
    assert len(pairs) == 1
    assert "decode" not in vars(sd1.vae)


def test_calls_in_other_threads_teach_with_their_own_images(make, tmp_path, learner, pairs):
    tiny, pipe = make("StableDiffusion")
    copies = [copy.copy(pipe) for _ in range(2)]
    for each in copies:
        each.scheduler = copy.deepcopy(pipe.scheduler)

    def call(each, seed):
        with watch(each, screen="off", learn=True, decoder_folder=tmp_path / str(seed)):
            tiny.run(each, generator=torch.Generator().manual_seed(seed))

    threads = [threading.Thread(target=call, args=(each, seed)) for seed, each in enumerate(copies)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    learner.wait()
    assert {pair.folder.name for pair in pairs} == {"0", "1"}
    assert len(pairs) == 2
    assert "decode" not in vars(pipe.vae)


def test_a_vae_that_is_replaced_in_the_block_is_followed(make, tmp_path, learner, pairs):
    tiny, pipe = make("StableDiffusion")
    own = pipe.vae
    torch.manual_seed(9)
    other = kl(4, 0.18215).eval()
    try:
        with watch(pipe, screen="off", learn=True, decoder_folder=tmp_path):
            tiny.run(pipe)
            pipe.vae = other
            tiny.run(pipe)
    finally:
        pipe.vae = own
    learner.wait()
    assert [pair.vae for pair in pairs] == [fingerprint_of(own), fingerprint_of(other)]
    assert "decode" not in vars(own)
    assert "decode" not in vars(other)


def test_an_exception_restores_the_vae_and_is_the_only_message(sd1, tmp_path):
    def fail(pipe, index, timestep, kwargs):
        raise RuntimeError("stopped by the user")

    block = watch(sd1, screen="off", learn=True, decoder_folder=tmp_path)
    with pytest.raises(RuntimeError, match="stopped by the user"), block as run:
        SD1.run(sd1, callback_on_step_end=fail)
    assert "decode" not in vars(sd1.vae)
    assert not any("nothing was learned" in note for note in run.notes)


def test_an_image_that_is_not_finite_teaches_nothing(sd1, tmp_path, learner, monkeypatch, caplog):
    decode = sd1.vae.decode
    monkeypatch.setattr(sd1.vae, "decode", lambda *args, **kwargs: (decode(*args, **kwargs)[0] * torch.nan,))
    with caplog.at_level(logging.INFO, "safelight.learning"):
        with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path):
            SD1.run(sd1, output_type="pt")
        learner.wait()
    assert "finite" in caplog.text
    assert states(tmp_path) == []


def test_latents_that_were_edited_after_sampling_are_still_a_pair_of_their_image(sd1, tmp_path, learner, pairs):
    latents = SD1.run(sd1, output_type="latent")
    larger = F.interpolate(torch.as_tensor(latents), scale_factor=2)
    with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path):
        SD1.run(sd1, output_type="latent")
        with torch.no_grad():
            image = sd1.vae.decode(larger / sd1.vae.config.scaling_factor).sample
    learner.wait()
    (pair,) = pairs
    assert torch.allclose(pair.decoded.latents, larger, atol=1e-5)
    assert torch.allclose(pair.decoded.rgb, (image / 2 + 0.5).clamp(0, 1), atol=1e-6)


class AutoencoderOfTomorrow(diffusers.ModelMixin, diffusers.ConfigMixin):
    """A VAE of a class that no latent space names."""

    @register_to_config
    def __init__(self, scaling_factor=0.5, latent_channels=4, block_out_channels=(4, 4)):
        super().__init__()
        self.inner = kl(latent_channels, scaling_factor)

    def decode(self, *args, **kwargs):
        return self.inner.decode(*args, **kwargs)


@pytest.fixture
def with_vae(sd1):
    """Returns a function that gives the pipeline another VAE."""
    own = sd1.vae

    def change(vae):
        sd1.vae = vae

    yield change
    sd1.vae = own


def test_an_unknown_space_gets_a_row_of_its_own(sd1, with_vae, tmp_path, learner):
    with_vae(AutoencoderOfTomorrow(0.33))
    for seed in range(9):
        with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path):
            SD1.run(sd1, generator=torch.Generator().manual_seed(seed))
        learner.wait()
    assert [state.space.name for state in states(tmp_path)] == ["autoencoderoftomorrow"]
    with watch(sd1, screen="off", decoder_folder=tmp_path) as run:
        SD1.run(sd1)
    assert run.pictures[-1].decoder.startswith("autoencoderoftomorrow-learned")


def test_a_vae_whose_class_has_other_numbers_teaches_if_the_space_is_given(sd1, with_vae, tmp_path, learner):
    with_vae(kl(4, 0.33))
    with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path) as run:
        SD1.run(sd1)
    assert "nothing was learned: the facts that diffusers gives" in run.notes[-1]
    space = replace(SPACES["sd1"], name="mine", scale=0.33, hosts={})
    for seed in range(9):
        with watch(sd1, screen="off", learn=True, decoder_folder=tmp_path, space=space) as run:
            SD1.run(sd1, generator=torch.Generator().manual_seed(seed))
        learner.wait()
    assert run.notes == []
    with watch(sd1, screen="off", decoder_folder=tmp_path, space=space) as run:
        SD1.run(sd1)
    assert run.pictures[-1].decoder.startswith("mine-learned")


def test_the_usual_folder_is_used_without_a_decoder_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SAFELIGHT_DECODERS", str(tmp_path / "usual"))
    assert WatchOptions.of().folders == ()
    assert WatchOptions.of(learn=True).folders == (tmp_path / "usual",)
    assert WatchOptions.of(learn=True, decoder_folder=[tmp_path / "own", tmp_path]).folders[0] == tmp_path / "own"
    (tmp_path / "usual").mkdir()
    assert WatchOptions.of().folders == (tmp_path / "usual",)
    assert WatchOptions.of(decoder_folder=tmp_path).folders == (tmp_path,)


def test_without_a_home_folder_learning_needs_a_decoder_folder(monkeypatch):
    monkeypatch.setattr("safelight.hosts.diffusers.options.user_folder", lambda: None)
    assert WatchOptions.of().folders == ()
    with pytest.raises(OptionError, match="learn: expected a decoder_folder"):
        WatchOptions.of(learn=True)
