"""The finished latents that a scheduler believes in, recovered from what its step is given.

All are one formula. A scheduler's sample is `x = alpha * x0 + sigma * noise`; what differs is where alpha and sigma
come from, and what the model predicts:

    epsilon        x0 = (x - sigma * out) / alpha
    v_prediction   x0 = alpha * x - sigma * out         https://arxiv.org/abs/2202.00512, appendix D
    flow           x0 = x - sigma * out                 https://arxiv.org/abs/2209.03003, alpha = 1 - sigma
    sample         x0 = out
"""

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

# How a scheduler's numbers are to be read: "cumulative" ones have alphas_cumprod[timestep], the others sigmas[index] of
# samples that explode (x0 + s * noise, so x / sqrt(s^2 + 1) is what the model sees), preserve their variance, or go
# straight from noise to picture. By name: a host may have schedulers of its own, and none is imported here.
FORMS = {
    **dict.fromkeys(("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "PNDM", "LCM", "TCD"), "cumulative"),
    **dict.fromkeys(("EulerDiscrete", "EulerAncestralDiscrete", "LMSDiscrete"), "exploding"),
    **dict.fromkeys(("HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"), "exploding"),
    **dict.fromkeys(("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep"), "preserving"),
    **dict.fromkeys(("UniPCMultistep", "SASolver", "ERSDE"), "preserving"),
    **dict.fromkeys(("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "FlowMatchLCM"), "straight"),
}
# Where one step is several looks at the model, only the scheduler knows at which noise level the last one was.
BETWEEN = {"KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"}

log = logging.getLogger("safelight.hosts")


class Level(NamedTuple):
    """A noise level: `gain * x = alpha * x0 + sigma * noise`; `told` is the scheduler's own number for it."""

    alpha: float
    sigma: float
    gain: float
    told: float | None


class Believed(NamedTuple):
    """What a step of a scheduler tells: `x0` of the shape of its sample, and the sigma that the sample was of.

    Either is None where it is not known.
    """

    x0: Tensor | None
    sigma: float | None


def watch(scheduler: Any, tell: Callable[[Believed], None]) -> Callable[[], None]:
    """Tells after each step of `scheduler`, a diffusers scheduler or one made like it, what it believes in.

    Only this object is touched, and its results are handed on as they are.

    Returns:
        Ends it.
    """
    step = scheduler.step

    @functools.wraps(step)
    def watched(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = step(model_output, timestep, sample, *args, **kwargs)
        try:
            believed = recover(scheduler, model_output, timestep, sample, result)
        except Exception:  # never the sampler's trouble
            log.debug("no x0 from %s", type(scheduler).__name__, exc_info=True)
            believed = Believed(None, None)
        tell(believed)
        return result

    scheduler.step = watched

    def end() -> None:
        if vars(scheduler).get("step") is watched:
            del scheduler.step

    return end


def recover(scheduler: Any, model_output: Tensor, timestep: Any, sample: Tensor, result: Any = None) -> Believed:
    """What `scheduler` believed in, right after `result = scheduler.step(model_output, timestep, sample)`.

    Args:
        scheduler: as it is after the step.
        model_output: `[B, C, ...]`, or twice as many channels where it predicts a variance as well.
        timestep: as it was given to the step.
        sample: `[B, C, ...]`.
        result: of the step; what it reports itself is taken as it is, never worked out.
    """
    name = type(scheduler).__name__.removesuffix("Scheduler")
    reported = getattr(result, "pred_original_sample", None)
    if name not in FORMS:
        return Believed(reported, None)
    level = level_of(scheduler, timestep)
    if reported is not None or name in BETWEEN:
        return Believed(reported, level.told)
    return Believed(from_prediction(prediction_of(scheduler), level, model_output, sample), level.told)


def level_of(scheduler: Any, timestep: Any) -> Level:
    """The noise level of the sample that `scheduler` has just stepped from.

    Raises:
        KeyError: nobody knows this scheduler.
    """
    form = FORMS[type(scheduler).__name__.removesuffix("Scheduler")]
    if form == "cumulative":
        kept = float(scheduler.alphas_cumprod[int(timestep)])
        return Level(kept**0.5, (1 - kept) ** 0.5, 1.0, ((1 - kept) / kept) ** 0.5)
    told = float(scheduler.sigmas[scheduler.step_index - 1])
    if form == "straight" or prediction_of(scheduler) == "flow_prediction":
        return Level(1 - told, told, 1.0, told)
    if getattr(scheduler.config, "use_flow_sigmas", False):
        return Level(1 - told, told, 1.0, told)
    alpha = (told**2 + 1) ** -0.5
    return Level(alpha, told * alpha, alpha if form == "exploding" else 1.0, told)


def prediction_of(scheduler: Any) -> str:
    """What its model predicts: `epsilon`, `v_prediction`, `sample` or `flow_prediction`."""
    if FORMS[type(scheduler).__name__.removesuffix("Scheduler")] == "straight":
        return "flow_prediction"  # these do not say
    return scheduler.config.prediction_type


def from_prediction(prediction: str, level: Level, model_output: Tensor, sample: Tensor) -> Tensor:
    """x0 `[B, C, ...]`, of the dtype of `sample`.

    Raises:
        ValueError: nobody knows this prediction.
    """
    if model_output.shape[1] == 2 * sample.shape[1]:  # a learned variance comes with it
        model_output = model_output[:, : sample.shape[1]]
    x, out = sample.float() * level.gain, model_output.float()
    match prediction:
        case "epsilon":
            x0 = (x - level.sigma * out) / level.alpha
        case "v_prediction":
            x0 = level.alpha * x - level.sigma * out
        case "flow_prediction":
            x0 = x - level.sigma * out
        case "sample" | "original_sample":
            x0 = out
        case _:
            raise ValueError(f"expected epsilon, v_prediction, flow_prediction or sample, got {prediction!r}")
    return x0.to(sample.dtype)


def between(before: Tensor, after: Tensor, sigma: float, sigma_after: float) -> Tensor:
    """x0 from two consecutive states of an Euler sampler of a flow model.

    `after = before + (sigma_after - sigma) * v` and `x0 = before - sigma * v`, so v need not be known.

    Args:
        before: the first state.
        after: the second, of the same shape.
        sigma: the noise level of the first, in 0..1.
        sigma_after: of the second, smaller.
    """
    x0 = (sigma * after.float() - sigma_after * before.float()) / (sigma - sigma_after)
    return x0.to(after.dtype)
