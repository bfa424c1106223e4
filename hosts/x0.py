"""The finished latents that a scheduler believes in, recovered from what its step is given.

All are one formula. A scheduler's sample is `x = alpha * x0 + sigma * noise`; what differs is where alpha and sigma
come from, and what the model predicts:

    epsilon        x0 = (x - sigma * out) / alpha
    v_prediction   x0 = alpha * x - sigma * out         https://arxiv.org/abs/2202.00512, appendix D
    flow           x0 = x - sigma * out                 https://arxiv.org/abs/2209.03003, alpha = 1 - sigma
    sample         x0 = out
"""

import inspect
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from .hook import Hook

# How a scheduler's numbers are to be read: "cumulative" ones have alphas_cumprod[timestep], the others sigmas[index] of
# samples that explode (x0 + s * noise, so x / sqrt(s^2 + 1) is what the model sees), preserve their variance, or go
# straight from noise to picture; "rising" do so too, with models that point the other way, "turning" along a circle.
# "kept" ones keep what they believed in. By name: a host may have schedulers of its own, and none is imported here.
FORMS = {
    **dict.fromkeys(("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "PNDM", "LCM", "TCD"), "cumulative"),
    **dict.fromkeys(("CogVideoXDDIM", "CogVideoXDPM"), "cumulative"),
    **dict.fromkeys(("EulerDiscrete", "EulerAncestralDiscrete", "LMSDiscrete", "EDMEuler"), "exploding"),
    **dict.fromkeys(("HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"), "exploding"),
    **dict.fromkeys(("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep"), "preserving"),
    **dict.fromkeys(("UniPCMultistep", "SASolver", "ERSDE"), "preserving"),
    **dict.fromkeys(("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "FlowMatchLCM"), "straight"),
    **dict.fromkeys(("FlowMapEulerDiscrete", "LTXEulerAncestralRF", "Helios"), "straight"),
    "MiniMaxH3": "rising",
    "IPNDM": "turning",
    **dict.fromkeys(("EDMDPMSolverMultistep", "CosineDPMSolverMultistep"), "kept"),
    "DDPMWuerstchen": "wuerstchen",
}
# These do not say what their models predict.
PREDICTIONS = {"straight": "flow_prediction", "rising": "flow_prediction", "turning": "v_prediction"}
PREDICTIONS |= {"wuerstchen": "epsilon"}
# Where one step is several looks at the model, only the scheduler knows at which noise level the last one was.
BETWEEN = {"KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"}
# Asked for a plain tuple, they say x0 second. Source: diffusers 0.42, `schedulers`. TCD's second is something else.
SECOND = {
    *("DDIM", "DDIMParallel", "DDIMInverse", "DDPM", "DDPMParallel", "CogVideoXDDIM", "CogVideoXDPM", "EDMEuler"),
    *("EulerDiscrete", "EulerAncestralDiscrete", "LMSDiscrete", "HeunDiscrete", "SCM", "RePaint", "UnCLIP"),
    *("KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"),
}

GIVEN = ("model_output", "timestep", "sample", "per_token_timesteps")  # what a step may be given, by name

log = logging.getLogger("safelight.hosts")


class Level(NamedTuple):
    """A noise level: `gain * x = alpha * x0 + sigma * noise`; `told` is the scheduler's own number for it."""

    alpha: float
    sigma: float
    gain: float
    told: float | None


class X0Estimate(NamedTuple):
    """What a step of a scheduler tells: `x0` of the shape of its sample, and the sigma that the sample was of.

    Either is None where it is not known. `gain` brings the sample to the spread of clean latents.
    """

    x0: Tensor | None
    sigma: float | None
    gain: float = 1.0


class SchedulerCall(NamedTuple):
    """A step that a scheduler took: what it was given, and its result.

    `tokens` are timesteps `[B, N]` of a sample `[B, N, C]` whose tokens have noise levels of their own.
    """

    model_output: Any
    timestep: Any
    sample: Any
    result: Any
    tokens: Tensor | None = None


@final
class Sigmas:
    """A scheduler's sigmas as numbers, read from its device once for each schedule and not at every step."""

    def __init__(self) -> None:
        self._seen: Any = None
        self._numbers: list[float] = []

    def of(self, scheduler: Any) -> Sequence[float]:
        """`[steps + 1]`, as the scheduler has them."""
        sigmas = scheduler.sigmas
        if sigmas is not self._seen:
            self._numbers = [float(sigma) for sigma in (sigmas.tolist() if isinstance(sigmas, Tensor) else sigmas)]
            self._seen = sigmas
        return self._numbers


def listen(scheduler: Any, hear: Callable[[SchedulerCall], None]) -> Callable[[], None]:
    """Tells of each step of `scheduler`, a diffusers scheduler or one made like it, after it was taken.

    Only this object is touched, and its results are handed on as they are. `hear` must not raise.

    Returns:
        Ends it.
    """
    names = tuple(inspect.signature(scheduler.step).parameters)

    def watched(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        given = dict(zip(names, args, strict=False)) | kwargs
        model_output, timestep, sample, tokens = (given.get(name) for name in GIVEN)
        hear(SchedulerCall(model_output, timestep, sample, result, tokens))
        return result

    return Hook(scheduler, "step", watched).end


def watch(scheduler: Any, tell: Callable[[X0Estimate], None]) -> Callable[[], None]:
    """Tells after each step of `scheduler` what it believes in; as `listen` does.

    Returns:
        Ends it.
    """
    sigmas = Sigmas()

    def hear(taken: SchedulerCall) -> None:
        tell(estimate_x0(scheduler, taken, sigmas))

    return listen(scheduler, hear)


def estimate_x0(scheduler: Any, taken: SchedulerCall, sigmas: Sigmas) -> X0Estimate:
    """What `scheduler` believed in, right after a step; nothing, where that cannot be told."""
    try:
        model_output, timestep, sample, result, tokens = taken
        return recover(scheduler, model_output, timestep, sample, result, tokens, sigmas)
    except Exception:  # never the sampler's trouble
        log.debug("no x0 from %s", type(scheduler).__name__, exc_info=True)
        return X0Estimate(None, None)


def recover(
    scheduler: Any,
    model_output: Tensor,
    timestep: Any,
    sample: Tensor,
    result: Any = None,
    tokens: Tensor | None = None,
    sigmas: Sigmas | None = None,
) -> X0Estimate:
    """What `scheduler` believed in, right after `result = scheduler.step(model_output, timestep, sample)`.

    Args:
        scheduler: as it is after the step.
        model_output: `[B, C, ...]`, or twice as many channels where it predicts a variance as well.
        timestep: as it was given to the step.
        sample: `[B, C, ...]`.
        result: of the step; what it reports itself is taken as it is, never worked out.
        tokens: the timesteps of each token, where they have their own.
        sigmas: of the scheduler, where they have been read before.
    """
    name = name_of(scheduler)
    reported = reported_by(scheduler, result)
    if name not in FORMS:
        return X0Estimate(reported, None, 1 / _spread(scheduler))
    if FORMS[name] == "kept":
        told = (sigmas or Sigmas()).of(scheduler)[scheduler.step_index - 1]
        return X0Estimate(scheduler.model_outputs[-1], told, (told**2 + 1) ** -0.5)
    level = level_of(scheduler, timestep, sigmas)
    if reported is not None or name in BETWEEN:
        return X0Estimate(reported, level.told, level.gain)
    if tokens is not None:  # of which the model's output points to the picture
        each = (tokens / scheduler.config.num_train_timesteps)[..., None].float()
        x0 = torch.addcmul(sample.float(), each, model_output.float())
        return X0Estimate(x0.to(sample.dtype), level.told)
    x0 = from_prediction(prediction_of(scheduler), level, model_output, sample)
    return X0Estimate(x0, level.told, level.gain)


def name_of(scheduler: Any) -> str:
    """Its class, without what all of them end with."""
    return type(scheduler).__name__.removesuffix("Scheduler")


def reported_by(scheduler: Any, result: Any) -> Tensor | None:
    """The x0 that the result of a step holds; None where it holds none."""
    reported = getattr(result, "pred_original_sample", None)
    if reported is None and type(result) is tuple and len(result) > 1 and name_of(scheduler) in SECOND:
        reported = result[1]
    return None if reported is None else reported / spread if (spread := _spread(scheduler)) != 1 else reported


def _spread(scheduler: Any) -> float:
    """Of the data, by which a consistency model's are scaled. Source: https://arxiv.org/abs/2410.11081."""
    return scheduler.config.sigma_data if name_of(scheduler) == "SCM" else 1.0


def level_of(scheduler: Any, timestep: Any, sigmas: Sigmas | None = None) -> Level:
    """The noise level of the sample that `scheduler` has just stepped from.

    Raises:
        KeyError: nobody knows this scheduler.
    """
    form = FORMS[name_of(scheduler)]
    if form == "cumulative":
        return _cumulative(float(scheduler.alphas_cumprod[int(timestep)]))
    if form == "wuerstchen":
        first = torch.as_tensor(timestep).flatten()[:1].cpu()
        return _cumulative(float(scheduler._alpha_cumprod(first, first.device)))  # noqa: SLF001, it has no other name
    at = scheduler.step_index - 1
    if form == "turning":
        alpha, sigma = float(scheduler.alphas[at]), float(scheduler.betas[at])
        return Level(alpha, sigma, 1.0, sigma / alpha if alpha > 0 else None)
    told = (sigmas or Sigmas()).of(scheduler)[at]
    if form == "rising":
        return Level(1 - told, -told, 1.0, told)
    if form == "straight" and getattr(scheduler.config, "invert_sigmas", False):
        return Level(told, told - 1, 1.0, 1 - told)
    if form == "straight" or prediction_of(scheduler) == "flow_prediction":
        return Level(1 - told, told, 1.0, told)
    if getattr(scheduler.config, "use_flow_sigmas", False):
        return Level(1 - told, told, 1.0, told)
    alpha = (told**2 + 1) ** -0.5
    return Level(alpha, told * alpha, alpha if form == "exploding" else 1.0, told)


def _cumulative(kept: float) -> Level:
    told = ((1 - kept) / kept) ** 0.5 if kept > 0 else math.inf  # nothing but noise, with zero terminal SNR
    return Level(kept**0.5, (1 - kept) ** 0.5, 1.0, told)


def prediction_of(scheduler: Any) -> str:
    """What its model predicts: `epsilon`, `v_prediction`, `sample` or `flow_prediction`."""
    return PREDICTIONS.get(FORMS[name_of(scheduler)]) or scheduler.config.prediction_type


def from_prediction(prediction: str, level: Level, model_output: Tensor, sample: Tensor) -> Tensor:
    """x0 `[B, C, ...]`, of the dtype of `sample`.

    Raises:
        ValueError: nobody knows this prediction.
    """
    if model_output.shape[1] == 2 * sample.shape[1]:  # a learned variance comes with it
        model_output = model_output[:, : sample.shape[1]]
    x, out = sample.float(), model_output.float()
    if level.gain != 1:
        x = x * level.gain
    match prediction:  # in as few passes as there can be: the sampler waits for them
        case "epsilon":
            x0 = torch.sub(x, out, alpha=level.sigma).div_(level.alpha)
        case "v_prediction":
            x0 = torch.sub(level.alpha * x, out, alpha=level.sigma)
        case "flow_prediction":
            x0 = torch.sub(x, out, alpha=level.sigma)
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
