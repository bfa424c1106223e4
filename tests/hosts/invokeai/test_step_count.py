"""Steps of InvokeAI's nodes that report every call of the model."""

from functools import partial
from types import SimpleNamespace

import diffusers
import pytest
import torch
from safelight.hosts.invokeai.options import InvokeOptions
from safelight.hosts.invokeai.step_count import StepCount
from safelight.hosts.invokeai.watch import watched
from safelight.preview.manifest import read_manifest

from .fake_host import State

# Of diffusers, with newer versions of NumPy.
pytestmark = pytest.mark.filterwarnings("ignore")

TRAINED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SCHEDULERS = {
    "heun": partial(diffusers.HeunDiscreteScheduler, **TRAINED),
    "kdpm_2": partial(diffusers.KDPM2DiscreteScheduler, **TRAINED),
    "kdpm_2_a": partial(diffusers.KDPM2AncestralDiscreteScheduler, **TRAINED),
    "pndm": partial(diffusers.PNDMScheduler, **TRAINED, skip_prk_steps=True),
    "euler": partial(diffusers.EulerDiscreteScheduler, **TRAINED),
    "unipc": partial(diffusers.UniPCMultistepScheduler, **TRAINED),
}


def part_of_a_schedule(context, scheduler, steps, start=0.0):
    """Samples as InvokeAI's node for Stable Diffusion does, from `denoising_start` on."""
    scheduler.set_timesteps(steps)
    order = scheduler.order
    first = 1000 * (1 - start)
    skipped = order * len([t for t in scheduler.timesteps[::order] if t > first])
    timesteps = scheduler.timesteps[skipped:]
    latents = torch.randn((1, 4, 6, 8), generator=torch.Generator().manual_seed(1))
    total = len(timesteps)
    context.util.sd_step_callback(State(0, order, total, 1000, latents), "sd-1")
    for i, t in enumerate(timesteps):
        latents = scheduler.step((latents * 3).sin(), t, latents).prev_sample
        context.util.sd_step_callback(State(i + 1, order, total, int(t), latents), "sd-1")
    return latents


def sampled(host, tmp_path, name, steps, start=0.0):
    node = SimpleNamespace(id=name, steps=steps, denoising_start=start, denoising_end=1.0)
    options = InvokeOptions(write_intermediates=True, filename_prefix=name)
    watched(lambda c: part_of_a_schedule(c, SCHEDULERS[name](), steps, start), host(), node, options)
    return read_manifest(tmp_path / "outputs" / f"{name}_00001")


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_run_has_as_many_steps_as_were_asked_for_each_at_its_own_level(host, tmp_path, name):
    manifest = sampled(host, tmp_path, name, 4)
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3, 4]
    assert manifest["sampler"]["steps"] == 4
    sigmas = [step["sigma"] for step in manifest["steps"]]
    if None not in sigmas:
        assert sigmas == sorted(set(sigmas), reverse=True)
        assert manifest["sampler"]["sigmas"] == [*sigmas, 0.0]


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_a_run_that_begins_in_the_schedule_has_the_steps_of_its_loop(host, tmp_path, name):
    manifest = sampled(host, tmp_path, name, 10, start=0.5)
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3, 4, 5]
    assert manifest["sampler"]["steps"] == 5
    assert len(manifest["sampler"]["sigmas"]) == 6
    assert manifest["sampler"]["strength"] == 0.5


def test_ernie_image_with_a_second_order_scheduler_has_the_steps_that_were_asked_for(host, tmp_path):
    """Its node reports every call of the model too, and always order 1."""
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(4)

    def denoise(context, scheduler):
        for i, t in enumerate(scheduler.timesteps):
            latents = torch.full((1, 32, 6, 8), 0.1 * i)
            context.util.sd_step_callback(State(i + 1, 1, len(scheduler.timesteps), int(t), latents), "ernie-image")

    options = InvokeOptions(write_intermediates=True, filename_prefix="ernie")
    watched(lambda c: denoise(c, scheduler), host(), SimpleNamespace(id="e", steps=4), options)
    manifest = read_manifest(tmp_path / "outputs" / "ernie_00001")
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3, 4]
    assert manifest["sampler"]["steps"] == 4
    assert [step["sigma"] for step in manifest["steps"]] == scheduler.sigmas[:-1:2].tolist()


@pytest.mark.parametrize("scheduler", [None, diffusers.FlowMatchEulerDiscreteScheduler()])
def test_sigmas_of_a_node_that_reports_x0_are_those_of_its_own_loop(host, tmp_path, scheduler):
    def denoise(context, timesteps, scheduler):
        for i in range(3):
            context.util.flux_step_callback(State(i + 1, 1, 3, 0, torch.full((16, 6, 8), 0.1 * i)))

    options = InvokeOptions(write_intermediates=True, filename_prefix="flux")
    node = SimpleNamespace(id="f", num_steps=5, denoising_end=1.0)
    watched(lambda c: denoise(c, [0.8, 0.5, 0.2, 0.0], scheduler), host(), node, options)
    manifest = read_manifest(tmp_path / "outputs" / "flux_00001")
    own = scheduler is None  # a scheduler has its own schedule
    assert [step["sigma"] for step in manifest["steps"]] == ([0.8, 0.5, 0.2] if own else [None] * 3)
    assert manifest["sampler"]["sigmas"] == ([0.8, 0.5, 0.2, 0.0] if own else None)
    assert manifest["sampler"]["steps"] == 3


@pytest.mark.parametrize(
    ("count", "numbers"),
    [
        (StepCount("sd-1", 1, 3), [1, 2, 3, 4]),
        (StepCount("sdxl", 2, 5), [1, None, 2, None, 3, 4]),
        (StepCount("sd-1", 2, 4), [1, None, 2, None, 3]),
        (StepCount("sd-2", 1, 5, [9, 7, 7, 5, 3]), [1, None, 2, 3, 4, 5]),
        (StepCount("sd-1", 1, 2, [7, 7]), [None, 1]),
        (StepCount("z-image", 2, 4), [1, 2, 3, 4]),  # its node counts steps
        (StepCount("flux", 2, 4, [7, 7, 5, 3]), [1, 2, 3, 4]),
    ],
)
def test_calls_are_counted_by_step(count, numbers):
    assert [count.number(call) for call in range(1, len(numbers) + 1)] == numbers
    assert count.total == max(number or 0 for number in numbers[: count._calls])


def test_a_step_of_one_call_is_the_first_and_the_last():
    count = StepCount("sd-1", 2, 1)
    assert (count.number(1), count.total) == (1, 1)
