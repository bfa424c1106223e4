"""Computes x0, the estimate of the finished latents, from a step of a diffusers scheduler.

A scheduler's sample is `x = alpha * x0 + sigma * noise`. Schedulers differ in where alpha and sigma come from (see
`noise_levels.py`), and in what the model predicts:

    epsilon        x0 = (x - sigma * out) / alpha
    v_prediction   x0 = alpha * x - sigma * out         https://arxiv.org/abs/2202.00512, appendix D
    flow           x0 = x - sigma * out                 https://arxiv.org/abs/2209.03003, alpha = 1 - sigma
    sample         x0 = out
"""

import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .hook import Hook
from .noise_levels import NoiseLevel, Tables, form_of, known_name_of, noise_level, prediction_type

# Schedulers whose estimate no formula gives: one step calls the model several times, and only the scheduler knows the
# noise level of the last call; or their model predicts something else.
REPORTED_X0_ONLY = {"KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE", "ConsistencyDecoder", "ScoreSdeVe"}
# With return_dict=False, x0 is the second value. Source: diffusers 0.42, `schedulers`. TCD's second value is not x0.
X0_IN_TUPLE = {
    *("DDIM", "DDIMParallel", "DDIMInverse", "DDPM", "DDPMParallel", "CogVideoXDDIM", "CogVideoXDPM", "EDMEuler"),
    *("EulerDiscrete", "EulerAncestralDiscrete", "LMSDiscrete", "HeunDiscrete", "SCM", "RePaint", "UnCLIP"),
    *("KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"),
}
STEP_METHODS = {"ScoreSdeVe": "step_pred", "ScoreSdeVp": "step_pred"}  # of schedulers without a method `step`
# Names of the arguments of these methods.
MODEL_OUTPUT = ("model_output", "score")
TIMESTEP = ("timestep", "sigma_hat", "t")
SAMPLE = ("sample", "sample_hat", "x")
TOKENS = ("per_token_timesteps",)
COMPILER = "torch._dynamo"  # module of `torch.compile`, whose import takes a second

log = logging.getLogger("safelight.hosts")


class X0Estimate(NamedTuple):
    """The estimate at a scheduler's step.

    Args:
        x0: estimate of the finished latents, in the shape of the scheduler's sample; None if unknown.
        sigma: noise level of the sample; None if unknown.
        gain: factor that scales the sample to the spread of clean latents; None if unknown.
    """

    x0: Tensor | None
    sigma: float | None
    gain: float | None = 1.0


class SchedulerCall(NamedTuple):
    """Arguments and result of one call of a scheduler's `step`.

    Args:
        model_output: `[B, C, ...]`, or twice as many channels if the model also predicts a variance.
        timestep: timestep of the call.
        sample: `[B, C, ...]`.
        result: return value.
        tokens: timesteps `[B, N]` of a sample `[B, N, C]` whose tokens have separate noise levels; otherwise None.
    """

    model_output: Any
    timestep: Any
    sample: Any
    result: Any
    tokens: Tensor | None = None


def step_method(scheduler: Any) -> str | None:
    """Returns the name of the method with which `scheduler` takes a step; None if it has none."""
    name = STEP_METHODS.get(known_name_of(scheduler) or "", "step")
    return name if callable(getattr(scheduler, name, None)) else None


def listen(scheduler: Any, on_step: Callable[[SchedulerCall], None]) -> Callable[[], None]:
    """Calls `on_step` after each step of `scheduler`. Other objects of its class are not affected.

    Args:
        scheduler: a diffusers scheduler, or an object with the same `step`. Its results do not change.
        on_step: function that receives the call; it must not raise.

    Returns:
        A function that ends it.

    Raises:
        TypeError: it has no such method.
    """
    method = step_method(scheduler)
    if method is None:
        raise TypeError(f"expected a scheduler with a method step, got a {type(scheduler).__name__}")
    names = tuple(inspect.signature(getattr(scheduler, method)).parameters)
    report: Any = on_step
    if COMPILER in sys.modules:  # a compiled loop would compile the function too
        report = torch.compiler.disable(on_step)

    def observed(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        given = dict(zip(names, args, strict=False)) | kwargs
        model_output, timestep, sample, tokens = (
            next((given[name] for name in wanted if name in given), None)
            for wanted in (MODEL_OUTPUT, TIMESTEP, SAMPLE, TOKENS)
        )
        report(SchedulerCall(model_output, timestep, sample, result, tokens))
        return result

    return Hook(scheduler, method, observed).end


def estimate_x0(scheduler: Any, call: SchedulerCall, tables: Tables, *, needs_x0: bool = True) -> X0Estimate:
    """Estimates x0 right after a scheduler's step. Never raises; what fails is None.

    Args:
        scheduler: scheduler, in its state after the step.
        call: arguments and result of the step.
        tables: tables of the scheduler, read before.
        needs_x0: whether x0 is needed besides the noise level.
    """
    try:
        if not needs_x0:
            level = noise_level(scheduler, call.timestep, tables)
            return X0Estimate(None, level.scheduler_sigma, level.gain)
        return compute_x0(scheduler, call, tables)
    except Exception:  # must not stop the sampler
        log.debug("no x0 from %s", type(scheduler).__name__, exc_info=True)
        return X0Estimate(None, None, None)


def compute_x0(scheduler: Any, call: SchedulerCall, tables: Tables) -> X0Estimate:
    """Does the work of `estimate_x0`, and may raise. An x0 that the scheduler reports is used as it is."""
    reported = reported_x0(scheduler, call.result)
    if form_of(scheduler) is None:
        return X0Estimate(reported, None, None if reported is None else 1.0)
    level = noise_level(scheduler, call.timestep, tables)
    sigma, gain = level.scheduler_sigma, level.gain
    name = known_name_of(scheduler) or ""
    if reported is not None or name in REPORTED_X0_ONLY:
        return X0Estimate(reported, sigma, gain)
    try:
        return X0Estimate(X0_FORMULAS.get(name, _by_prediction)(scheduler, call, level), sigma, gain)
    except Exception:  # of a prediction that is not known: the noise level is true all the same
        log.debug("no x0 from %s", type(scheduler).__name__, exc_info=True)
        return X0Estimate(None, sigma, gain)


def result_of(call: SchedulerCall) -> Any:
    """Returns the latents after a step, `[B, C, ...]`; None if its result has none."""
    result = call.result
    return result[0] if isinstance(result, tuple) and result else getattr(result, "prev_sample", None)


def reported_x0(scheduler: Any, result: Any) -> Tensor | None:
    """Returns the x0 in the result of a step; None if there is none."""
    x0 = getattr(result, "pred_original_sample", None)
    if x0 is None and type(result) is tuple and len(result) > 1 and known_name_of(scheduler) in X0_IN_TUPLE:
        x0 = result[1]
    return None if x0 is None else x0 / spread if (spread := _data_spread(scheduler)) != 1 else x0


def _data_spread(scheduler: Any) -> float:
    """Factor by which a consistency model scales its latents. Source: https://arxiv.org/abs/2410.11081."""
    return scheduler.config.sigma_data if known_name_of(scheduler) == "SCM" else 1.0


def _by_prediction(scheduler: Any, call: SchedulerCall, level: NoiseLevel) -> Tensor:
    if call.tokens is None:
        return from_prediction(prediction_type(scheduler), level, call.model_output, call.sample)
    # Such a model predicts the direction towards the image.
    sigmas = (call.tokens / scheduler.config.num_train_timesteps)[..., None].float()
    return torch.addcmul(call.sample.float(), sigmas, call.model_output.float()).to(call.sample.dtype)


def _stored(scheduler: Any, _call: SchedulerCall, _level: NoiseLevel) -> Tensor:
    return scheduler.model_outputs[-1]


def _by_consistency(scheduler: Any, call: SchedulerCall, level: NoiseLevel) -> Tensor:
    """Source: https://arxiv.org/abs/2303.01469, appendix C; diffusers 0.42, `CMStochasticIterativeScheduler.step`."""
    of_sample, of_output = map(float, scheduler.get_scalings_for_boundary_condition(level.scheduler_sigma))
    x0 = of_output * call.model_output.float() + of_sample * call.sample.float()
    if scheduler.config.clip_denoised:
        x0 = x0.clamp(-1, 1)
    return x0.to(call.sample.dtype)


def _of_a_policy(_scheduler: Any, call: SchedulerCall, level: NoiseLevel) -> Tensor:
    """The model predicts a direction for several levels within the step, in the last axis: the lowest level first."""
    lowest = call.model_output[..., : call.sample.shape[-1]]
    return from_prediction("flow_prediction", level, lowest, call.sample)


# Schedulers whose x0 does not follow from one prediction and the noise level alone.
X0_FORMULAS: Mapping[str, Callable[[Any, SchedulerCall, NoiseLevel], Tensor]] = {
    "EDMDPMSolverMultistep": _stored,
    "CosineDPMSolverMultistep": _stored,
    "CMStochasticIterative": _by_consistency,
    "Piflow": _of_a_policy,
}


def from_prediction(prediction: str, level: NoiseLevel, model_output: Tensor, sample: Tensor) -> Tensor:
    """Returns x0 `[B, C, ...]`, with the dtype of `sample`.

    Raises:
        ValueError: the prediction is unknown.
    """
    if model_output.shape[1] == 2 * sample.shape[1]:  # the second half is a learned variance
        model_output = model_output[:, : sample.shape[1]]
    x, out = sample.float(), model_output.float()
    if level.gain != 1:
        x = x * level.gain
    match prediction:  # in as few operations as possible: the sampler waits
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


def x0_from_states(before: Tensor, after: Tensor, sigma: float, sigma_after: float) -> Tensor:
    """Returns x0 from two consecutive states of an Euler sampler of a flow model.

    `after = before + (sigma_after - sigma) * v` and `x0 = before - sigma * v`, so v need not be known.

    Args:
        before: first state.
        after: second state, of the same shape.
        sigma: noise level of the first state, in 0..1.
        sigma_after: noise level of the second state, smaller than `sigma`.
    """
    x0 = (sigma * after.float() - sigma_after * before.float()) / (sigma - sigma_after)
    return x0.to(after.dtype)
