"""The estimates of finished latents, in loops that look like InvokeAI's."""

import copy
from itertools import pairwise

import diffusers
import pytest
import torch
from safelight.hosts.invokeai.x0 import X0Estimates, caller

from .fake_host import LEVELS, State, euler, multi_diffusion, stable_diffusion, velocity, wan_video


class EstimatingUtil:
    """Takes the place of InvokeAI's util and records the estimate of each step."""

    def __init__(self, **settings):
        self.x0_estimates, self.heard = X0Estimates(**settings), []
        self.util = self

    def sd_step_callback(self, state, base):
        self.heard.append((state.step, self.x0_estimates.of(state, caller(0))))

    @property
    def estimates(self):
        return [estimate for step, estimate in self.heard if step > 0]


# diffusers gives NumPy tensors in a way that newer versions of NumPy warn about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def util():
    return EstimatingUtil(denoised=False)


def half_precision(context, x, *, packed=False, image=None, velocity_known=True, truth=None):
    """Samples as SD3, CogView4, Z-Image and Qwen-Image do in half precision, in twenty steps."""
    sigmas = [3 * s / (1 + 2 * s) for s in torch.linspace(1, 0, 21).tolist()]
    latents = x.bfloat16()
    mask = torch.zeros_like(latents)
    mask[..., :4] = 1 if image is not None else 0

    def show(step):
        context.util.sd_step_callback(State(step, 1, 20, 0, latents), "sd-3")

    show(0)
    for i, (sigma, after) in enumerate(pairwise(sigmas)):
        predicted = velocity(latents.float(), sigma).bfloat16()
        truth.append(latents.float() - sigma * predicted.float())
        noise_pred = patched(predicted) if packed else predicted
        if not velocity_known:
            noise_pred = -noise_pred
        latents = (latents.float() + (after - sigma) * predicted).bfloat16()
        if image is not None:
            noisy_image = image * (1 - after) + x * after
            latents = (latents * (1 - mask) + noisy_image * mask).bfloat16()
            truth[-1] = truth[-1] * (1 - mask) + image * mask
        show(i + 1)


def patched(latents):
    """Packs latents as Qwen-Image does."""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, c * 4)


def worst(truth, util, part=slice(None)):
    """The largest root mean square error of x0 in a step."""
    estimated = [estimate.x0.float() for estimate in util.estimates]
    errors = [(a - b)[..., part].pow(2).mean().sqrt() for a, b in zip(estimated, truth, strict=True)]
    return float(max(errors))


def test_x0_of_an_euler_flow_model_is_exact_from_the_first_step(noise, util):
    truth = []
    euler(util, noise, truth=truth)
    assert [estimate.sigma for estimate in util.estimates] == LEVELS[:-1]
    for estimate, x0 in zip(util.estimates, truth, strict=True):
        torch.testing.assert_close(estimate.x0, x0, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["DDIM", "DPMSolverMultistep", "UniPCMultistep", "LCM"])
def test_the_parts_of_a_step_are_one_estimate_of_the_whole(util, name):
    scheduler = getattr(diffusers, f"{name}Scheduler")()
    if name in ("DDIM", "LCM"):
        scheduler.register_to_config(clip_sample=False)
    x, truth = torch.randn((2, 4, 6, 8), generator=torch.Generator().manual_seed(1)), []
    plain = multi_diffusion(EstimatingUtil(denoised=False), x, copy.deepcopy(scheduler), [])
    torch.manual_seed(0)
    result = multi_diffusion(util, x, scheduler, truth)
    if name != "LCM":  # it adds noise
        assert torch.equal(plain, result)
    assert len(util.estimates) == 6
    for estimate, (noisy, x0) in zip(util.estimates, truth, strict=True):
        torch.testing.assert_close(estimate.noisy, noisy)
        torch.testing.assert_close(estimate.x0, x0, rtol=1e-3, atol=1e-3)
        assert estimate.sigma > 0


@pytest.mark.filterwarnings("ignore")
def test_parts_are_put_together_without_an_estimate_where_only_noise_is_shown():
    util, truth = EstimatingUtil(denoised=False, needs_x0=False), []
    multi_diffusion(util, torch.randn((1, 4, 6, 8)), diffusers.DPMSolverMultistepScheduler(), truth)
    assert [estimate.x0 for estimate in util.estimates] == [None] * 6
    for estimate, (noisy, _) in zip(util.estimates, truth, strict=True):
        assert torch.equal(estimate.noisy, noisy)


def test_x0_is_exact_if_the_host_reports_no_step_0(noise, util):
    truth = []
    euler(util, noise, first=False, truth=truth)
    for (_, estimate), x0 in zip(util.heard, truth, strict=True):
        torch.testing.assert_close(estimate.x0, x0, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_half_precision_states_give_an_x0_without_grain(noise, util, packed):
    truth = []
    half_precision(util, noise, packed=packed, truth=truth)
    assert worst(truth, util) < 0.01


def test_a_prediction_that_does_not_explain_the_step_is_not_used(noise, util):
    truth = []
    half_precision(util, noise, velocity_known=False, truth=truth)
    assert 0.05 < worst(truth, util) < 0.2  # the error of two states alone


def test_where_inpainting_puts_an_image_over_the_state_x0_is_that_image(noise, util):
    truth = []
    image = torch.rand(noise.shape, generator=torch.Generator().manual_seed(9))
    half_precision(util, noise, image=image, truth=truth)
    assert worst(truth, util, slice(4, None)) < 0.01
    assert worst(truth, util, slice(4)) < 0.2


def test_x0_of_a_video_is_that_of_its_middle_frame(util):
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    truth = []
    x = torch.randn((1, 16, 5, 4, 6), generator=torch.Generator().manual_seed(2))
    wan_video(util, x, scheduler, truth)
    for (_, estimate), x0 in zip(util.heard, truth, strict=True):
        torch.testing.assert_close(estimate.x0, x0, rtol=1e-4, atol=1e-4)
    util.x0_estimates.close()
    assert "step" not in vars(scheduler)
    assert all(estimate.middle_frame for estimate in util.estimates)
    assert {estimate.noisy.shape for estimate in util.estimates[1:]} == {(1, 16, 4, 6)}


@pytest.mark.filterwarnings("ignore")
def test_x0_is_known_for_a_scheduler_that_does_not_report_it(util):
    scheduler = diffusers.DPMSolverMultistepScheduler()
    end = stable_diffusion(util, torch.randn(1, 4, 6, 8), scheduler)
    assert all(estimate.x0 is not None for estimate in util.estimates)
    torch.testing.assert_close(util.estimates[-1].x0, end)  # this scheduler ends at its last x0
    torch.testing.assert_close(util.estimates[-1].x0, scheduler.model_outputs[-1])


def test_a_loop_that_reports_nothing_has_no_x0(noise, util):
    x = noise
    for i in range(3):
        x = x * 0.5
        util.sd_step_callback(State(i + 1, 1, 3, 0, x), "sd-3")
    assert all(estimate.x0 is None for _, estimate in util.heard)
    assert all(estimate.noisy is not None for _, estimate in util.heard)


@pytest.mark.filterwarnings("ignore")
def test_noisy_latents_are_those_at_the_start_of_the_step_with_their_gain(util):
    scheduler = diffusers.EulerDiscreteScheduler()
    states = []
    x = torch.randn((1, 4, 6, 8), generator=torch.Generator().manual_seed(3)) * 14
    stable_diffusion(util, x, scheduler, states=states)
    for estimate, state in zip(util.estimates, states, strict=True):
        assert torch.equal(estimate.noisy, state)
        assert estimate.gain == pytest.approx((estimate.sigma**2 + 1) ** -0.5)


def test_noisy_latents_of_a_flow_model_are_those_at_the_start_of_the_step(noise, util):
    euler(util, noise)
    assert torch.equal(util.estimates[0].noisy, noise)
    assert {estimate.gain for estimate in util.estimates} == {1.0}


def reported(util, x, levels=LEVELS):
    """Samples as Anima does, which reports x0. Returns the state before each step."""
    sigmas, latents, states = list(levels), x, []
    noise = x  # noqa: F841, as in Anima's loop
    for i, (sigma, after) in enumerate(pairwise(sigmas)):
        states.append(latents)
        noise_pred = velocity(latents, sigma)
        latents = latents + (after - sigma) * noise_pred
        util.sd_step_callback(State(i + 1, 1, len(sigmas) - 1, 0, latents - after * noise_pred), "anima")
    return states


def test_noisy_latents_of_a_node_that_reports_x0_are_those_of_its_loop(noise):
    util = EstimatingUtil(denoised=True)
    states = reported(util, noise)
    for estimate, state in zip(util.estimates, states, strict=True):
        assert torch.equal(estimate.noisy, state)
        assert estimate.gain == 1.0


def test_the_first_state_of_a_run_that_begins_with_an_image_is_unknown(noise):
    util = EstimatingUtil(denoised=True)
    reported(util, noise, LEVELS[2:])
    assert [estimate.noisy is None for estimate in util.estimates] == [True, False, False, False]


def test_a_node_that_reports_x0_has_noisy_latents_only_if_they_are_needed(noise):
    util = EstimatingUtil(denoised=True, needs_noisy=False)
    reported(util, noise)
    assert all(estimate.noisy is None for estimate in util.estimates)


def flux_with_scheduler(util, x, scheduler, *, init=None):
    """Samples as FLUX does with a scheduler in InvokeAI 6.14: from the state after a step, it reports no x0.

    Args:
        util: receives the steps.
        x: noise `[1, C, H, W]`.
        scheduler: scheduler, whose schedule is set.
        init: image over the left half, as in inpainting.

    Returns:
        x0 of each step.
    """
    total, truth = 4, []
    inpaint_extension = None if init is None else Inpainting(patched(init), patched(x))

    def denoise(img, scheduler, inpaint_extension):
        for step, timestep in enumerate(scheduler.timesteps[:total], 1):
            t_curr = float(scheduler.sigmas[step - 1])
            pred = patched(velocity(unpatched(img), t_curr))
            truth.append(unpatched(img - t_curr * pred))
            img = scheduler.step(pred, timestep, img).prev_sample
            if inpaint_extension is not None:
                after = float(scheduler.sigmas[step])
                img = inpaint_extension.merge_intermediate_latents_with_init_latents(img, after)
                truth[-1][..., : init.shape[-1] // 2] = init[..., : init.shape[-1] // 2]
            preview = unpatched(img - t_curr * pred).squeeze()
            util.sd_step_callback(State(step, 1, total, int(timestep), preview), "flux")
        return img

    x = patched(x)
    denoise(x, scheduler, inpaint_extension)
    return truth


class Inpainting:
    """InvokeAI's `RectifiedFlowInpaintExtension`, with a mask over the left half."""

    def __init__(self, init, noise):
        self.init, self.noise = init, noise
        mask = torch.ones_like(unpatched(init))
        mask[..., : mask.shape[-1] // 2] = 0
        self.mask = patched(mask)

    def merge_intermediate_latents_with_init_latents(self, latents, t_prev):
        noised = self.noise * t_prev + (1 - t_prev) * self.init
        return latents * self.mask + noised * (1 - self.mask)


def unpatched(packed, height=6, width=8):
    """The opposite of `patched`."""
    rows, columns = height // 2, width // 2
    patches = packed.view(1, rows, columns, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(1, -1, height, width)


def scheduled(name):
    scheduler = getattr(diffusers, f"FlowMatch{name}Scheduler")()
    # InvokeAI gives Euler the 0 at the end of the schedule, and the scheduler adds another one.
    scheduler.set_timesteps(sigmas=[1.0, 0.8, 0.5, 0.2, 0.0] if name == "EulerDiscrete" else [1.0, 0.8, 0.5, 0.2])
    return scheduler


@pytest.mark.parametrize("name", ["EulerDiscrete", "LCM"])
@pytest.mark.parametrize("is_inpainted", [False, True])
def test_x0_of_flux_with_a_scheduler_is_not_the_one_that_the_host_reports(noise, name, is_inpainted):
    util = EstimatingUtil(denoised=True)
    init = torch.rand(noise.shape, generator=torch.Generator().manual_seed(9)) if is_inpainted else None
    truth = flux_with_scheduler(util, noise, scheduled(name), init=init)
    assert [estimate.sigma for estimate in util.estimates] == pytest.approx([1.0, 0.8, 0.5, 0.2])
    for estimate, x0 in zip(util.estimates, truth, strict=True):
        torch.testing.assert_close(estimate.x0, x0, rtol=1e-4, atol=1e-5)


def test_x0_of_flux_is_the_reported_one_where_the_loop_is_not_known(noise):
    util = EstimatingUtil(denoised=True)
    scheduler = scheduled("EulerDiscrete")

    def denoise(scheduler):
        util.sd_step_callback(State(1, 1, 4, 1000, noise), "flux")
        util.sd_step_callback(State(2, 2, 4, 800, noise), "flux")  # a scheduler of second order

    denoise(scheduler)
    assert all(torch.equal(estimate.x0, noise) for estimate in util.estimates)
    assert [estimate.sigma for estimate in util.estimates] == [1.0, None]


def z_image_with_scheduler(util, x, scheduler, calls):
    """Samples as Z-Image does with a scheduler, and reports no step 0. Returns x0 of each step."""
    sigmas, truth, order = [1.0, 0.75, 0.5, 0.25, 0.0], [], len(calls)

    def denoise(noise, sigmas, scheduler):
        latents, timesteps = noise, iter(scheduler.timesteps)
        for step in range(1, 4):
            for call in calls:
                timestep = next(timesteps)
                level = float(timestep) / 1000
                noise_pred = velocity(latents, level)
                if call == order:
                    truth.append(latents - level * noise_pred)
                latents = scheduler.step(noise_pred, timestep, latents).prev_sample
            util.sd_step_callback(State(step, order, 4, 0, latents), "z-image")

    denoise(x, sigmas, scheduler)
    return truth


@pytest.mark.parametrize(("name", "calls"), [("LCM", (1,)), ("HeunDiscrete", (1, 2))])
def test_x0_of_z_image_with_a_scheduler_is_known_from_the_first_step(util, noise, name, calls):
    scheduler = getattr(diffusers, f"FlowMatch{name}Scheduler")()
    scheduler.set_timesteps(4)
    truth = z_image_with_scheduler(util, noise, scheduler, calls)
    first, *others = util.estimates
    for estimate, x0 in zip(others, truth[1:], strict=True):
        torch.testing.assert_close(estimate.x0, x0, rtol=1e-4, atol=1e-4)
    # Heun averages two predictions, so the first state is a little off the line of the second one.
    worst_of_first = float((first.x0 - truth[0]).abs().max())
    assert worst_of_first < (1e-4 if name == "LCM" else 0.2 * float(truth[0].std()))
    assert first.sigma >= others[0].sigma
