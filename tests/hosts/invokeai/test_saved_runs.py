"""Saved runs are loaded and continued in InvokeAI."""

from types import SimpleNamespace

import diffusers
import pytest
import torch
from safelight.errors import GoneError, LatentsError
from safelight.hosts.invokeai.continue_from_step import continuation
from safelight.hosts.invokeai.load_run import load_run, saved_run
from safelight.hosts.invokeai.options import InvokeOptions
from safelight.hosts.invokeai.watch import watched

from .fake_host import euler, flux, stable_diffusion

pytestmark = pytest.mark.filterwarnings("ignore")  # of the schedulers
STEPS = 6
RUN = "safelight/steps_00001"
OPTIONS = InvokeOptions(write_intermediates=True, keep_latents=True)
LOADER = SimpleNamespace(id="load")


def connected(context, field="latents"):
    """The same context, in a graph in which another node gets an output of the loader."""
    edge = SimpleNamespace(source=SimpleNamespace(node_id="load", field=field))
    session = SimpleNamespace(graph=SimpleNamespace(nodes={}, edges=[edge]), prepared_source_mapping={})
    item = getattr(getattr(context, "_data", None), "queue_item", SimpleNamespace(workflow=None))
    context._data = SimpleNamespace(queue_item=SimpleNamespace(**{**vars(item), "session": session}))
    return context


@pytest.fixture
def sd_node():
    return SimpleNamespace(id="d", steps=STEPS, seed=3, cfg_scale=4.0, scheduler="euler", denoising_start=0.0)


@pytest.fixture
def sample_sd(host, sd_node):
    """Samples as Stable Diffusion does; returns the latents that each step began with."""

    def sample(scheduler=None, options=OPTIONS, base="sd-1", **util):
        states = []
        scheduler = scheduler or diffusers.EulerDiscreteScheduler()
        noise = torch.randn((1, 4, 6, 8), generator=torch.Generator().manual_seed(1))
        watched(lambda c: stable_diffusion(c, noise, scheduler, base, states), host(**util), sd_node, options)
        return states, scheduler

    return sample


def test_a_run_is_loaded_with_pictures_latents_and_summary(host, node, noise):
    truth = []
    watched(lambda c: euler(c, noise, truth=truth), host(), node, OPTIONS)
    loaded = load_run(host(), LOADER, f" {RUN} ", step=0, most=48)
    assert [(picture.index, picture.total) for picture in loaded.pictures] == [(i, STEPS) for i in range(1, STEPS + 1)]
    torch.testing.assert_close(loaded.latents, truth[-1])
    assert loaded.seed == 3
    assert loaded.summary.startswith("steps_00001: finished, 6 steps")
    assert [picture.index for picture in load_run(host(), LOADER, RUN, step=0, most=2).pictures] == [1, 6]
    torch.testing.assert_close(load_run(host(), LOADER, RUN, step=2, most=1).latents, truth[1])


def test_latents_of_flux_have_an_axis_for_the_batch(host, node, noise):
    watched(lambda c: flux(c, noise), host(), node, OPTIONS)
    assert load_run(host(), LOADER, RUN, step=0, most=1).latents.shape == (1, 16, 6, 8)


def test_latents_of_a_video_model_have_an_axis_for_the_frames(host, node, noise):
    watched(lambda c: euler(c, noise, base="qwen-image"), host(), node, OPTIONS)
    assert load_run(host(), LOADER, RUN, step=0, most=1).latents.shape == (1, 16, 1, 6, 8)


def test_without_latents_only_a_connected_output_is_an_error(host, node, noise):
    watched(lambda c: euler(c, noise), host(), node, InvokeOptions(write_intermediates=True))
    assert load_run(host(), LOADER, RUN, step=0, most=1).latents is None
    assert load_run(connected(host(), "collection"), LOADER, RUN, step=0, most=1).latents is None
    with pytest.raises(GoneError, match="no latents were saved of this run; switch on keep_latents"):
        load_run(connected(host()), LOADER, RUN, step=0, most=1)
    with pytest.raises(GoneError, match="no latents were saved of this run"):
        load_run(host(), LOADER, RUN, step=2, most=1)


def test_latents_of_flux2_are_refused_where_they_are_wanted(host, node):
    latents = torch.randn((1, 128, 6, 8), generator=torch.Generator().manual_seed(1))
    watched(lambda c: euler(c, latents, base="ernie-image"), host(), node, OPTIONS)
    assert len(load_run(host(), LOADER, RUN, step=0, most=9).pictures) > 0
    with pytest.raises(LatentsError, match=r"latents of FLUX\.2 cannot be loaded: .* Use the pictures"):
        load_run(connected(host()), LOADER, RUN, step=0, most=1)


@pytest.mark.parametrize(
    ("typed", "why"),
    [("  ", "no run to load: type the path"), ("safelight/gone", "no such folder"), ("../x", "leads out")],
)
def test_a_missing_run_says_what_to_do(host, typed, why):
    with pytest.raises(GoneError, match=why):
        saved_run(host(), typed)


def test_an_account_loads_and_continues_its_own_runs_only(host, sample_sd, tmp_path):
    sample_sd(user="ann")
    assert continuation(saved_run(host(user="ann"), RUN), 2).steps == STEPS
    for typed in (RUN, f"../ann/{RUN}", f"safelight_users/ann/{RUN}", f"{tmp_path}/outputs/safelight_users/ann/{RUN}"):
        with pytest.raises(GoneError):
            saved_run(host(user="ben"), typed)
        with pytest.raises(GoneError):
            load_run(host(user="ben"), LOADER, typed, step=0, most=1)


def invokeai_first(timesteps, start):
    """The index of the first timestep that InvokeAI takes. Source: InvokeAI 6.14 `DenoiseLatents.init_scheduler`."""
    limit = round(1000 * (1 - start))
    return len([timestep for timestep in timesteps if timestep >= limit])


SCHEDULERS = {
    "euler": diffusers.EulerDiscreteScheduler,
    "ddim": diffusers.DDIMScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_step_is_continued_from_the_latents_that_it_began_with(host, sample_sd, name):
    states, scheduler = sample_sd(SCHEDULERS[name]())
    saved = saved_run(host(), RUN)
    timesteps = scheduler.timesteps[:: scheduler.order]
    for step in range(1, STEPS + 1):
        begun = continuation(saved, step)
        assert torch.equal(begun.latents, states[(step - 1) * scheduler.order])
        assert (begun.steps, begun.seed) == (STEPS, 3)
        assert invokeai_first(timesteps, begun.denoising_start) == step - 1
    assert torch.equal(continuation(saved, 0).latents, begun.latents)


def test_the_first_step_of_a_run_that_began_later_is_continued_where_it_began(host, sample_sd, sd_node):
    sd_node.denoising_start = 0.3
    sample_sd()
    assert continuation(saved_run(host(), RUN), 1).denoising_start == 0.3


def test_a_scheduler_without_a_timestep_for_each_step_is_refused(host, sample_sd):
    sample_sd(diffusers.PNDMScheduler(skip_prk_steps=True))
    with pytest.raises(LatentsError, match="does not take one timestep for each step"):
        continuation(saved_run(host(), RUN), 2)


def test_latents_that_do_not_say_how_they_were_sampled_are_refused(host, sample_sd, monkeypatch):
    monkeypatch.setattr("safelight.hosts.invokeai.watch.schedule_facts", lambda *_: {})
    sample_sd()
    with pytest.raises(LatentsError, match="an older Safelight or another host saved them; sample again"):
        continuation(saved_run(host(), RUN), 2)


@pytest.mark.parametrize(
    "facts", [{"timesteps": "[1e999]"}, {"timesteps": "3"}, {"schedule_steps": "x"}, {"denoising_start": "2"}]
)
def test_edited_facts_are_refused(host, sample_sd, monkeypatch, facts):
    edited = {
        "base": "sd-1",
        "timesteps": "[900, 500, 100, 50, 20, 10]",
        "schedule_steps": "6",
        "denoising_start": "0.0",
    }
    monkeypatch.setattr("safelight.hosts.invokeai.watch.schedule_facts", lambda *_: {**edited, **facts})
    sample_sd()
    with pytest.raises(LatentsError, match="the folder was edited"):
        continuation(saved_run(host(), RUN), 2)


def test_steps_that_share_a_whole_timestep_are_refused(host, sample_sd, monkeypatch):
    close = {"base": "sd-1", "timesteps": "[900.5, 900.2, 3, 2, 1, 0]", "schedule_steps": "6", "denoising_start": "0.0"}
    monkeypatch.setattr("safelight.hosts.invokeai.watch.schedule_facts", lambda *_: close)
    sample_sd()
    with pytest.raises(LatentsError, match=r"cannot begin between the timesteps 900\.5 and 900\.2"):
        continuation(saved_run(host(), RUN), 2)


def test_a_run_without_latents_cannot_be_continued(host, sample_sd):
    sample_sd(options=InvokeOptions(write_intermediates=True))
    with pytest.raises(GoneError, match="switch on keep_latents"):
        continuation(saved_run(host(), RUN), 0)
