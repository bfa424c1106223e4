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
    assert told == [x0.X0Estimate(None, None)]
    end()
    scheduler.step(output, 3, sample_)
    assert len(told) == 1


def test_a_watched_step_still_says_what_it_takes():
    scheduler = diffusers.DDIMScheduler()
    before = inspect.signature(scheduler.step)
    x0.watch(scheduler, lambda _: None)
    assert inspect.signature(scheduler.step) == before


# Schedulers of single families: each with a model that knows the picture, by the scheduler's own numbers.


def straight(scheduler, x, picture, at):
    return (x - picture) / scheduler.sigmas[at]


def rising(scheduler, x, picture, at):
    return (picture - x) / scheduler.sigmas[at]


def inverted(scheduler, x, picture, at):
    return (picture - x) / (1 - scheduler.sigmas[at])


def turning(scheduler, x, picture, at):
    return (scheduler.alphas[at] * x - picture) / scheduler.betas[at]


def conditioned(scheduler, x, picture, at):
    """https://arxiv.org/abs/2206.00364, table 1."""
    sigma, spread = scheduler.sigmas[at], scheduler.config.sigma_data
    skip, out = spread**2 / (sigma**2 + spread**2), sigma * spread / (sigma**2 + spread**2) ** 0.5
    return (picture - skip * x) / (out if scheduler.config.prediction_type == "epsilon" else -out)


def around(scheduler, x, picture, at):
    angle, spread = scheduler.timesteps[at], scheduler.config.sigma_data
    return (torch.cos(angle) * x - spread * picture) / torch.sin(angle)


def wuerstchen(scheduler, x, picture, at):
    kept = scheduler._alpha_cumprod(scheduler.timesteps[at : at + 1], x.device)
    return (x - kept**0.5 * picture) / (1 - kept) ** 0.5


def cumulative(scheduler, x, picture, at):
    kept = scheduler.alphas_cumprod[int(scheduler.timesteps[at])]
    noise = (x - kept**0.5 * picture) / (1 - kept) ** 0.5
    return kept**0.5 * noise - (1 - kept) ** 0.5 * picture


OF_FAMILIES = {
    "FlowMapEulerDiscreteScheduler": ({}, straight),
    "LTXEulerAncestralRFScheduler": ({}, straight),
    "HeliosScheduler": ({"scheduler_type": "euler", "stages": 1}, straight),
    "FlowMatchEulerDiscreteScheduler": ({"invert_sigmas": True}, inverted),
    "MiniMaxH3Scheduler": ({}, rising),
    "IPNDMScheduler": ({}, turning),
    "EDMEulerScheduler": ({}, conditioned),
    "EDMDPMSolverMultistepScheduler": ({}, conditioned),
    "CosineDPMSolverMultistepScheduler": ({"sigma_data": 1.0}, conditioned),
    "SCMScheduler": ({}, around),
    "DDPMWuerstchenScheduler": ({}, wuerstchen),
    "CogVideoXDDIMScheduler": ({"prediction_type": "v_prediction", "clip_sample": False}, cumulative),
    "CogVideoXDPMScheduler": ({"prediction_type": "v_prediction", "clip_sample": False}, cumulative),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("name", OF_FAMILIES)
def test_the_scheduler_of_a_family_tells_the_picture_that_its_model_knows(name, plain, picture):
    if not hasattr(diffusers, name):
        pytest.skip(f"diffusers {diffusers.__version__} has no {name}")
    if name == "CosineDPMSolverMultistepScheduler":
        pytest.importorskip("torchsde")
    config, predict = OF_FAMILIES[name]
    scheduler, told = getattr(diffusers, name)(**config), []
    end = x0.watch(scheduler, told.append)
    scheduler.set_timesteps(STEPS, **({"intermediate_timesteps": None} if name == "SCMScheduler" else {}))
    x = torch.randn(picture.shape, generator=torch.Generator().manual_seed(1))
    kwargs = {"return_dict": not plain}
    looks = scheduler.timesteps[:STEPS]
    old, before = None, None
    for at, timestep in enumerate(looks):
        output = predict(scheduler, x, picture, at)
        if name == "CogVideoXDPMScheduler":
            result = scheduler.step(output, old, timestep, before, x, **kwargs)
            old, before = (result[1] if type(result) is tuple else result.pred_original_sample), timestep
        else:
            t = timestep.expand(len(x)) if name == "DDPMWuerstchenScheduler" else timestep
            result = scheduler.step(output, t, x, **kwargs)
        x = result[0] if type(result) is tuple else result.prev_sample
    end()
    assert len(told) == len(looks) > 2
    for step in told:
        torch.testing.assert_close(step.x0, picture, rtol=1e-3, atol=2e-3)
    assert "step" not in vars(scheduler)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(x0.SECOND - {"CogVideoXDPM"}))  # has nothing but tuples at first
def test_what_a_scheduler_says_in_a_plain_tuple_is_what_it_says_by_name(name):
    kind = f"{name}Scheduler"
    if not hasattr(diffusers, kind):
        pytest.skip(f"diffusers {diffusers.__version__} has no {kind}")
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    x, output = torch.ones(1, 4, 2, 2) * 0.5, torch.full((1, 4, 2, 2), 0.25)

    def said(**kwargs):
        scheduler = getattr(diffusers, kind)()
        scheduler.set_timesteps(4, **({"intermediate_timesteps": None} if name == "SCM" else {}))
        at = scheduler.timesteps[0]
        args = (output, at, x, x, x) if name == "RePaint" else (output, at, x)
        torch.manual_seed(0)
        return scheduler.step(*args, **kwargs), scheduler

    by_name, scheduler = said(return_dict=True)
    in_tuple, _ = said(return_dict=False)
    assert type(in_tuple) is tuple
    expected = by_name.pred_original_sample / (scheduler.config.sigma_data if name == "SCM" else 1)
    torch.testing.assert_close(x0.reported_by(scheduler, in_tuple), expected)
    torch.testing.assert_close(x0.reported_by(scheduler, by_name), expected)


def test_tokens_with_noise_levels_of_their_own_tell_the_picture_too():
    """As LTX-Video's conditions do: what is known already has less noise, and the output points to the picture."""
    scheduler, told = diffusers.FlowMatchEulerDiscreteScheduler(), []
    scheduler.set_timesteps(4)
    x0.watch(scheduler, told.append)
    generator = torch.Generator().manual_seed(1)
    picture, noise = (torch.randn(1, 6, 8, generator=generator) for _ in range(2))
    timestep = scheduler.timesteps[1]
    each = torch.minimum(timestep, torch.tensor([[0.0, 100.0, 300.0, 1000.0, 1000.0, 1000.0]]))
    level = (each / 1000)[..., None]
    x = (1 - level) * picture + level * noise
    scheduler.step(picture - noise, timestep, x, per_token_timesteps=each, return_dict=False)
    torch.testing.assert_close(told[0].x0, picture, rtol=1e-5, atol=1e-5)


def test_sigmas_are_read_once_for_each_schedule(picture):
    class Counted(torch.Tensor):
        read = 0

        def tolist(self):
            Counted.read += 1
            return super().tolist()

    scheduler, told = diffusers.FlowMatchEulerDiscreteScheduler(), []
    x0.watch(scheduler, told.append)
    for _ in range(2):
        scheduler.set_timesteps(STEPS)
        scheduler.sigmas = scheduler.sigmas.as_subclass(Counted)
        for timestep in scheduler.timesteps:
            scheduler.step(picture, timestep, picture)
    assert Counted.read == 2
    assert [round(step.sigma, 4) for step in told[:STEPS]] == [round(float(s), 4) for s in scheduler.sigmas[:-1]]
