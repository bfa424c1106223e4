"""x0 of a scheduler's step, compared with what the scheduler reports and with a model that knows the answer."""

import inspect
import itertools
import types

import diffusers
import pytest
import torch
from safelight.hosts import noise_levels, x0

from .. import older

KARRAS = {"use_karras_sigmas": True}
SDE = {"algorithm_type": "sde-dpmsolver++"}
# InvokeAI's names, without er_sde, which is InvokeAI's own scheduler.
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
    """A model that knows the picture: its prediction leads to the picture from any sample."""

    def __init__(self, picture, prediction, alphas_cumprod):
        self.picture, self.prediction = picture, prediction
        self.log_alphas = alphas_cumprod.double().log()

    def __call__(self, model_input, timestep):
        """`timestep` is in 0..1000 and need not be whole."""
        t = min(max(float(timestep), 0.0), len(self.log_alphas) - 1.0)
        low = min(int(t), len(self.log_alphas) - 2)
        cumprod = torch.lerp(self.log_alphas[low], self.log_alphas[low + 1], t - low).exp()
        alpha, sigma = float(cumprod**0.5), float((1 - cumprod) ** 0.5)
        noise = (model_input - alpha * self.picture) / sigma
        predictions = {"epsilon": noise, "v_prediction": alpha * noise - sigma * self.picture, "sample": self.picture}
        return predictions[self.prediction]


def collect_estimates(scheduler, estimates):
    """Appends the estimate of each step; returns the function that ends it."""
    sigmas = noise_levels.Tables()
    return x0.listen(scheduler, lambda call: estimates.append(x0.estimate_x0(scheduler, call, sigmas)))


def sample(scheduler, predict, shape=(1, 4, 6, 5), *, watched=True):
    """Runs the scheduler; returns the estimate of each step, the x0 that it reports itself, and the last sample."""
    estimates, reported = [], []
    end = collect_estimates(scheduler, estimates) if watched else lambda: None
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
        reported.append(getattr(result, "pred_original_sample", None))
        x = result.prev_sample
    end()
    return estimates, reported, x


@pytest.fixture
def picture():
    return torch.randn((1, 4, 6, 5), generator=torch.Generator().manual_seed(2))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_x0_of_every_step_is_the_picture_that_the_model_knows(name, prediction, picture):
    if prediction == "sample" and SCHEDULERS[name][0] in WITHOUT_SAMPLE:
        pytest.skip("no sample prediction in diffusers")
    scheduler = make(SCHEDULERS, name, prediction_type=prediction, **OLD)
    if hasattr(scheduler.config, "clip_sample"):
        scheduler.register_to_config(clip_sample=False)
    estimates, _, _ = sample(scheduler, Oracle(picture, prediction, scheduler.alphas_cumprod))
    # Some schedulers round their timesteps, so the model's noise level differs a little from theirs.
    for step in estimates:
        assert step.x0 is not None
        assert (step.x0 - picture).abs().max() < 0.05
    assert (estimates[-1].x0 - picture).abs().max() < 0.01


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_computed_x0_equals_the_one_that_a_scheduler_reports(name, prediction, picture, monkeypatch):
    """The reported x0 is hidden from our code here."""
    scheduler = make(SCHEDULERS, name, prediction_type=prediction, **OLD)
    if hasattr(scheduler.config, "clip_sample"):
        scheduler.register_to_config(clip_sample=False)
    if type(scheduler).__name__.removesuffix("Scheduler") in x0.REPORTED_X0_ONLY:
        pytest.skip("x0 is known only if the scheduler reports it")
    compute = x0.compute_x0
    monkeypatch.setattr(x0, "compute_x0", lambda s, call, sigmas: compute(s, call._replace(result=None), sigmas))
    estimates, reported, _ = sample(scheduler, lambda model_input, _: (model_input * 3).sin())
    for step, expected in zip(estimates, reported, strict=True):
        if expected is not None:
            torch.testing.assert_close(step.x0, expected, rtol=1e-5, atol=1e-5)
    stored = getattr(scheduler, "model_outputs", None)
    if all(x is None for x in reported) and stored and not name.startswith("deis"):
        torch.testing.assert_close(estimates[-1].x0, stored[-1], rtol=1e-5, atol=1e-4)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FLOWS)
def test_x0_of_a_flow_scheduler_is_the_picture_that_the_model_knows(name, picture):
    scheduler = make(FLOWS, name)
    scheduler.set_timesteps(STEPS)
    scheduler.init_noise_sigma, scheduler.scale_model_input = 1.0, lambda x, _: x

    def predict(x, timestep):
        return (x - picture) / (float(timestep) / 1000)  # noise - picture

    estimates, _, _ = sample(scheduler, predict)
    for step in estimates:
        assert (step.x0 - picture).abs().max() < 0.02  # some round their timesteps


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_listening_does_not_change_the_samples(name):
    def last_sample(watched):
        scheduler = make(SCHEDULERS, name, **OLD)
        torch.manual_seed(5)
        return sample(scheduler, lambda model_input, _: (model_input * 3).sin(), watched=watched)[2]

    assert torch.equal(last_sample(True), last_sample(False))


def test_x0_follows_from_two_states_of_an_euler_sampler():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn((1, 16, 4, 4), generator=generator, dtype=torch.float64)
    sigmas = [1.0, 0.9, 0.55, 0.2, 0.0]
    for sigma, after in itertools.pairwise(sigmas):
        v = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        following = x + (after - sigma) * v
        torch.testing.assert_close(x0.x0_from_states(x, following, sigma, after), x - sigma * v, rtol=1e-5, atol=1e-5)
        x = following


def test_x0_of_an_unknown_scheduler_is_the_one_that_it_reports():
    class UnknownScheduler:
        def step(self, model_output, timestep, sample):
            return type("Result", (), {"pred_original_sample": sample - 1})()

    scheduler, estimates = UnknownScheduler(), []
    collect_estimates(scheduler, estimates)
    scheduler.step(torch.zeros(1, 4, 2, 2), 3, torch.ones(1, 4, 2, 2))
    assert estimates[0].x0.eq(0).all()


def test_the_gain_of_an_unknown_scheduler_without_an_estimate_is_unknown():
    class OtherScheduler:
        config = types.SimpleNamespace()

    estimate = x0.compute_x0(
        OtherScheduler(), x0.SchedulerCall(None, 1, torch.ones(1), (torch.ones(1),)), noise_levels.Tables()
    )
    assert estimate == (None, None, None)


def test_an_error_in_an_estimate_does_not_reach_the_sampler():
    scheduler, estimates = diffusers.DDIMScheduler(), []
    scheduler.set_timesteps(4)
    end = collect_estimates(scheduler, estimates)
    scheduler.register_to_config(prediction_type="epsilon")
    sample_, output = torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(x0, "noise_level", lambda *_: 1 / 0)
        scheduler.step(output, 3, sample_)
    assert estimates == [x0.X0Estimate(None, None, None)]
    end()
    scheduler.step(output, 3, sample_)
    assert len(estimates) == 1


def test_an_observed_step_keeps_its_signature():
    scheduler = diffusers.DDIMScheduler()
    before = inspect.signature(scheduler.step)
    x0.listen(scheduler, lambda _: None)
    assert inspect.signature(scheduler.step) == before


# Schedulers of single families, each with a model that knows the picture and uses the scheduler's own numbers.


def flow(scheduler, x, picture, at):
    return (x - picture) / scheduler.sigmas[at]


def reversed_flow(scheduler, x, picture, at):
    return (picture - x) / scheduler.sigmas[at]


def inverted_sigmas(scheduler, x, picture, at):
    return (picture - x) / (1 - scheduler.sigmas[at])


def circular(scheduler, x, picture, at):
    return (scheduler.alphas[at] * x - picture) / scheduler.betas[at]


def preconditioned(scheduler, x, picture, at):
    """https://arxiv.org/abs/2206.00364, table 1."""
    sigma, spread = scheduler.sigmas[at], scheduler.config.sigma_data
    skip, out = spread**2 / (sigma**2 + spread**2), sigma * spread / (sigma**2 + spread**2) ** 0.5
    return (picture - skip * x) / (out if scheduler.config.prediction_type == "epsilon" else -out)


def trigonometric(scheduler, x, picture, at):
    angle, spread = scheduler.timesteps[at], scheduler.config.sigma_data
    return (torch.cos(angle) * x - spread * picture) / torch.sin(angle)


def wuerstchen(scheduler, x, picture, at):
    cumprod = scheduler._alpha_cumprod(scheduler.timesteps[at : at + 1], x.device)
    return (x - cumprod**0.5 * picture) / (1 - cumprod) ** 0.5


def cumulative(scheduler, x, picture, at):
    cumprod = scheduler.alphas_cumprod[int(scheduler.timesteps[at])]
    noise = (x - cumprod**0.5 * picture) / (1 - cumprod) ** 0.5
    return cumprod**0.5 * noise - (1 - cumprod) ** 0.5 * picture


def consistency(scheduler, x, picture, at):
    sigma = scheduler.sigmas[at]
    of_sample, of_output = scheduler.get_scalings_for_boundary_condition(sigma)
    return (picture - of_sample * x) / of_output if of_output > 1e-6 else torch.zeros_like(x)


FAMILY_SCHEDULERS = {
    "CMStochasticIterativeScheduler": ({"clip_denoised": False}, consistency),
    "FlowMapEulerDiscreteScheduler": ({}, flow),
    "LTXEulerAncestralRFScheduler": ({}, flow),
    "HeliosScheduler": ({"scheduler_type": "euler", "stages": 1}, flow),
    "FlowMatchEulerDiscreteScheduler": ({"invert_sigmas": True}, inverted_sigmas),
    "MiniMaxH3Scheduler": ({}, reversed_flow),
    "IPNDMScheduler": ({}, circular),
    "EDMEulerScheduler": ({}, preconditioned),
    "EDMDPMSolverMultistepScheduler": ({}, preconditioned),
    "CosineDPMSolverMultistepScheduler": ({"sigma_data": 1.0}, preconditioned),
    "SCMScheduler": ({}, trigonometric),
    "DDPMWuerstchenScheduler": ({}, wuerstchen),
    "CogVideoXDDIMScheduler": ({"prediction_type": "v_prediction", "clip_sample": False}, cumulative),
    "CogVideoXDPMScheduler": ({"prediction_type": "v_prediction", "clip_sample": False}, cumulative),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", FAMILY_SCHEDULERS)
def test_x0_of_a_family_s_scheduler_is_the_picture_that_its_model_knows(name, plain, picture):
    older.expect(hasattr(diffusers, name), "diffusers", diffusers.__version__, name)
    if name == "CosineDPMSolverMultistepScheduler":
        pytest.importorskip("torchsde")
    config, predict = FAMILY_SCHEDULERS[name]
    scheduler, estimates = getattr(diffusers, name)(**config), []
    end = collect_estimates(scheduler, estimates)
    scheduler.set_timesteps(STEPS, **({"intermediate_timesteps": None} if name == "SCMScheduler" else {}))
    x = torch.randn(picture.shape, generator=torch.Generator().manual_seed(1))
    kwargs = {"return_dict": not plain}
    timesteps = scheduler.timesteps[:STEPS]
    old, before = None, None
    for at, timestep in enumerate(timesteps):
        output = predict(scheduler, x, picture, at)
        if name == "CogVideoXDPMScheduler":
            result = scheduler.step(output, old, timestep, before, x, **kwargs)
            old, before = (result[1] if type(result) is tuple else result.pred_original_sample), timestep
        else:
            t = timestep.expand(len(x)) if name == "DDPMWuerstchenScheduler" else timestep
            result = scheduler.step(output, t, x, **kwargs)
        x = result[0] if type(result) is tuple else result.prev_sample
    end()
    assert len(estimates) == len(timesteps) > 2
    for step in estimates:
        torch.testing.assert_close(step.x0, picture, rtol=1e-3, atol=2e-3)
    assert "step" not in vars(scheduler)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(x0.X0_IN_TUPLE - {"CogVideoXDPM"}))  # its first step returns only tuples
def test_x0_in_a_tuple_equals_x0_in_a_named_result(name):
    kind = f"{name}Scheduler"
    older.expect(hasattr(diffusers, kind), "diffusers", diffusers.__version__, kind)
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    x, output = torch.ones(1, 4, 2, 2) * 0.5, torch.full((1, 4, 2, 2), 0.25)

    def step(**kwargs):
        scheduler = getattr(diffusers, kind)()
        scheduler.set_timesteps(4, **({"intermediate_timesteps": None} if name == "SCM" else {}))
        at = scheduler.timesteps[0]
        args = (output, at, x, x, x) if name == "RePaint" else (output, at, x)
        torch.manual_seed(0)
        return scheduler.step(*args, **kwargs), scheduler

    by_name, scheduler = step(return_dict=True)
    in_tuple, _ = step(return_dict=False)
    assert type(in_tuple) is tuple
    expected = by_name.pred_original_sample / (scheduler.config.sigma_data if name == "SCM" else 1)
    torch.testing.assert_close(x0.reported_x0(scheduler, in_tuple), expected)
    torch.testing.assert_close(x0.reported_x0(scheduler, by_name), expected)


def test_x0_of_tokens_with_separate_noise_levels_is_the_picture():
    """LTX-Video's conditions have less noise than the other tokens, and the model predicts `picture - noise`."""
    scheduler, estimates = diffusers.FlowMatchEulerDiscreteScheduler(), []
    scheduler.set_timesteps(4)
    collect_estimates(scheduler, estimates)
    generator = torch.Generator().manual_seed(1)
    picture, noise = (torch.randn(1, 6, 8, generator=generator) for _ in range(2))
    timestep = scheduler.timesteps[1]
    token_timesteps = torch.minimum(timestep, torch.tensor([[0.0, 100.0, 300.0, 1000.0, 1000.0, 1000.0]]))
    level = (token_timesteps / 1000)[..., None]
    x = (1 - level) * picture + level * noise
    scheduler.step(picture - noise, timestep, x, per_token_timesteps=token_timesteps, return_dict=False)
    torch.testing.assert_close(estimates[0].x0, picture, rtol=1e-5, atol=1e-5)


def test_sigmas_are_read_once_for_each_schedule(picture):
    class CountingTensor(torch.Tensor):
        reads = 0

        def tolist(self):
            CountingTensor.reads += 1
            return super().tolist()

    scheduler, estimates = diffusers.FlowMatchEulerDiscreteScheduler(), []
    collect_estimates(scheduler, estimates)
    for _ in range(2):
        scheduler.set_timesteps(STEPS)
        scheduler.sigmas = scheduler.sigmas.as_subclass(CountingTensor)
        for timestep in scheduler.timesteps:
            scheduler.step(picture, timestep, picture)
    assert CountingTensor.reads == 2
    assert [round(step.sigma, 4) for step in estimates[:STEPS]] == [round(float(s), 4) for s in scheduler.sigmas[:-1]]
