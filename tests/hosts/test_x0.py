"""What schedulers believe in, beside what they say themselves, and beside a model that knows the answer."""

import inspect
import itertools

import diffusers
import pytest
import torch
from safelight.hosts import x0

KARRAS = {"use_karras_sigmas": True}
SDE = {"algorithm_type": "sde-dpmsolver++"}
# InvokeAI's names, but for er_sde, which is a scheduler of its own.
SCHEDULERS = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "deis_k": ("DEISMultistepScheduler", KARRAS),
    "lms": ("LMSDiscreteScheduler", {}),
    "lms_k": ("LMSDiscreteScheduler", KARRAS),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "heun": ("HeunDiscreteScheduler", {}),
    "heun_k": ("HeunDiscreteScheduler", KARRAS),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_k": ("EulerDiscreteScheduler", KARRAS),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "kdpm_2": ("KDPM2DiscreteScheduler", {}),
    "kdpm_2_k": ("KDPM2DiscreteScheduler", KARRAS),
    "kdpm_2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "kdpm_2_a_k": ("KDPM2AncestralDiscreteScheduler", KARRAS),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {"solver_order": 2}),
    "dpmpp_2s_k": ("DPMSolverSinglestepScheduler", {"solver_order": 2} | KARRAS),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_k": ("DPMSolverMultistepScheduler", KARRAS),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", SDE),
    "dpmpp_2m_sde_k": ("DPMSolverMultistepScheduler", SDE | KARRAS),
    "dpmpp_3m": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "dpmpp_3m_k": ("DPMSolverMultistepScheduler", {"solver_order": 3} | KARRAS),
    "dpmpp_sde": ("DPMSolverSDEScheduler", {"noise_sampler_seed": 0}),
    "dpmpp_sde_k": ("DPMSolverSDEScheduler", {"noise_sampler_seed": 0} | KARRAS),
    "unipc": ("UniPCMultistepScheduler", {}),
    "unipc_k": ("UniPCMultistepScheduler", KARRAS),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
}
FLOWS = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "heun": ("FlowMatchHeunDiscreteScheduler", {"shift": 3.0}),
    "lcm": ("FlowMatchLCMScheduler", {"shift": 3.0}),
    "unipc": (
        "UniPCMultistepScheduler",
        {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
    ),
    "dpmpp_2m": (
        "DPMSolverMultistepScheduler",
        {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},
    ),
}
WITHOUT_SAMPLE = {
    *("EulerAncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"),
    *("DPMSolverSDEScheduler", "PNDMScheduler"),
}
OLD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
NEEDS = {"DPMSolverSDEScheduler": "torchsde", "LMSDiscreteScheduler": "scipy"}
STEPS = 8


def make(table, name, **config):
    kind, own = table[name]
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    return getattr(diffusers, kind)(**(config | own))


class Oracle:
    """Knows the picture: what it predicts at a noise level leads to it from wherever one is."""

    def __init__(self, picture, prediction, kept):
        self.picture, self.prediction = picture, prediction
        self.log_kept = kept.double().log()

    def __call__(self, seen, timestep):
        """`seen` as a model of Stable Diffusion gets it, `timestep` in 0..1000, whole or not."""
        t = min(max(float(timestep), 0.0), len(self.log_kept) - 1.0)
        low = min(int(t), len(self.log_kept) - 2)
        kept = torch.lerp(self.log_kept[low], self.log_kept[low + 1], t - low).exp()
        alpha, sigma = float(kept**0.5), float((1 - kept) ** 0.5)
        noise = (seen - alpha * self.picture) / sigma
        known = {"epsilon": noise, "v_prediction": alpha * noise - sigma * self.picture, "sample": self.picture}
        return known[self.prediction]


def sample(scheduler, predict, shape=(1, 4, 6, 5)):
    """Runs it; what was told of each step, what it said itself, the end."""
    told, said = [], []
    end = x0.watch(scheduler, told.append)
    scheduler.set_timesteps(STEPS)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * scheduler.init_noise_sigma
    kwargs = {} if isinstance(scheduler, diffusers.DPMSolverSDEScheduler) else {"generator": None}
    for timestep in scheduler.timesteps:
        output = predict(scheduler.scale_model_input(x, timestep), timestep)
        try:
            result = scheduler.step(output, timestep, x, **kwargs)
        except TypeError:
            kwargs = {}
            result = scheduler.step(output, timestep, x)
        said.append(getattr(result, "pred_original_sample", None))
        x = result.prev_sample
    end()
    return told, said, x


@pytest.fixture
def picture():
    return torch.randn((1, 4, 6, 5), generator=torch.Generator().manual_seed(2))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_step_tells_the_picture_that_the_model_knows(name, prediction, picture):
    if prediction == "sample" and SCHEDULERS[name][0] in WITHOUT_SAMPLE:
        pytest.skip("diffusers has no sample prediction for it")
    scheduler = make(SCHEDULERS, name, prediction_type=prediction, **OLD)
    if hasattr(scheduler.config, "clip_sample"):
        scheduler.register_to_config(clip_sample=False)
    told, _, _ = sample(scheduler, Oracle(picture, prediction, scheduler.alphas_cumprod))
    # Between the whole timesteps that some round to, the model believes in a noise level that is not quite theirs.
    for step in told:
        assert step.x0 is not None
        assert (step.x0 - picture).abs().max() < 0.05
    assert (told[-1].x0 - picture).abs().max() < 0.01


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_what_is_worked_out_is_what_a_scheduler_says(name, prediction, picture, monkeypatch):
    """Where it says something; what it says is hidden from us here."""
    scheduler = make(SCHEDULERS, name, prediction_type=prediction, **OLD)
    if hasattr(scheduler.config, "clip_sample"):
        scheduler.register_to_config(clip_sample=False)
    if type(scheduler).__name__.removesuffix("Scheduler") in x0.BETWEEN:
        pytest.skip("only what it says itself can be known")
    real = x0.recover
    monkeypatch.setattr(x0, "recover", lambda *args: real(*args[:4], None))
    told, said, _ = sample(scheduler, lambda seen, _: (seen * 3).sin())
    for step, own in zip(told, said, strict=True):
        if own is not None:
            torch.testing.assert_close(step.x0, own, rtol=1e-5, atol=1e-5)
    if all(own is None for own in said) and getattr(scheduler, "model_outputs", None) and not name.startswith("deis"):
        torch.testing.assert_close(told[-1].x0, scheduler.model_outputs[-1], rtol=1e-5, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_scheduler_tells_it_too(name, picture):
    scheduler = make(FLOWS, name)
    scheduler.set_timesteps(STEPS)
    scheduler.init_noise_sigma, scheduler.scale_model_input = 1.0, lambda x, _: x
    level = {"now": None}

    def predict(x, timestep):
        sigma = float(timestep) / 1000
        level["now"] = sigma
        return (x - picture) / sigma  # noise - picture, from where one is

    told, _, _ = sample(scheduler, predict)
    for step in told:
        assert (step.x0 - picture).abs().max() < 0.02  # some round their timesteps


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_watching_changes_nothing(name):
    def end(watched):
        scheduler = make(SCHEDULERS, name, **OLD)
        torch.manual_seed(5)
        if watched:
            return sample(scheduler, lambda seen, _: (seen * 3).sin())[2]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(x0, "watch", lambda *_: lambda: None)
            return sample(scheduler, lambda seen, _: (seen * 3).sin())[2]

    assert torch.equal(end(True), end(False))


def test_two_states_of_an_euler_sampler_tell_x0():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn((1, 16, 4, 4), generator=generator, dtype=torch.float64)
    sigmas = [1.0, 0.9, 0.55, 0.2, 0.0]
    for sigma, after in itertools.pairwise(sigmas):
        v = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        following = x + (after - sigma) * v
        torch.testing.assert_close(x0.between(x, following, sigma, after), x - sigma * v, rtol=1e-5, atol=1e-5)
        x = following


def test_a_scheduler_that_nobody_knows_tells_what_it_says_itself():
    class Unheard:
        def step(self, model_output, timestep, sample):
            return type("Result", (), {"pred_original_sample": sample - 1})()

    scheduler, told = Unheard(), []
    x0.watch(scheduler, told.append)
    scheduler.step(torch.zeros(1, 4, 2, 2), 3, torch.ones(1, 4, 2, 2))
    assert told[0].x0.eq(0).all()


def test_what_goes_wrong_is_not_the_samplers_trouble():
    scheduler, told = diffusers.DDIMScheduler(), []
    scheduler.set_timesteps(4)
    end = x0.watch(scheduler, told.append)
    scheduler.register_to_config(prediction_type="epsilon")
    sample_, output = torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(x0, "level_of", lambda *_: 1 / 0)
        scheduler.step(output, 3, sample_)
    assert told == [x0.Believed(None, None)]
    end()
    scheduler.step(output, 3, sample_)
    assert len(told) == 1


def test_a_watched_step_still_says_what_it_takes():
    scheduler = diffusers.DDIMScheduler()
    before = inspect.signature(scheduler.step)
    x0.watch(scheduler, lambda _: None)
    assert inspect.signature(scheduler.step) == before
