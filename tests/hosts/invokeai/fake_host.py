"""Loops and contexts that look like InvokeAI's and need nothing of it."""

import copy
import threading
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace

import torch

LEVELS = [1.0, 0.95, 0.8, 0.5, 0.3, 0.1, 0.0]


class CancelledError(Exception):
    pass


@dataclass
class State:
    """InvokeAI's PipelineIntermediateState."""

    step: int
    order: int
    total_steps: int
    timestep: int
    latents: torch.Tensor
    predicted_original: torch.Tensor | None = None


class HostUtil:
    """InvokeAI's UtilInterface, which records its calls."""

    def __init__(self, fails=False):
        self.own, self.signals = [], []
        self.fails, self.canceled = fails, False
        self.shown = threading.Event()  # set by each progress picture

    def is_canceled(self):
        return self.canceled

    def sd_step_callback(self, state, base_model):
        self._callback(state, base_model)

    def flux_step_callback(self, state):
        self._callback(state, "flux")

    def signal_progress(self, message, percentage=None, image=None, image_size=None):
        if self.fails and image is not None:
            raise RuntimeError("no client takes pictures")
        self.signals.append((message, percentage, image, image_size))
        if image is not None:
            self.shown.set()

    def something_else(self):
        return "the host's"

    def _callback(self, state, base):
        if self.canceled:
            raise CancelledError
        self.own.append((state.step, base))

    @property
    def pictures(self):
        return [signal for signal in self.signals if signal[2] is not None]


def fake_context(root, *, user=None, **util):
    """InvokeAI's InvocationContext; `user`: id of the account that the node runs for, if InvokeAI has accounts."""
    config = SimpleNamespace(outputs_path=root / "outputs", root_path=root / "root", multiuser=user is not None)
    (root / "outputs").mkdir(exist_ok=True)
    context = SimpleNamespace(util=HostUtil(**util), config=SimpleNamespace(get=lambda: config))
    if user is not None:
        context._data = SimpleNamespace(queue_item=SimpleNamespace(user_id=user, session_id="s", workflow=None))
    return context


def velocity(x, sigma):
    return (x * 2 + sigma).sin()


def euler(context, x, base="sd-3", first=True, truth=None):
    """Samples as SD3 and Qwen-Image do."""
    timesteps = list(LEVELS)
    total = len(timesteps) - 1
    latents = x
    if first:
        context.util.sd_step_callback(State(0, 1, total, 1, latents), base)
    for i, (sigma, after) in enumerate(pairwise(timesteps)):
        noise_pred = velocity(latents, sigma)
        if truth is not None:
            truth.append(latents - sigma * noise_pred)
        latents = latents + (after - sigma) * noise_pred
        context.util.sd_step_callback(State(i + 1, 1, total, int(sigma), latents), base)
    return latents


def flux(context, x):
    """Samples as FLUX does: its states are x0 and have three axes."""
    timesteps, noise = list(LEVELS), x
    latents = noise
    for i, (sigma, after) in enumerate(pairwise(timesteps)):
        pred = velocity(latents, sigma)
        preview = latents - sigma * pred
        latents = latents + (after - sigma) * pred
        context.util.flux_step_callback(State(i + 1, 1, len(timesteps) - 1, 0, preview[0]))
    return latents


def stable_diffusion(context, x, scheduler, base="sd-1", states=None):
    """Samples as Stable Diffusion does."""
    scheduler.set_timesteps(6)
    latents = x
    total = len(scheduler.timesteps)
    context.util.sd_step_callback(State(0, scheduler.order, total, 1000, latents), base)
    for i, t in enumerate(scheduler.timesteps):
        if states is not None:
            states.append(latents)
        result = scheduler.step((latents * 3).sin(), t, latents)
        latents = result.prev_sample
        reported = getattr(result, "pred_original_sample", None)
        context.util.sd_step_callback(State(i + 1, scheduler.order, total, int(t), latents, reported), base)
    return latents


def multi_diffusion(context, x, scheduler, truth):
    """Samples two overlapping parts in each step, each with its own scheduler, as Tiled Multi-Diffusion does."""
    scheduler.set_timesteps(6)
    parts = [slice(0, 5), slice(3, 8)]
    region_batch_schedulers = [copy.deepcopy(scheduler) for _ in parts]
    latents, total = x, len(scheduler.timesteps)
    context.util.sd_step_callback(State(0, scheduler.order, total, 1000, latents), "sd-1")
    for i, t in enumerate(scheduler.timesteps):
        merged, weights, estimates = torch.zeros_like(latents), torch.zeros_like(latents), torch.zeros_like(latents)
        for part, own in zip(parts, region_batch_schedulers, strict=True):
            sample = latents[..., part]
            output = (sample * 3).sin()
            cumprod = own.alphas_cumprod[int(t)]
            estimates[..., part] += (sample - (1 - cumprod) ** 0.5 * output) / cumprod**0.5
            merged[..., part] += own.step(output, t, sample).prev_sample
            weights[..., part] += 1
        truth.append((latents, estimates / weights))
        latents = merged / weights
        context.util.sd_step_callback(State(i + 1, scheduler.order, total, int(t), latents), "sd-1")
    return latents


def wan_video(context, x, scheduler, truth):
    """Samples a video as Wan does: the scheduler reports nothing, and the state is one frame."""
    scheduler.set_timesteps(6)
    latents = x
    for i, t in enumerate(scheduler.timesteps):
        noise_pred = velocity(latents, float(t) / 1000)
        truth.append((latents - float(scheduler.sigmas[i]) * noise_pred)[:, :, latents.shape[2] // 2])
        latents = scheduler.step(noise_pred, t, latents, return_dict=False)[0]
        state = State(i + 1, 1, len(scheduler.timesteps), int(t), latents[:, :, latents.shape[2] // 2])
        context.util.sd_step_callback(state, "wan")
    return latents
