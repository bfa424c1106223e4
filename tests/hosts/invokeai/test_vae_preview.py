"""Pictures that InvokeAI's VAE decodes, with VAEs of diffusers and models that look like InvokeAI's."""

from contextlib import contextmanager
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safelight.errors import OptionError
from safelight.hosts.invokeai import sinks
from safelight.hosts.invokeai.options import InvokeOptions
from safelight.hosts.invokeai.watch import watched
from safelight.preview.manifest import read_manifest

from .fake_host import State, euler, wan_video

FIELD = SimpleNamespace(key="vae")  # the model that the input preview_vae selects


def kl(**config):
    """An AutoencoderKL of 16 channels with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = diffusers.AutoencoderKL(
            latent_channels=16,
            block_out_channels=(8, 8, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            norm_num_groups=8,
            **{"scaling_factor": 1.5305, "shift_factor": 0.0609, **config},
        )
    return vae.eval().requires_grad_(False)


class AutoEncoder(torch.nn.Module):
    """Scales latents itself, as InvokeAI's autoencoder of FLUX.1 does."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1), requires_grad=False)

    def decode(self, latents):
        return torch.nn.functional.interpolate(latents[:, :3], scale_factor=8.0) * self.weight


class LoadedVae:
    """InvokeAI's LoadedModel, which records the working memory that it keeps free."""

    compute_device = torch.device("cpu")

    def __init__(self, module, fails=False):
        self.model, self.fails, self.opened = module, fails, []

    @contextmanager
    def model_on_device(self, working_mem_bytes=None):
        if self.fails:
            raise torch.cuda.OutOfMemoryError("no memory is left")
        self.opened.append(working_mem_bytes)
        yield None, self.model


class OnAnotherDevice:
    """A module whose weights are elsewhere."""

    def parameters(self):
        return iter([torch.empty(1, device="meta")])


@pytest.fixture
def play(host, node, noise, tmp_path):
    """Runs a node with a VAE. Returns the run's folder, its manifest and the keys of the models that were loaded."""

    def run(loaded, invoke=None, **options):
        context, loads = host(), []

        def load(field):
            loads.append(field)
            return loaded

        context.models = SimpleNamespace(load=load)
        chosen = InvokeOptions(**{"decoder": "full", "vae": FIELD, "write_intermediates": True, **options})
        result = watched(invoke or (lambda c: euler(c, noise)), context, node, chosen)
        folder = tmp_path / "outputs" / "safelight" / "steps_00001"
        return SimpleNamespace(folder=folder, manifest=read_manifest(folder), loads=loads, result=result)

    return run


def by_vae(run):
    """Numbers of the steps that the VAE decoded."""
    return [step["index"] for step in run.manifest["steps"] if step.get("decoder") == "full"]


def test_a_node_that_ends_early_shows_its_last_step_once(play, host, noise, monkeypatch):
    """The VAE decodes the last step when the node has returned, after the worker has decoded it."""
    saved = []
    monkeypatch.setattr(sinks, "save_image", lambda _, image, facts: saved.append(facts["safelight_step"]))

    def short(context):
        for step in (1, 2, 3):
            context.util.sd_step_callback(State(step, 1, 10, 0, noise, noise / step), "sd-3")

    run = play(LoadedVae(kl()), short, to_gallery=True, sheet=True, animation="gif")
    assert by_vae(run) == [3]
    assert saved == [1, 2, 3]
    with Image.open(run.folder / "steps.gif") as movie:
        assert movie.n_frames == 3
    with Image.open(run.folder / "sheet.png") as sheet:
        assert sheet.width < 4 * 256
    assert run.manifest["sampler"]["steps"] == 3


def test_the_vae_decodes_the_last_step_after_the_node_has_returned(play, host, noise):
    loaded = LoadedVae(kl())
    run = play(loaded)
    assert by_vae(run) == [6]
    assert run.loads == [FIELD]
    assert run.manifest["notes"] == []
    with Image.open(run.folder / "step_0006.png") as picture:
        last = np.asarray(picture.convert("RGB"), np.float32)
    latents = euler(host(), noise)  # the last sigma is 0, so the sampler ends at x0
    rgb = loaded.model.decode(latents / 1.5305 + 0.0609).sample[0] / 2 + 0.5
    expected = (rgb.clamp(0, 1) * 255).round().movedim(0, -1).numpy()
    assert np.abs(last - expected).max() <= 1
    assert loaded.opened == [64 * 48 * 4 * 2900]


def test_the_result_is_that_of_the_core_node(play, host, noise):
    assert torch.equal(play(LoadedVae(kl()), full_every_n_steps=2).result, euler(host(), noise))


def test_random_numbers_of_the_sampler_do_not_change(play, host):
    def invoke(context):
        torch.manual_seed(4)
        return euler(context, torch.randn(1, 16, 6, 8)) + torch.randn(1)

    assert torch.equal(play(LoadedVae(kl()), invoke, full_every_n_steps=1).result, invoke(host()))


def test_the_vae_decodes_every_nth_picture_if_it_is_on_the_device(play):
    assert by_vae(play(LoadedVae(kl()), full_every_n_steps=2)) == [2, 4, 6]


def test_a_vae_on_another_device_decodes_the_last_step_only(play):
    loaded = LoadedVae(kl())
    vae, loaded.model = loaded.model, OnAnotherDevice()

    def invoke(context):
        latents = euler(context, torch.zeros(1, 16, 6, 8))
        loaded.model = vae  # InvokeAI has moved it
        return latents

    run = play(loaded, invoke, full_every_n_steps=2)
    assert by_vae(run) == [6]
    assert run.manifest["notes"] == [
        "the VAE decodes the last step only: it is on meta, and loading it to cpu could take memory from the model"
    ]


def test_the_flux_autoencoder_of_invokeai_scales_latents_itself(play, noise):
    run = play(LoadedVae(AutoEncoder()))
    assert by_vae(run) == [6]
    assert run.manifest["notes"] == []


def test_a_node_that_takes_fewer_steps_than_it_reported_has_its_last_one_from_the_vae(play, noise):
    def short(context):
        for step in (1, 2, 3):
            context.util.sd_step_callback(State(step, 2, 10, 0, noise, noise), "sd-3")

    run = play(LoadedVae(kl()), short)
    assert by_vae(run) == [3]
    assert [step["index"] for step in run.manifest["steps"]] == [1, 2, 3]


def test_a_node_that_fails_has_its_last_step_from_the_decoder(play, noise, tmp_path):
    def fail(context):
        euler(context, noise)
        raise ValueError("after the last step")

    with pytest.raises(ValueError, match="after the last step"):
        play(LoadedVae(kl()), fail)
    manifest = read_manifest(tmp_path / "outputs" / "safelight" / "steps_00001")
    assert (manifest["state"], len(manifest["steps"])) == ("failed", 6)


def test_a_vae_that_fails_costs_a_note(play):
    run = play(LoadedVae(kl(), fails=True))
    assert by_vae(run) == []
    assert len(run.manifest["steps"]) == 6
    assert "step 6: stopped using the VAE: OutOfMemoryError: no memory is left" in run.manifest["notes"]


def test_a_vae_that_decodes_to_black_in_float16_is_not_used(play):
    run = play(LoadedVae(kl(force_upcast=True).half()))
    assert by_vae(run) == []
    assert "connect a VAE for float16" in run.manifest["notes"][0]


def test_the_middle_frame_of_a_video_is_not_for_the_vae(play):
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    x = torch.randn((1, 16, 5, 6, 8), generator=torch.Generator().manual_seed(2))
    run = play(LoadedVae(kl()), lambda c: wan_video(c, x, scheduler, []))
    assert by_vae(run) == []
    assert run.manifest["notes"] == ["VAE preview skipped: InvokeAI reports only the middle frame of a video"]


def test_decoder_full_without_a_vae_is_auto_with_a_note(play):
    run = play(None, vae=None)
    assert (by_vae(run), run.loads) == ([], [])
    assert run.manifest["notes"] == ["auto decodes the steps: decoder full has no VAE; connect one to preview_vae"]
    assert run.manifest["decoder"]["kind"] != "full"


def test_decoder_full_of_noise_is_refused_before_the_node_runs():
    with pytest.raises(OptionError, match="set show to denoised"):
        InvokeOptions(decoder="full", vae=FIELD, show="noisy")
