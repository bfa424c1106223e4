"""Computes x0, the estimate of the finished latents, from a step of a diffusers scheduler.

A scheduler's sample is `x = alpha * x0 + sigma * noise`. Schedulers differ in where alpha and sigma come from, and in
what the model predicts:

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

# Where alpha and sigma of a scheduler come from, by its name. No scheduler is imported: hosts have their own.
#   cumulative            alphas_cumprod[timestep]
#   variance exploding    sigmas[index] of x0 + s * noise; the model's input is x / sqrt(s^2 + 1)
#   variance preserving   sigmas[index], of samples that are scaled already
#   flow                  sigmas[index] of a straight path from noise to image
#   reversed flow         the same, for models that predict the opposite direction
#   circular              alphas[index] and betas[index], a path along a circle
#   stored                the scheduler stores its estimate of x0
#   consistency           sigmas[index] of x0 + s * noise; the model's output and the sample are mixed
SCHEDULER_FORMS = {
    **dict.fromkeys(("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "PNDM", "LCM", "TCD"), "cumulative"),
    **dict.fromkeys(("CogVideoXDDIM", "CogVideoXDPM"), "cumulative"),
    **dict.fromkeys(("EulerDiscrete", "EulerAncestralDiscrete", "LMSDiscrete", "EDMEuler"), "variance exploding"),
    **dict.fromkeys(("HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete"), "variance exploding"),
    "DPMSolverSDE": "variance exploding",
    **dict.fromkeys(("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep"), "variance preserving"),
    **dict.fromkeys(("UniPCMultistep", "SASolver", "ERSDE"), "variance preserving"),
    **dict.fromkeys(("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "FlowMatchLCM"), "flow"),
    **dict.fromkeys(("FlowMapEulerDiscrete", "LTXEulerAncestralRF", "Helios"), "flow"),
    "MiniMaxH3": "reversed flow",
    "IPNDM": "circular",
    **dict.fromkeys(("EDMDPMSolverMultistep", "CosineDPMSolverMultistep"), "stored"),
    "DDPMWuerstchen": "wuerstchen",
    "CMStochasticIterative": "consistency",
}
# Predictions of schedulers whose config does not name one.
FIXED_PREDICTIONS = {"flow": "flow_prediction", "reversed flow": "flow_prediction", "circular": "v_prediction"}
FIXED_PREDICTIONS |= {"wuerstchen": "epsilon"}
# One step calls the model several times, and only the scheduler knows the noise level of the last call.
REPORTED_X0_ONLY = {"KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"}
# With return_dict=False, x0 is the second value. Source: diffusers 0.42, `schedulers`. TCD's second value is not x0.
X0_IN_TUPLE = {
    *("DDIM", "DDIMParallel", "DDIMInverse", "DDPM", "DDPMParallel", "CogVideoXDDIM", "CogVideoXDPM", "EDMEuler"),
    *("EulerDiscrete", "EulerAncestralDiscrete", "LMSDiscrete", "HeunDiscrete", "SCM", "RePaint", "UnCLIP"),
    *("KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"),
}

STEP_PARAMETERS = ("model_output", "timestep", "sample", "per_token_timesteps")

log = logging.getLogger("safelight.hosts")


class NoiseLevel(NamedTuple):
    """A noise level: `gain * x = alpha * x0 + sigma * noise`.

    `scheduler_sigma` is the scheduler's own number for it; None if it is infinite.
    """

    alpha: float
    sigma: float
    gain: float
    scheduler_sigma: float | None


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


@final
class Sigmas:
    """A scheduler's sigmas as numbers. They are copied from its device once for each schedule, not at every step."""

    def __init__(self) -> None:
        self._read: Any = None
        self._numbers: list[float] = []

    def of(self, scheduler: Any) -> Sequence[float]:
        """Returns the `steps + 1` sigmas of `scheduler`."""
        sigmas = scheduler.sigmas
        if sigmas is not self._read:
            self._numbers = [float(sigma) for sigma in (sigmas.tolist() if isinstance(sigmas, Tensor) else sigmas)]
            self._read = sigmas
        return self._numbers


def listen(scheduler: Any, on_step: Callable[[SchedulerCall], None]) -> Callable[[], None]:
    """Calls `on_step` after each step of `scheduler`. Other objects of its class are not affected.

    Args:
        scheduler: a diffusers scheduler, or an object with the same `step`. Its results do not change.
        on_step: function that receives the call; it must not raise.

    Returns:
        A function that ends it.
    """
    names = tuple(inspect.signature(scheduler.step).parameters)

    def observed(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        arguments = dict(zip(names, args, strict=False)) | kwargs
        model_output, timestep, sample, tokens = (arguments.get(name) for name in STEP_PARAMETERS)
        on_step(SchedulerCall(model_output, timestep, sample, result, tokens))
        return result

    return Hook(scheduler, "step", observed).end


def estimate_x0(scheduler: Any, call: SchedulerCall, sigmas: Sigmas) -> X0Estimate:
    """Estimates x0 right after a scheduler's step. Never raises; an estimate that fails is None.

    Args:
        scheduler: scheduler, in its state after the step.
        call: arguments and result of the step.
        sigmas: sigmas of the scheduler, read before.
    """
    try:
        return compute_x0(scheduler, call, sigmas)
    except Exception:  # must not stop the sampler
        log.debug("no x0 from %s", type(scheduler).__name__, exc_info=True)
        return X0Estimate(None, None, None)


def compute_x0(scheduler: Any, call: SchedulerCall, sigmas: Sigmas) -> X0Estimate:
    """Does the work of `estimate_x0`, and may raise. An x0 that the scheduler reports is used as it is."""
    name = name_of(scheduler)
    reported = reported_x0(scheduler, call.result)
    if name not in SCHEDULER_FORMS:
        return X0Estimate(reported, None, None if reported is None else 1 / _data_spread(scheduler))
    if SCHEDULER_FORMS[name] == "stored":
        sigma = sigmas.of(scheduler)[scheduler.step_index - 1]
        return X0Estimate(scheduler.model_outputs[-1], sigma, (sigma**2 + 1) ** -0.5)
    if SCHEDULER_FORMS[name] == "consistency":
        return _consistency_x0(scheduler, call, sigmas)
    level = noise_level(scheduler, call.timestep, sigmas)
    if reported is not None or name in REPORTED_X0_ONLY:
        return X0Estimate(reported, level.scheduler_sigma, level.gain)
    sample, model_output = call.sample, call.model_output
    if call.tokens is not None:  # such a model predicts the direction towards the image
        token_sigmas = (call.tokens / scheduler.config.num_train_timesteps)[..., None].float()
        x0 = torch.addcmul(sample.float(), token_sigmas, model_output.float())
        return X0Estimate(x0.to(sample.dtype), level.scheduler_sigma)
    x0 = from_prediction(prediction_type(scheduler), level, model_output, sample)
    return X0Estimate(x0, level.scheduler_sigma, level.gain)


def _consistency_x0(scheduler: Any, call: SchedulerCall, sigmas: Sigmas) -> X0Estimate:
    """Source: https://arxiv.org/abs/2303.01469, appendix C; diffusers 0.42, `CMStochasticIterativeScheduler.step`."""
    sigma, spread = sigmas.of(scheduler)[scheduler.step_index - 1], scheduler.config.sigma_data
    of_sample, of_output = map(float, scheduler.get_scalings_for_boundary_condition(sigma))
    x0 = of_output * call.model_output.float() + of_sample * call.sample.float()
    if scheduler.config.clip_denoised:
        x0 = x0.clamp(-1, 1)
    return X0Estimate(x0.to(call.sample.dtype), sigma, spread * (sigma**2 + spread**2) ** -0.5)


def name_of(scheduler: Any) -> str:
    """Returns the name of its class, without `Scheduler` at the end."""
    return type(scheduler).__name__.removesuffix("Scheduler")


def reported_x0(scheduler: Any, result: Any) -> Tensor | None:
    """Returns the x0 in the result of a step; None if there is none."""
    x0 = getattr(result, "pred_original_sample", None)
    if x0 is None and type(result) is tuple and len(result) > 1 and name_of(scheduler) in X0_IN_TUPLE:
        x0 = result[1]
    return None if x0 is None else x0 / spread if (spread := _data_spread(scheduler)) != 1 else x0


def _data_spread(scheduler: Any) -> float:
    """Factor by which a consistency model scales its latents. Source: https://arxiv.org/abs/2410.11081."""
    return scheduler.config.sigma_data if name_of(scheduler) == "SCM" else 1.0


def noise_level(scheduler: Any, timestep: Any, sigmas: Sigmas) -> NoiseLevel:
    """Returns the noise level of the sample before the scheduler's last step.

    Raises:
        KeyError: the scheduler is unknown.
    """
    form = SCHEDULER_FORMS[name_of(scheduler)]
    if form == "cumulative":
        return _cumulative_level(float(scheduler.alphas_cumprod[int(timestep)]))
    if form == "wuerstchen":
        first = torch.as_tensor(timestep).flatten()[:1].cpu()
        return _cumulative_level(float(scheduler._alpha_cumprod(first, first.device)))  # noqa: SLF001, not public
    index = scheduler.step_index - 1
    if form == "circular":
        alpha, sigma = float(scheduler.alphas[index]), float(scheduler.betas[index])
        return NoiseLevel(alpha, sigma, 1.0, sigma / alpha if alpha > 0 else None)
    sigma = sigmas.of(scheduler)[index]
    if form == "reversed flow":
        return NoiseLevel(1 - sigma, -sigma, 1.0, sigma)
    if form == "flow" and getattr(scheduler.config, "invert_sigmas", False):
        return NoiseLevel(sigma, sigma - 1, 1.0, 1 - sigma)
    if form == "flow" or prediction_type(scheduler) == "flow_prediction":
        return NoiseLevel(1 - sigma, sigma, 1.0, sigma)
    if getattr(scheduler.config, "use_flow_sigmas", False):
        return NoiseLevel(1 - sigma, sigma, 1.0, sigma)
    alpha = (sigma**2 + 1) ** -0.5
    return NoiseLevel(alpha, sigma * alpha, alpha if form == "variance exploding" else 1.0, sigma)


def _cumulative_level(alpha_cumprod: float) -> NoiseLevel:
    # With zero terminal SNR, the first sample is only noise.
    sigma = ((1 - alpha_cumprod) / alpha_cumprod) ** 0.5 if alpha_cumprod > 0 else math.inf
    return NoiseLevel(alpha_cumprod**0.5, (1 - alpha_cumprod) ** 0.5, 1.0, sigma)


def prediction_type(scheduler: Any) -> str:
    """Returns what the model predicts: `epsilon`, `v_prediction`, `sample` or `flow_prediction`."""
    return FIXED_PREDICTIONS.get(SCHEDULER_FORMS[name_of(scheduler)]) or scheduler.config.prediction_type


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
