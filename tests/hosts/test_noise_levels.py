"""The noise levels of every scheduler of the installed diffusers, against values from the schedules' own formulas."""

import importlib
import inspect
import itertools
import math
import pkgutil
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import diffusers
import pytest
import torch
from diffusers import SchedulerMixin
from safelight.hosts import x0
from safelight.hosts.noise_levels import Tables, noise_level, order_of, planned_sigmas

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 4
SCALED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ALL = 1000  # timesteps of the training
X = torch.linspace(-1, 1, 64).view(1, 4, 4, 4)
# Schedulers of tokens, which are not noisy: a step replaces some of them.
TOKENS = {"Amused", "BlockRefinement", "DiscreteDDIM", "EntropyBound", "VQDiffusion"}
FEWEST_CHECKED = {"0.42": 44}  # classes, by version of diffusers; two of 46 need torchsde


# The formulas: sigma as the ratio of noise to image, of flow models as the share of noise.


def ratio(cumprod: float) -> float:
    return math.sqrt((1 - cumprod) / cumprod)


def of_scaled(timestep: float) -> float:
    """Betas whose roots are equally spaced: Stable Diffusion's. Between two timesteps, sigmas are interpolated."""
    start, end = SCALED["beta_start"] ** 0.5, SCALED["beta_end"] ** 0.5
    betas = [(start + (end - start) * i / (ALL - 1)) ** 2 for i in range(ALL)]
    cumprods = list(itertools.accumulate((1 - beta for beta in betas), lambda a, b: a * b))
    low = min(int(timestep), ALL - 2)
    return ratio(cumprods[low]) + (timestep - low) * (ratio(cumprods[low + 1]) - ratio(cumprods[low]))


def of_cosine(timestep: float, count: int = ALL) -> float:
    """https://arxiv.org/abs/2102.09672, equation 17, with the largest beta 0.999."""

    def bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    cumprod = 1.0
    for i in range(int(timestep) + 1):
        cumprod *= 1 - min(1 - bar((i + 1) / count) / bar(i / count), 0.999)
    return ratio(cumprod)


def of_flow(timestep: float) -> float:
    return timestep / ALL


def karras(i: float, low: float, high: float, rho: float = 7.0) -> float:
    """https://arxiv.org/abs/2206.00364, equation 5; `i` is in 0..1."""
    return (high ** (1 / rho) + i * (low ** (1 / rho) - high ** (1 / rho))) ** rho


def of_wuerstchen(time: float) -> float:
    cumprod = math.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    return ratio(min(max(cumprod, 0.0001), 0.9999))


def of_vp(time: float) -> float:
    """The cumulated noise of beta(t) = 0.1 + 19.9 t, integrated in small steps."""
    count = 20000
    total = sum(0.1 + 19.9 * time * (i + 0.5) / count for i in range(count)) * time / count
    return ratio(math.exp(-total))


class Case(NamedTuple):
    """A scheduler.

    Args:
        sigma: function from the number of a step, from 0, and its timestep to the expected sigma.
        end: sigma after the last step; None if unknown.
        config: settings of the scheduler.
        schedule: arguments of `set_timesteps`.
        step: function that takes one step; it gets the scheduler, the timestep and the number of the step.
        has_plan: whether the sigmas are known before the steps.
    """

    sigma: Callable[[int, float], float | None]
    end: float | None = 0.0
    config: Mapping[str, Any] = MappingProxyType({})
    schedule: Mapping[str, Any] = MappingProxyType({"num_inference_steps": STEPS})
    step: Callable[[Any, Any, int], Any] = lambda scheduler, timestep, _: scheduler.step(X / 2, timestep, X)
    has_plan: bool = True


def plain(timestep_to_sigma, **more):
    return Case(lambda _, timestep: timestep_to_sigma(timestep), **more)


def step_with(**kwargs):
    return lambda scheduler, timestep, _: scheduler.step(X / 2, timestep, X, **kwargs)


FROM_TABLE = plain(of_scaled, config=SCALED)
FLOW = plain(of_flow)
STAGES = {"stages": 3}


def of_stage(i: int) -> float:
    """The second of three stages, in 4 steps: its own sigmas go from 0.999 to 0.001, between two levels of the path."""
    # The stage begins at 1 - 1/3 and ends at 1 - 2/3 of the schedule; the begin is corrected for the new noise.
    kept = 1 / 3
    begin = 1 - kept / (math.sqrt(1 + 1 / (1 / 3)) * (1 - kept) + kept)
    end = 1 / 3
    own = 0.999 + i / (STEPS - 1) * (0.999 / ALL - 0.999)
    return end + own * (begin - end)


CASES = {
    "DDIM": FROM_TABLE,
    "DDIMParallel": FROM_TABLE._replace(config=SCALED | {"set_alpha_to_one": False}, end=of_scaled(0)),
    # It adds noise: the timestep is that of the result.
    "DDIMInverse": Case(
        lambda _, t: of_scaled(t - ALL // STEPS) if t >= ALL // STEPS else 0.0, of_scaled(750), config=SCALED
    ),
    "DDPM": FROM_TABLE,
    "DDPMParallel": FROM_TABLE,
    "PNDM": FROM_TABLE._replace(
        config=SCALED | {"skip_prk_steps": True}, end=of_scaled(0), schedule={"num_inference_steps": STEPS - 1}
    ),
    "LCM": FROM_TABLE,
    "TCD": FROM_TABLE._replace(end=of_scaled(0)),
    "CogVideoXDDIM": FROM_TABLE._replace(config=SCALED | {"snr_shift_scale": 1.0}),
    "CogVideoXDPM": FROM_TABLE._replace(
        config=SCALED | {"snr_shift_scale": 1.0},
        step=lambda scheduler, timestep, _: scheduler.step(X / 2, None, timestep, None, X),
    ),
    "UnCLIP": plain(of_cosine),
    "RePaint": Case(
        lambda _, t: of_scaled(t),
        config=SCALED,
        schedule={"num_inference_steps": STEPS, "jump_length": 100},
        step=step_with(original_image=X, mask=torch.ones_like(X)),
        has_plan=False,
    ),
    "EulerDiscrete": FROM_TABLE,
    "EulerAncestralDiscrete": FROM_TABLE,
    "LMSDiscrete": FROM_TABLE,
    "HeunDiscrete": FROM_TABLE,
    "KDPM2Discrete": FROM_TABLE,
    "KDPM2AncestralDiscrete": FROM_TABLE,
    "DPMSolverSDE": FROM_TABLE,
    "DPMSolverMultistep": FROM_TABLE,
    "DPMSolverMultistepInverse": FROM_TABLE._replace(end=of_scaled(999)),
    "DPMSolverSinglestep": FROM_TABLE,
    "DEISMultistep": FROM_TABLE._replace(end=of_scaled(0)),
    "UniPCMultistep": FROM_TABLE,
    "SASolver": FROM_TABLE._replace(end=of_scaled(0)),
    "EDMEuler": Case(lambda i, _: karras(i / (STEPS - 1), 0.002, 80)),
    "EDMDPMSolverMultistep": Case(lambda i, _: karras(i / (STEPS - 1), 0.002, 80)),
    "CosineDPMSolverMultistep": Case(lambda i, _: 500 * (0.3 / 500) ** (i / (STEPS - 1))),
    # Each step is 10 of the 39 intervals of the training.
    "CMStochasticIterative": Case(lambda i, _: karras(10 * i / 39, 0.002, 80), 0.002),
    "ConsistencyDecoder": Case(lambda i, _: of_cosine((1008, 512)[i], 1024), schedule={"num_inference_steps": 2}),
    "FlowMatchEulerDiscrete": FLOW._replace(config={"shift": 3.0}),
    "FlowMatchHeunDiscrete": FLOW._replace(config={"shift": 3.0}),
    "FlowMatchLCM": FLOW._replace(config={"shift": 3.0}),
    "FlowMapEulerDiscrete": FLOW._replace(config={"shift": 3.0}),
    "LTXEulerAncestralRF": FLOW,
    "Piflow": FLOW._replace(
        config={"n_grid": 2},
        step=lambda scheduler, timestep, _: scheduler.step(torch.cat((X, X), -1), timestep, X),
    ),
    "Helios": Case(lambda i, _: of_stage(i), 1 / 3, STAGES, {"num_inference_steps": STEPS, "stage_index": 1}),
    "HeliosDMD": Case(
        lambda i, _: of_stage(i) if i < STEPS - 1 else None,
        1 / 3,
        STAGES,
        {"num_inference_steps": STEPS - 1, "stage_index": 1},
        lambda scheduler, timestep, i: scheduler.step(
            X[None] / 2,
            timestep,
            X[None],
            cur_sampling_step=i,
            dmd_noisy_tensor=X[None],
            dmd_sigmas=scheduler.sigmas,
            dmd_timesteps=scheduler.timesteps,
            all_timesteps=scheduler.timesteps,
        ),
    ),
    # Five points of t from 0 to 1, shifted by 12; sigma is 1 - t.
    "MiniMaxH3": Case(lambda i, _: 12 * (1 - i / 4) / (1 + 11 * (1 - i / 4)), schedule={"num_inference_steps": 5}),
    "RFD4Proteina": Case(
        lambda _, t: 1 - t,
        config={"schedule_mode": "power", "noise_mode": "1/t", "tsr_k": 1.0, "tsr_sigma": 1.0, "tail_steps": 0},
        step=lambda scheduler, timestep, _: scheduler.step(X[0] / 2, timestep, X[0], torch.ones(4, 4)),
    ),
    # sin^2 and the rest of the circle; the first sample is only noise.
    "IPNDM": Case(lambda i, _: None if i == 0 else math.tan(math.asin(math.sin((1 - i / STEPS) * math.pi / 2) ** 2))),
    "SCM": Case(
        lambda i, _: None if i == 0 else math.tan(1.5708 * (1 - i / STEPS)),
        schedule={"num_inference_steps": STEPS, "intermediate_timesteps": None},
    ),
    "DDPMWuerstchen": plain(
        of_wuerstchen, end=0.0100005, step=lambda scheduler, timestep, _: scheduler.step(X / 2, timestep[None], X)
    ),
    # The level is an argument; the plan is the schedule without the noise that the loop adds.
    "KarrasVe": Case(
        lambda i, _: 100**2 * (0.02 / 100) ** (2 * i / (STEPS - 1)),
        step=lambda scheduler, timestep, _: scheduler.step(X / 2, float(scheduler.schedule[int(timestep)]), 0.01, X),
    ),
    "ScoreSdeVe": Case(
        lambda i, _: 0.01 * (1348 / 0.01) ** ((STEPS - 1 - i) / (STEPS - 1)),
        step=lambda scheduler, timestep, _: scheduler.step_pred(X / 2, timestep, X),
    ),
    "ScoreSdeVp": plain(
        of_vp, end=None, step=lambda scheduler, timestep, _: scheduler.step_pred(X / 2, X, timestep.clone())
    ),
}
NEEDS = {"LMSDiscrete": "scipy"}
ENDS_WITH_TIMESTEP = {"DDPMWuerstchen", "SCM"}  # the last timestep is the end


def scheduler_classes():
    """All scheduler classes of the installed diffusers that can be imported, by the name without `Scheduler`."""
    found = {}
    modules = pkgutil.walk_packages(diffusers.schedulers.__path__, "diffusers.schedulers.")
    for module in modules:
        try:
            contents = vars(importlib.import_module(module.name))
        except ImportError:  # torchsde is missing
            continue
        for name, kind in contents.items():
            if inspect.isclass(kind) and issubclass(kind, SchedulerMixin) and kind.__module__ == module.name:
                found[name.removesuffix("Scheduler")] = kind
    return {name: kind for name, kind in found.items() if kind is not SchedulerMixin}


CLASSES = scheduler_classes()


def begun(name):
    """Returns a scheduler with its schedule."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    case = CASES[name]
    scheduler = CLASSES[name](**case.config)
    scheduler.set_timesteps(**case.schedule)
    if name == "ScoreSdeVe":
        scheduler.set_sigmas(STEPS)
    return case, scheduler


@pytest.mark.parametrize("name", [name for name in CASES if name in CLASSES])
def test_the_sigma_of_each_step_is_that_of_the_schedule_s_formula(name):
    case, scheduler = begun(name)
    levels, tables = [], Tables()

    def note_level(call):
        levels.append(x0.estimate_x0(scheduler, call, tables).sigma)

    end = x0.listen(scheduler, note_level)
    timesteps = scheduler.timesteps[: -1 if name in ENDS_WITH_TIMESTEP else None]
    for i, timestep in enumerate(timesteps):
        scheduler.is_scale_input_called = True  # else some warn
        case.step(scheduler, timestep, i)
    end()
    firsts = list(zip(levels, timesteps, strict=True))[:: order_of(scheduler)]
    expected = [case.sigma(i, float(timestep)) for i, (_, timestep) in enumerate(firsts)]
    assert len(expected) >= 2
    assert [level for level, _ in firsts] == [
        None if sigma is None else pytest.approx(sigma, rel=2e-3, abs=1e-6) for sigma in expected
    ]


@pytest.mark.parametrize("name", [name for name in CASES if name in CLASSES])
def test_the_planned_sigmas_of_a_loop_are_those_of_its_steps_and_of_its_end(name):
    case, scheduler = begun(name)
    timesteps = scheduler.timesteps[: -1 if name in ENDS_WITH_TIMESTEP else None]
    firsts = timesteps[:: order_of(scheduler)].tolist()
    planned = planned_sigmas(scheduler, len(firsts), 0, Tables())
    if not case.has_plan:
        assert planned is None
        return
    expected = [*(case.sigma(i, timestep) for i, timestep in enumerate(firsts)), case.end]
    assert planned == [None if sigma is None else pytest.approx(sigma, rel=2e-3, abs=1e-6) for sigma in expected]


def test_every_scheduler_class_has_a_case_or_is_one_of_tokens():
    assert set(CLASSES) - set(CASES) == TOKENS & set(CLASSES)
    checked = [name for name in CASES if name in CLASSES]
    assert len(checked) >= FEWEST_CHECKED.get(".".join(diffusers.__version__.split(".")[:2]), 30)


@pytest.mark.parametrize("name", sorted(TOKENS))
def test_tokens_have_no_noise_level(name):
    scheduler = type(f"{name}Scheduler", (), {"timesteps": torch.arange(4), "config": None})()
    assert planned_sigmas(scheduler, 4, 0, Tables()) is None
    with pytest.raises(KeyError, match=name):
        noise_level(scheduler, 1, Tables())


def test_a_class_of_the_user_has_the_levels_of_its_base_class():
    class FasterEulerScheduler(diffusers.EulerDiscreteScheduler):
        pass

    scheduler = FasterEulerScheduler(**SCALED)
    scheduler.set_timesteps(STEPS)
    assert planned_sigmas(scheduler, STEPS, 0, Tables()) == pytest.approx([float(s) for s in scheduler.sigmas])


@pytest.mark.parametrize(
    ("first", "total", "expected"),
    [
        (0, 2, [750, 500, 250]),
        (1, 2, [500, 250, 0]),
        (None, 2, [250, 0, None]),
        (3, 3, [0, "unknown", "unknown", None]),
    ],
    ids=["first part", "middle", "last part", "longer than the schedule"],
)
def test_a_part_of_a_schedule_has_its_sigmas(first, total, expected):
    scheduler = diffusers.DDIMScheduler(**SCALED)
    scheduler.set_timesteps(STEPS)
    planned = planned_sigmas(scheduler, total, first, Tables())
    at_end = {None: 0.0, "unknown": None}
    assert planned == [
        at_end[timestep] if timestep in at_end else pytest.approx(of_scaled(timestep), rel=1e-4)
        for timestep in expected
    ]


def test_a_schedule_that_begins_with_only_noise_has_no_first_sigma():
    scheduler = diffusers.DDIMScheduler(**SCALED, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    scheduler.set_timesteps(STEPS)
    first, second, *_ = planned_sigmas(scheduler, STEPS, 0, Tables())
    assert first is None
    assert second > 1
