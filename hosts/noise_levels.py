"""The noise levels of diffusers schedulers: of a call of `step`, and of all steps of a loop.

Schedulers differ in where their numbers are, and in how the number of a level is meant: of flow models it goes from 1
to 0, of all others it is the ratio of noise to image.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor


class NoiseLevel(NamedTuple):
    """A noise level: `gain * x = alpha * x0 + sigma * noise`.

    `scheduler_sigma` is the number of the level: the ratio of noise to image, or the share of noise in a flow model's
    sample; None if it is infinite.
    """

    alpha: float
    sigma: float
    gain: float
    scheduler_sigma: float | None


class ModelCall(NamedTuple):
    """A call of the model: its position in the scheduler's tables, None if the scheduler does not count; its timestep.

    The timestep is what the scheduler's `step` gets.
    """

    position: int | None
    timestep: Any


@final
class Tables:
    """A scheduler's tables as numbers. They are copied from its device once for each schedule, not at every step."""

    def __init__(self) -> None:
        self._read: dict[str, tuple[Any, list[float]]] = {}

    def of(self, scheduler: Any, name: str = "sigmas") -> Sequence[float]:
        """Returns the numbers of the attribute `name` of `scheduler`."""
        table = getattr(scheduler, name)
        read, numbers = self._read.get(name, (None, []))
        if read is not table:
            numbers = [float(number) for number in (table.tolist() if isinstance(table, Tensor) else table)]
            self._read[name] = table, numbers
        return numbers


Level = Callable[[Any, Tables, ModelCall], NoiseLevel]
End = Callable[[Any, Tables, ModelCall], NoiseLevel | None]


class SchedulerForm(NamedTuple):
    """How the noise levels of a kind of scheduler are found.

    Args:
        level: function that returns the level of the sample of a model call.
        end: function that returns the level of the result of a model call, if the loop ends with it; None if unknown.
        prediction: what the model predicts, if the scheduler's config does not say it.
        has_plan: whether the scheduler's timesteps are the calls of a loop.
        order: calls of `step` in a step of the loop; None if the scheduler's own `order` says it.
    """

    level: Level
    end: End
    prediction: str | None = None
    has_plan: bool = True
    order: int | None = None


def name_of(scheduler: Any) -> str:
    """Returns the name of its class, without `Scheduler` at the end."""
    return type(scheduler).__name__.removesuffix("Scheduler")


def known_name_of(scheduler: Any) -> str | None:
    """Returns the name of its class, or of the nearest base class in `SCHEDULER_FORMS`; None if there is none."""
    names = (kind.__name__.removesuffix("Scheduler") for kind in type(scheduler).__mro__)
    return next((name for name in names if name in SCHEDULER_FORMS), None)


def form_of(scheduler: Any) -> SchedulerForm | None:
    """Returns the form of `scheduler`; None if it is unknown, or if its samples have no noise level."""
    name = known_name_of(scheduler)
    return None if name is None else SCHEDULER_FORMS[name]


def noise_level(scheduler: Any, timestep: Any, tables: Tables) -> NoiseLevel:
    """Returns the noise level of the sample before the scheduler's last step.

    Raises:
        KeyError: the scheduler is unknown.
    """
    form = form_of(scheduler)
    if form is None:
        raise KeyError(name_of(scheduler))
    index = getattr(scheduler, "step_index", None)
    return form.level(scheduler, tables, ModelCall(index - 1 if isinstance(index, int) else None, timestep))


def planned_sigmas(scheduler: Any, total: int, first: int | None, tables: Tables) -> list[float | None] | None:
    """Returns the `total + 1` sigmas of a loop's steps and of its end; None if all of them are unknown.

    A sigma is None if it is unknown or infinite.

    Args:
        scheduler: scheduler of the loop, with its schedule.
        total: number of steps of the loop.
        first: position of the loop's first model call in the schedule; None if the loop takes the last steps.
        tables: tables of the scheduler, read before.
    """
    form = form_of(scheduler)
    if form is None or not form.has_plan or getattr(scheduler, "timesteps", None) is None:
        return None
    order, timesteps = order_of(scheduler), tables.of(scheduler, "timesteps")
    if first is None:
        first = (-(-len(timesteps) // order) - total) * order
    positions = [*range(first, len(timesteps), order)[:total]] if first >= 0 else []
    levels: list[NoiseLevel | None] = [
        _attempt(form.level, scheduler, tables, ModelCall(at, timesteps[at])) for at in positions
    ]
    levels += [None] * (total - len(levels))
    # The last step of a scheduler of second order calls the model once.
    last = min(first + total * order, len(timesteps)) - 1
    levels.append(_attempt(form.end, scheduler, tables, ModelCall(last, timesteps[last])) if positions else None)
    sigmas = [None if level is None else level.scheduler_sigma for level in levels]
    return None if all(sigma is None for sigma in sigmas) else sigmas


def order_of(scheduler: Any) -> int:
    """Returns the number of calls of its `step` in a step of a loop."""
    form = form_of(scheduler)
    order = (form and form.order) or getattr(scheduler, "order", 1)
    return order if isinstance(order, int) and order > 0 else 1


def prediction_type(scheduler: Any) -> str:
    """Returns what the model predicts: `epsilon`, `v_prediction`, `sample` or `flow_prediction`."""
    form = form_of(scheduler)
    return (form and form.prediction) or scheduler.config.prediction_type


def _attempt(find: End, scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel | None:
    try:
        return find(scheduler, tables, call)
    except (AttributeError, IndexError, TypeError, ValueError):  # a schedule in another state than at its steps
        return None


# The numbers of a level


def _of_ratio(sigma: float, gain: float | None = None) -> NoiseLevel:
    """The level with this ratio of noise to image, of samples `x0 + sigma * noise` unless they have another gain."""
    alpha = (sigma**2 + 1) ** -0.5
    return NoiseLevel(alpha, sigma * alpha, alpha if gain is None else gain, sigma)


def _of_parts(alpha: float, sigma: float) -> NoiseLevel:
    """The level of samples `alpha * x0 + sigma * noise`, with `alpha**2 + sigma**2 == 1`."""
    return NoiseLevel(alpha, sigma, 1.0, sigma / alpha if alpha > 0 else None)


def _of_cumprod(alpha_cumprod: float) -> NoiseLevel:
    # With zero terminal SNR, the first sample is only noise.
    return _of_parts(alpha_cumprod**0.5, (1 - alpha_cumprod) ** 0.5)


def _of_flow(sigma: float) -> NoiseLevel:
    return NoiseLevel(1 - sigma, sigma, 1.0, sigma)


def _of_reversed_flow(sigma: float) -> NoiseLevel:
    """The level of a flow model that predicts the direction from noise to image."""
    return NoiseLevel(1 - sigma, -sigma, 1.0, sigma)


# A schedule of sigmas, one for each call and one for the end


def _at(scheduler: Any, tables: Tables, position: int | None, name: str = "sigmas") -> float:
    if position is None or position < 0:
        raise IndexError("the scheduler does not count its steps")
    return tables.of(scheduler, name)[position]


def _exploding(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    """Samples `x0 + sigma * noise`; the model's input is `x / sqrt(sigma**2 + 1)`."""
    return _of_sigma(scheduler, _at(scheduler, tables, call.position), gain=None)


def _preserving(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    """The same sigmas, of samples that are scaled already."""
    return _of_sigma(scheduler, _at(scheduler, tables, call.position), gain=1.0)


def _of_sigma(scheduler: Any, sigma: float, gain: float | None) -> NoiseLevel:
    is_flow = getattr(scheduler.config, "prediction_type", None) == "flow_prediction"
    if is_flow or getattr(scheduler.config, "use_flow_sigmas", False):
        return _of_flow(sigma)
    return _of_ratio(sigma, gain)


def _consistency(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    """The same samples, whose images have the spread `sigma_data`, of `CMStochasticIterativeScheduler`."""
    sigma, spread = _at(scheduler, tables, call.position), scheduler.config.sigma_data
    return _of_ratio(sigma, spread * (sigma**2 + spread**2) ** -0.5)


def _flow(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    """A straight path from noise to image."""
    sigma = _at(scheduler, tables, call.position)
    if getattr(scheduler.config, "invert_sigmas", False):
        return NoiseLevel(sigma, sigma - 1, 1.0, 1 - sigma)
    return _of_flow(sigma)


def _reversed_flow(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    return _of_reversed_flow(_at(scheduler, tables, call.position))


def _staged_flow(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    """A straight path in stages of growing size, each with sigmas of its own from 1 to 0.

    A stage leads from `start` to `end`, which are levels of the whole path, and the model predicts the difference of
    its ends: `(start - end) * (noise - x0)`. Source: https://arxiv.org/abs/2410.05954, section 3.2.
    """
    start, end = _stage(scheduler, tables)
    sigma = end + _at(scheduler, tables, call.position) * (start - end)
    return NoiseLevel(1 - sigma, sigma / (start - end), 1.0, sigma)


def _stage(scheduler: Any, tables: Tables) -> tuple[float, float]:
    """The levels between which the current stage leads."""
    if scheduler.config.stages == 1:
        return 1.0, 0.0
    first = tables.of(scheduler, "timesteps")[0]
    stages = scheduler.timesteps_per_stage.items()
    stage = next(stage for stage, times in stages if float(times.min()) <= first <= float(times.max()))
    return scheduler.start_sigmas[stage], scheduler.end_sigmas[stage]


def _nearest_in_stage(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    """As `_staged_flow`, of a scheduler that does not count its steps."""
    timestep, times = _first(call.timestep), tables.of(scheduler, "timesteps")
    position = min(range(len(times)), key=lambda at: abs(times[at] - timestep))
    return _staged_flow(scheduler, tables, call._replace(position=position))


def _after(level: Level) -> End:
    """The level at the position after a call."""
    return lambda scheduler, tables, call: level(
        scheduler, tables, call._replace(position=None if call.position is None else call.position + 1)
    )


# A table of alphas, one for each timestep of the training


def _cumulative(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    return _of_cumprod(tables.of(scheduler, "alphas_cumprod")[int(_first(call.timestep))])


def _one_stride_on(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    """After a step of `DDIMScheduler` and its relatives, whose steps are equally long in the training's timesteps."""
    timestep = int(_first(call.timestep)) - scheduler.config.num_train_timesteps // scheduler.num_inference_steps
    if timestep >= 0:
        return _of_cumprod(tables.of(scheduler, "alphas_cumprod")[timestep])
    return _of_cumprod(float(scheduler.final_alpha_cumprod))


def _then(level: Level, last: Callable[[Any, Tables], NoiseLevel]) -> End:
    """The level at the next timestep of the schedule; after the last one, `last`."""

    def end(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
        timesteps, following = tables.of(scheduler, "timesteps"), (call.position or 0) + 1
        if following == len(timesteps):
            return last(scheduler, tables)
        return level(scheduler, tables, ModelCall(following, timesteps[following]))

    return end


def _clean(_scheduler: Any, _tables: Tables) -> NoiseLevel:
    return _of_parts(1.0, 0.0)


def _first_of_table(scheduler: Any, tables: Tables) -> NoiseLevel:
    return _of_cumprod(tables.of(scheduler, "alphas_cumprod")[0])


def _inverse(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    """Of `DDIMInverseScheduler`, whose timestep is that of the step's result, because it adds noise."""
    config = scheduler.config
    timestep = int(_first(call.timestep)) - config.num_train_timesteps // scheduler.num_inference_steps
    if timestep < 0:
        return _of_cumprod(float(scheduler.initial_alpha_cumprod))
    return _of_cumprod(tables.of(scheduler, "alphas_cumprod")[min(timestep, config.num_train_timesteps - 1)])


def _consistency_decoder(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    return _of_cumprod(tables.of(scheduler, "sqrt_alphas_cumprod")[int(_first(call.timestep))] ** 2)


# Formulas


def _wuerstchen(scheduler: Any, _tables: Tables, call: ModelCall) -> NoiseLevel:
    first = torch.as_tensor(_first(call.timestep))
    return _of_cumprod(float(scheduler._alpha_cumprod(first, first.device)))  # noqa: SLF001, not public


def _circular(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    """A path along a circle, of `IPNDMScheduler`."""
    alpha, beta = (_at(scheduler, tables, call.position, name) for name in ("alphas", "betas"))
    return _of_parts(alpha, beta)


def _trigonometric(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    """A path along a circle, whose timesteps are angles, of `SCMScheduler`: https://arxiv.org/abs/2410.11081."""
    angle = _at(scheduler, tables, call.position, "timesteps")
    return _of_parts(math.cos(angle), math.sin(angle))._replace(gain=1 / scheduler.config.sigma_data)


def _share_of_image(_scheduler: Any, _tables: Tables, call: ModelCall) -> NoiseLevel:
    """The share of the image is the timestep, which rises, of `RFD4ProteinaScheduler`."""
    return _of_reversed_flow(1 - _first(call.timestep))


def _karras_ve(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    """`KarrasVeScheduler.step` gets the level itself, which is higher than that of the schedule."""
    if call.position is None:
        return _of_ratio(_first(call.timestep))
    return _of_ratio(tables.of(scheduler, "schedule")[int(call.timestep)])


def _score_ve(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    return _of_ratio(tables.of(scheduler, "discrete_sigmas")[_score_index(scheduler, call)])


def _after_score_ve(scheduler: Any, tables: Tables, call: ModelCall) -> NoiseLevel:
    index = _score_index(scheduler, call)
    return _of_ratio(tables.of(scheduler, "discrete_sigmas")[index - 1] if index > 0 else 0.0)


def _score_index(scheduler: Any, call: ModelCall) -> int:
    # In float32, as the scheduler does it: the products are near whole numbers.
    return int(torch.tensor(_first(call.timestep)) * (len(scheduler.timesteps) - 1))


def _score_vp(scheduler: Any, _tables: Tables, call: ModelCall) -> NoiseLevel:
    """Source: https://arxiv.org/abs/2011.13456, appendix C."""
    time, config = _first(call.timestep), scheduler.config
    log_alpha = -0.25 * time**2 * (config.beta_max - config.beta_min) - 0.5 * time * config.beta_min
    return _of_cumprod(math.exp(2 * log_alpha))


def _unknown(_scheduler: Any, _tables: Tables, _call: ModelCall) -> None:
    return None


def _first(timestep: Any) -> float:
    """The timestep as a number; the first one of a batch."""
    return float(timestep.flatten()[0]) if isinstance(timestep, Tensor) else float(timestep)


EXPLODING = SchedulerForm(_exploding, _after(_exploding))
PRESERVING = SchedulerForm(_preserving, _after(_preserving))
FLOW = SchedulerForm(_flow, _after(_flow), "flow_prediction")
BY_STRIDE = SchedulerForm(_cumulative, _one_stride_on)
BY_TIMESTEP = SchedulerForm(_cumulative, _then(_cumulative, _clean))

# No scheduler is imported: hosts have their own. Source: diffusers 0.42.1, `schedulers`. Schedulers of tokens (Amused,
# BlockRefinement, DiscreteDDIM, EntropyBound, VQDiffusion) have no noise levels.
SCHEDULER_FORMS: Mapping[str, SchedulerForm] = {
    **dict.fromkeys(("DDIM", "DDIMParallel", "PNDM", "CogVideoXDDIM", "CogVideoXDPM"), BY_STRIDE),
    "RePaint": BY_STRIDE._replace(prediction="epsilon", has_plan=False),  # it goes back to higher levels without a step
    **dict.fromkeys(("DDPM", "DDPMParallel", "LCM", "UnCLIP"), BY_TIMESTEP),
    "TCD": SchedulerForm(_cumulative, _then(_cumulative, _first_of_table)),
    "DDIMInverse": SchedulerForm(_inverse, _cumulative),
    "ConsistencyDecoder": SchedulerForm(_consistency_decoder, _then(_consistency_decoder, _clean)),
    **dict.fromkeys(("EulerDiscrete", "EulerAncestralDiscrete", "LMSDiscrete", "EDMEuler", "DPMSolverSDE"), EXPLODING),
    **dict.fromkeys(("HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete"), EXPLODING),
    **dict.fromkeys(("EDMDPMSolverMultistep", "CosineDPMSolverMultistep"), EXPLODING),
    "CMStochasticIterative": SchedulerForm(_consistency, _after(_consistency)),
    **dict.fromkeys(("DPMSolverMultistep", "DPMSolverMultistepInverse", "DPMSolverSinglestep"), PRESERVING),
    **dict.fromkeys(("DEISMultistep", "UniPCMultistep", "SASolver", "ERSDE"), PRESERVING),
    **dict.fromkeys(("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "FlowMatchLCM"), FLOW),
    **dict.fromkeys(("FlowMapEulerDiscrete", "LTXEulerAncestralRF", "Piflow"), FLOW),
    "Helios": SchedulerForm(_staged_flow, _after(_staged_flow), "flow_prediction"),
    "HeliosDMD": SchedulerForm(_nearest_in_stage, _after(_staged_flow), "flow_prediction"),
    "MiniMaxH3": SchedulerForm(_reversed_flow, _after(_reversed_flow), "flow_prediction"),
    "RFD4Proteina": SchedulerForm(_share_of_image, _then(_share_of_image, _clean), "flow_prediction"),
    "IPNDM": SchedulerForm(_circular, _after(_circular), "v_prediction"),
    "SCM": SchedulerForm(_trigonometric, _after(_trigonometric), "trigflow"),
    "DDPMWuerstchen": SchedulerForm(_wuerstchen, _then(_wuerstchen, _clean), "epsilon"),
    "KarrasVe": SchedulerForm(_karras_ve, _then(_karras_ve, _clean), order=1),  # its second call is another method
    "ScoreSdeVe": SchedulerForm(_score_ve, _after_score_ve),
    "ScoreSdeVp": SchedulerForm(_score_vp, _unknown, "epsilon"),
}
