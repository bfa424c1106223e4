"""Loops of the user, of which only the scheduler is passed: their runs, their results, the scheduler afterwards."""

import copy
import json
from concurrent.futures import ThreadPoolExecutor

import diffusers
import pytest
import torch
from safelight.errors import OptionError, RunError, UnknownDecoderError, UnknownSpaceError
from safelight.hosts.diffusers import Previews, watch
from safelight.preview.saved_run import SavedRun
from tiny_models import OLD, kl, noise

pytestmark = pytest.mark.filterwarnings("ignore:__array__")
STEPS = 4
FLUX = (1, 16, 6, 8)


def flow():
    return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)


def ddim(**config):
    return diffusers.DDIMScheduler(**OLD, clip_sample=False, **config)


def model(latents, t):
    return torch.tanh(latents) * 0.5 + float(t) / 2000


def sample(scheduler, steps=STEPS, shape=FLUX, until=None, begin=0, strict=True):
    """A loop as users write it. Returns the latents before the first step, and after each step."""
    scheduler.set_timesteps(steps)
    latents = noise(*shape)
    states = [latents]
    for t in scheduler.timesteps[begin:until]:
        out = model(scheduler.scale_model_input(latents, t) if hasattr(scheduler, "scale_model_input") else latents, t)
        latents = scheduler.step(out, t, latents).prev_sample
        states.append(latents)
    return states


def steps_of(run):
    return [[(picture.index, picture.total) for picture in each.pictures] for each in run.runs]


def numbers(count, total=None):
    return [(index, total or count) for index in range(1, count + 1)]


# Steps, x0 and results


@pytest.mark.parametrize(
    "scheduler",
    [
        flow(),
        ddim(),
        ddim(prediction_type="v_prediction"),
        ddim(prediction_type="sample"),
        diffusers.EulerDiscreteScheduler(**OLD),
        diffusers.DPMSolverMultistepScheduler(**OLD),
        diffusers.DDPMScheduler(**OLD),
        diffusers.LCMScheduler(**OLD),
        diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_every_step_of_the_scheduler_is_a_step_and_the_result_is_the_same(scheduler, tmp_path):
    torch.manual_seed(1)
    plain = sample(scheduler)
    attributes = set(vars(scheduler))
    torch.manual_seed(1)
    with watch(scheduler, space="flux1", out=tmp_path, screen="off") as run:
        states = sample(scheduler)
    assert all(torch.equal(before, after) for before, after in zip(plain, states, strict=True))
    assert set(vars(scheduler)) == attributes
    assert steps_of(run) == [numbers(STEPS)]
    manifest = json.loads((run.folder / "run.json").read_text())
    assert (manifest["state"], manifest["space"], manifest["notes"]) == ("finished", "flux1", [])
    assert manifest["host"]["pipeline"] is None
    assert manifest["sampler"]["steps"] == STEPS
    assert {picture.show for picture in run.pictures} == {"denoised"}


def test_x0_is_that_of_the_prediction_type(tmp_path):
    """The formulas of the papers, written once more."""
    references = {
        "epsilon": lambda x, out, a, s: (x - s * out) / a,
        "v_prediction": lambda x, out, a, s: a * x - s * out,
        "sample": lambda x, out, a, s: out,
    }
    for prediction, reference in references.items():
        scheduler = ddim(prediction_type=prediction)
        with watch(scheduler, space="flux1", out=tmp_path, screen="off", keep_latents=True) as run:
            states = sample(scheduler)
        saved = SavedRun.open(run.folder)
        for index, t in enumerate(scheduler.timesteps, 1):
            alpha = float(scheduler.alphas_cumprod[int(t)])
            x = states[index - 1]
            expected = reference(x, model(x, t), alpha**0.5, (1 - alpha) ** 0.5)
            assert torch.allclose(saved.latents(index).denoised, expected, atol=1e-4)
            assert torch.equal(saved.latents(index).noisy, x)


def test_x0_of_a_flow_model(tmp_path):
    scheduler = flow()
    with watch(scheduler, space="flux1", out=tmp_path, screen="off", keep_latents=True) as run:
        states = sample(scheduler)
    saved = SavedRun.open(run.folder)
    for index, (t, sigma) in enumerate(zip(scheduler.timesteps, scheduler.sigmas, strict=False), 1):
        x = states[index - 1]
        assert torch.allclose(saved.latents(index).denoised, x - sigma * model(x, t), atol=1e-5)
    assert run.manifest()["sampler"]["sigmas"] == pytest.approx([float(sigma) for sigma in scheduler.sigmas])


# Runs


@pytest.mark.parametrize("make", [flow, ddim])
def test_a_run_ends_with_the_last_timestep_and_a_new_one_begins_when_they_start_over(make):
    scheduler = make()
    with watch(scheduler, space="flux1", screen="off") as run:
        sample(scheduler)
        assert run.runs[0].state == "finished"
        sample(scheduler, until=2)
        sample(scheduler, 6)
        sample(scheduler, until=3)
    assert steps_of(run) == [numbers(4), numbers(2, 4), numbers(6), numbers(3, 4)]
    assert [each.state for each in run.runs] == ["finished", "interrupted", "finished", "interrupted"]


@pytest.mark.parametrize("make", [flow, ddim])
def test_a_loop_that_begins_again_with_the_same_schedule_is_a_new_run(make):
    scheduler = make()
    scheduler.set_timesteps(STEPS)
    with watch(scheduler, space="flux1", screen="off") as run:
        for _ in range(2):
            if hasattr(scheduler, "set_begin_index"):
                scheduler.set_begin_index(0)
                scheduler._step_index = None
            for t in scheduler.timesteps[:3]:
                scheduler.step(noise(*FLUX), t, noise(*FLUX))
    assert steps_of(run) == [numbers(3, 4)] * 2


@pytest.mark.parametrize("make", [flow, ddim])
def test_a_loop_that_begins_in_the_middle_counts_its_own_steps(make):
    scheduler = make()
    with watch(scheduler, space="flux1", screen="off") as run:
        sample(scheduler, 10, begin=4)
        sample(scheduler, 10, begin=4)
    assert steps_of(run) == [numbers(6)] * 2
    assert [each.state for each in run.runs] == ["finished"] * 2


def test_a_scheduler_of_second_order_has_a_step_for_two_calls():
    scheduler = diffusers.HeunDiscreteScheduler(**OLD)
    with watch(scheduler, space="flux1", screen="off") as run:
        sample(scheduler)
        sample(scheduler)
    assert steps_of(run) == [numbers(STEPS)] * 2


def test_blocks_may_be_nested_also_of_one_scheduler():
    first, second = flow(), ddim()
    with watch(first, space="flux1", screen="off") as outer, watch(first, space="flux1", screen="off") as inner:
        with watch(second, space="sd1", screen="off") as other:
            states = sample(first)
            sample(second, 3, (1, 4, 6, 8))
        sample(second, 3, (1, 4, 6, 8))
    assert [steps_of(run) for run in (outer, inner, other)] == [[numbers(STEPS)], [numbers(STEPS)], [numbers(3)]]
    assert all(torch.equal(before, after) for before, after in zip(sample(flow()), states, strict=True))
    assert not {"step", "__getstate__"} & {*vars(first), *vars(second)}


def test_schedulers_that_take_turns_are_separate_runs():
    image, sound = flow(), flow()
    image.set_timesteps(STEPS)
    sound.set_timesteps(STEPS)
    with watch(image, space="flux1", screen="off") as one, watch(sound, space="sd1", screen="off") as two:
        for i in range(STEPS):
            image.step(noise(*FLUX), image.timesteps[i], noise(*FLUX))
            sound.step(noise(1, 4, 6, 8), sound.timesteps[i], noise(1, 4, 6, 8))
    assert (steps_of(one), steps_of(two)) == ([numbers(STEPS)], [numbers(STEPS)])
    assert [run.runs[0].run.space for run in (one, two)] == ["flux1", "sd1"]


def test_a_loop_may_run_in_a_pool_of_threads():
    scheduler = flow()
    scheduler.set_timesteps(STEPS)
    with watch(scheduler, space="flux1", screen="off") as run:
        for t in scheduler.timesteps:  # each step in another thread
            with ThreadPoolExecutor(1) as pool:
                pool.submit(scheduler.step, noise(*FLUX), t, noise(*FLUX)).result()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(sample, scheduler).result()
    assert steps_of(run) == [numbers(STEPS)] * 2


def test_schedulers_of_several_threads_at_the_same_time():
    schedulers = [flow() for _ in range(3)]

    def work(scheduler):
        with watch(scheduler, space="flux1", screen="off") as run:
            return sample(scheduler)[-1], steps_of(run)

    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(work, schedulers))
    expected = sample(flow())[-1]
    assert all(torch.equal(latents, expected) and steps == [numbers(STEPS)] for latents, steps in results)


def test_an_exception_of_the_loop_ends_its_run():
    scheduler = flow()

    def fail():
        with watch(scheduler, space="flux1", screen="off") as run:
            runs.append(run)
            sample(scheduler, until=2)
            raise KeyError

    runs = []
    with pytest.raises(KeyError):
        fail()
    assert (runs[0].runs[0].state, steps_of(runs[0])) == ("failed", [numbers(2, 4)])
    assert "step" not in vars(scheduler)


def test_a_compiled_loop_is_watched():
    scheduler = flow()
    plain = sample(scheduler)

    def step(out, t, latents):
        return scheduler.step(out, t, latents).prev_sample

    compiled = torch.compile(step, backend="eager")
    scheduler.set_timesteps(STEPS)
    latents = noise(*FLUX)
    with watch(scheduler, space="flux1", screen="off") as run:
        for t in scheduler.timesteps:
            latents = compiled(model(latents, t), t, latents)
    assert torch.equal(latents, plain[-1])
    assert steps_of(run) == [numbers(STEPS)]


# Latent space and size


@pytest.mark.parametrize(
    ("vae", "shape", "space"),
    [
        (kl(4, 0.13025), (1, 4, 6, 8), "sdxl"),
        (kl(16, 0.3611, 0.1159), FLUX, "flux1"),
        (None, (1, 12, 2, 6, 8), "mochi"),
        (None, (1, 3, 6, 8), "pixels"),
    ],
)
def test_the_vae_or_a_shape_that_only_one_space_has_says_the_space(vae, shape, space):
    scheduler = flow()
    with watch(scheduler, vae=vae, screen="off") as run:
        sample(scheduler, shape=shape)
    assert (run.runs[0].run.space, run.notes) == (space, [])


def test_the_vae_decodes_the_last_step_with_decoder_full():
    scheduler, vae = flow(), kl(16, 0.3611, 0.1159)
    with watch(scheduler, vae=vae, decoder="full", screen="off") as run, torch.no_grad():
        latents = sample(scheduler)[-1]
        vae.decode(latents / 0.3611 + 0.1159)
    assert [picture.card.kind for picture in run.pictures][-1] == "full"
    assert run.runs[0].run.ended.wait(60)
    assert run.runs[0].run.truth["psnr_db"] is not None
    assert "decode" not in vars(vae)


@pytest.mark.parametrize(
    ("options", "shape", "note"),
    [
        ({}, FLUX, r"several latent spaces have latents with 16 channels \(.*flux1.*\), and no VAE says .*space="),
        ({}, (1, 7, 6, 8), "are of an unknown space: none has 7 channels.*pass space="),
        ({"space": "sd1"}, FLUX, r"expected \[B, C, H, W\].* with C = 4, got \[1, 16, 6, 8\]. Choose the latent space"),
        ({"vae": kl(4, 0.18215)}, (1, 4, 6, 8), "the default of this class and says nothing"),
    ],
)
def test_a_space_that_is_not_known_or_does_not_fit_is_a_note(options, shape, note):
    scheduler = flow()
    with watch(scheduler, screen="off", **options) as run:
        states = sample(scheduler, shape=shape)
    assert torch.equal(states[-1], sample(flow(), shape=shape)[-1])
    assert steps_of(run) == [numbers(STEPS)]
    assert len(run.notes) == 1
    with pytest.raises(AssertionError, match=note):
        raise AssertionError(run.notes[0])


def test_tokens_have_the_height_and_width_of_the_function_that_steps_the_scheduler():
    def generate(scheduler, prompt, height, width):
        scheduler.set_timesteps(STEPS)
        tokens = noise(1, height // 16 * (width // 16), 64)
        for t in scheduler.timesteps:
            tokens = scheduler.step(model(tokens, t), t, tokens).prev_sample

    with watch(scheduler := flow(), space="flux1", screen="off") as run:
        generate(scheduler, "a lighthouse", 64, 96)
        sample(scheduler, shape=(1, 24, 64))
    assert [picture.pixels.shape[2:4] for picture in (run.runs[0].pictures[0], run.pictures[0])] == [(8, 12), (12, 8)]
    assert [each.run.prompt for each in run.runs] == ["a lighthouse", None]
    assert run.runs[0].notes == []
    (note,) = run.notes
    assert note.startswith("the height and width of the picture are not stated: it is shown as a square. Name them")


# What cannot be shown, and wrong input


def test_not_a_number_and_whole_numbers_do_not_stop_the_loop(caplog):
    scheduler = flow()
    scheduler.set_timesteps(2)
    with watch(scheduler, space="flux1", screen="off") as run:
        for t in scheduler.timesteps:
            scheduler.step(noise(*FLUX), t, noise(*FLUX) * float("nan"))
    assert steps_of(run) == [numbers(2)]
    assert "NaN" in run.notes[0]
    scheduler = diffusers.VQDiffusionScheduler(num_vec_classes=8)
    scheduler.set_timesteps(2)
    with watch(scheduler, space="flux1", screen="off") as run:
        for t in scheduler.timesteps:
            scheduler.step(torch.zeros(1, 7, 4).log_softmax(1), t, torch.zeros(1, 4, dtype=torch.int64))
    assert run.runs == []
    assert "VQDiffusionScheduler sampled no latents of a picture but tokens" in run.notes[0]


def test_steps_outside_of_the_block_and_of_a_copy_are_not_seen_and_a_warning_says_so(caplog):
    scheduler = flow()
    with watch(scheduler, space="flux1", screen="off") as run:
        sample(copy.deepcopy(scheduler))
    sample(scheduler)
    assert run.runs == []
    assert run.notes == [caplog.messages[-1]]
    assert run.notes[0].startswith(
        "no step of FlowMatchEulerDiscreteScheduler was seen in this block, so there is no run. Safelight follows this "
        "object only"
    )
    assert "if it steps outside of the block, move the loop into it" in run.notes[0]


def test_a_loop_cannot_be_stopped_from_outside():
    scheduler = flow()
    with watch(scheduler, space="flux1", screen="off") as run:
        assert run.stop() is False
        sample(scheduler, until=1)
        with pytest.raises(RunError, match="expected a pipeline, got a loop of your own; leave it with break"):
            run.stop()


weights = [torch.nn.Parameter(torch.zeros(1))]


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (
            torch.optim.lr_scheduler.ConstantLR(torch.optim.SGD(weights)),
            r"the scheduler of a loop of your own, got ConstantLR with step\(epoch\); .*learning rates",
        ),
        (torch.optim.SGD(weights), r"got SGD with step\(closure\)"),
        (diffusers.DDIMScheduler, "got the class DDIMScheduler; create an object of it first"),
        ([flow(), flow()], "got list; watch each object in a block of its own"),
        (torch.nn.Linear(1, 1), "got Linear; .*safelight.recording"),
    ],
)
def test_an_object_that_is_no_scheduler_is_refused(thing, message):
    with pytest.raises(TypeError, match=message):
        watch(thing).__enter__()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"vae": "vae"}, OptionError, "vae: expected an autoencoder of diffusers, .* got 'vae'"),
        ({"space": "flux7"}, UnknownSpaceError, "flux7"),
        ({"space": "flux1", "decoder": "sd1-linear-keturn"}, UnknownDecoderError, "sd1-linear-keturn"),
    ],
)
def test_a_wrong_option_is_an_error_before_the_loop(options, error, message):
    scheduler = flow()
    with pytest.raises(error, match=message):
        watch(scheduler, **options).__enter__()
    assert "step" not in vars(scheduler)


def test_a_pipeline_needs_no_vae_and_previews_need_a_callback(sd1):
    with pytest.raises(
        OptionError, match="vae: expected no VAE with a pipeline, which has its own, got a AutoencoderKL"
    ):
        watch(sd1, vae=sd1.vae).__enter__()
    with pytest.raises(TypeError, match=r"Previews: expected a pipeline that calls a callback .* use `with watch"):
        Previews(flow())


def test_a_variable_latents_of_the_user_may_be_anything():
    def generate(scheduler, latents):
        scheduler.set_timesteps(STEPS)
        x = noise(*FLUX)
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, t), t, x).prev_sample
        return latents

    with watch(scheduler := flow(), space="flux1", screen="off") as run:
        generate(scheduler, noise(4, 16, 30, 40))
    assert (steps_of(run), run.notes) == ([numbers(STEPS)], [])
