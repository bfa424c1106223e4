"""Copies of pipelines, pipelines in pipelines, and sampler calls that nothing was heard of."""

import asyncio
import copy
import gc
import pickle
import threading
import weakref
from contextlib import suppress

import diffusers
import numpy as np
import pytest
import torch
from diffusers.pipelines.deprecated.wuerstchen.modeling_paella_vq_model import PaellaVQModel
from safelight.hosts.diffusers import Previews, watch
from safelight.hosts.diffusers.watched_run import WatchedRun
from safelight.preview.saved_run import SavedRun
from tiny_models import OLD, noise, wan_vae
from tiny_pipelines import FAMILIES, STEPS

pytestmark = pytest.mark.filterwarnings("ignore")
SD1 = FAMILIES["StableDiffusion"]


def steps_of(run):
    return [[(picture.index, picture.total) for picture in each.pictures] for each in run.runs]


ALL_STEPS = [(index, STEPS) for index in range(1, STEPS + 1)]


def has_no_hooks(pipe):
    return not {"progress_bar", "__getstate__"} & set(vars(pipe)) and "step" not in vars(pipe.scheduler)


def request(pipe, copying=copy.copy):
    """Returns a copy of the pipeline for one request, with a scheduler of its own."""
    copied = copying(pipe)
    copied.scheduler = diffusers.DDIMScheduler(**OLD)
    return copied


@pytest.mark.parametrize("copying", [copy.copy, copy.deepcopy, lambda pipe: copy.copy(copy.copy(pipe))])
def test_a_copy_that_is_created_in_the_block_is_watched(sd1, copying):
    plain = SD1.run(request(sd1))
    with watch(sd1, screen="off") as run:
        copied = request(sd1, copying)
        result = SD1.run(copied)
        SD1.run(sd1)
    assert np.array_equal(plain, result)
    assert steps_of(run) == [ALL_STEPS, ALL_STEPS]
    assert [each.run.sampler["name"] for each in run.runs] == ["DDIM", "EulerDiscrete"]
    assert run.runs[0].run.sampler["seed"] == 3
    assert has_no_hooks(sd1)
    assert has_no_hooks(copied)


def test_a_copy_can_sample_after_the_block_and_does_not_hold_the_pipeline(sd1):
    pipe = diffusers.StableDiffusionPipeline(**sd1.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    with watch(pipe, screen="off") as run:
        SD1.run(pipe)
        copied = request(pipe)
        assert SD1.run(pickle.loads(pickle.dumps(copied))).shape
    gone = weakref.ref(pipe)
    del pipe
    gc.collect()
    assert gone() is None  # although its run and a copy are still there
    assert len(run.pictures) == STEPS
    assert list(copied.progress_bar(range(2))) == [0, 1]
    SD1.run(copied)
    assert len(run.runs) == 1


def test_copies_that_sample_at_the_same_time_are_separate_runs(sd1):
    barrier = threading.Barrier(2, timeout=60)

    def wait(pipe, index, timestep, kwargs):
        barrier.wait()
        return kwargs

    with watch(sd1, screen="off") as run:
        copies = [request(sd1) for _ in range(2)]
        threads = [
            threading.Thread(target=SD1.run, args=(each,), kwargs={"callback_on_step_end": wait}) for each in copies
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert steps_of(run) == [ALL_STEPS, ALL_STEPS]
    assert [each.state for each in run.runs] == ["finished", "finished"]
    assert all(map(has_no_hooks, copies))


def test_a_copy_of_a_scheduler_steps_by_itself(sd1):
    copies = []

    def take(pipe, index, timestep, kwargs):
        copies.append(copy.copy(pipe.scheduler))
        latents = kwargs["latents"]
        copies[-1].step(latents, pipe.scheduler.timesteps[index], latents)
        return kwargs

    plain = SD1.run(sd1)
    with watch(sd1, screen="off") as run:
        result = SD1.run(sd1, callback_on_step_end=lambda *call: take(*call) if call[1] < STEPS - 1 else call[3])
    assert np.array_equal(plain, result)
    assert steps_of(run) == [ALL_STEPS]
    assert all("step" not in vars(each) for each in copies)


class Text(torch.nn.Module):
    """Stands for a text encoder; prompts are given as embeddings."""

    dtype, device = torch.float32, torch.device("cpu")


def cascade():
    def unet(**more):
        return diffusers.models.StableCascadeUNet(
            conditioning_dim=16,
            block_out_channels=(8, 16),
            num_attention_heads=(0, 2),
            down_num_layers_per_block=(1, 1),
            up_num_layers_per_block=(1, 1),
            down_blocks_repeat_mappers=(1, 1),
            up_blocks_repeat_mappers=(1, 1),
            block_types_per_layer=(
                ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
                ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
            ),
            switch_level=(False,),
            clip_text_pooled_in_channels=8,
            clip_seq=2,
            timestep_ratio_embedding_dim=16,
            **more,
        )

    torch.manual_seed(0)
    pipe = diffusers.StableCascadeCombinedPipeline(
        tokenizer=None,
        text_encoder=Text(),
        decoder=unet(in_channels=4, out_channels=4, effnet_in_channels=16, patch_size=1),
        scheduler=diffusers.DDPMWuerstchenScheduler(),
        vqgan=PaellaVQModel(bottleneck_blocks=1, embed_dim=8, num_vq_embeddings=16),
        prior_prior=unet(clip_text_in_channels=8, clip_image_in_channels=8),
        prior_text_encoder=Text(),
        prior_tokenizer=None,
        prior_scheduler=diffusers.DDPMWuerstchenScheduler(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_the_pipelines_of_a_combined_pipeline_are_watched():
    pipe = cascade()
    prompts = {f"{negative}prompt_embeds": noise(1, 6, 8) for negative in ("", "negative_")}
    prompts |= {f"{negative}prompt_embeds_pooled": noise(1, 1, 8) for negative in ("", "negative_")}

    def sample():
        torch.manual_seed(1)
        generator = torch.Generator().manual_seed(0)
        sizes = {"height": 128, "width": 128, "num_inference_steps": 3, "prior_num_inference_steps": 4}
        return pipe(**prompts, **sizes, generator=generator, output_type="np").images

    plain = sample()
    with watch(pipe, screen="off", decoder="full") as run:
        result = sample()
    assert np.array_equal(plain, result, equal_nan=True)
    assert [each.run.space for each in run.runs] == ["cascade_prior", "cascade_b"]
    assert steps_of(run) == [[(index, total) for index in range(1, total + 1)] for total in (4, 3)]
    assert run.notes == [
        "VAE preview skipped: the VAE PaellaVQModel has a codebook, and only the pipeline knows how to call it"
    ]
    assert all(map(has_no_hooks, (pipe, pipe.prior_pipe, pipe.decoder_pipe)))


# Copies from before the block


@pytest.mark.parametrize(
    "copying",
    [
        request,
        copy.copy,
        lambda pipe: copy.copy(request(pipe)),
        lambda pipe: diffusers.StableDiffusionPipeline.from_pipe(pipe, requires_safety_checker=False),
    ],
    ids=["own scheduler", "same scheduler", "copy of a copy", "from_pipe"],
)
def test_a_copy_that_is_older_than_the_block_is_watched(sd1, copying):
    older = copying(sd1)
    older.set_progress_bar_config(disable=True)
    plain = SD1.run(older)
    with watch(sd1, screen="off") as run:
        result = SD1.run(older)
        SD1.run(copy.copy(older))
        SD1.run(sd1)
    assert np.array_equal(plain, result)
    assert steps_of(run) == [ALL_STEPS] * 3
    assert run.notes == []
    assert has_no_hooks(sd1)
    assert has_no_hooks(older)
    SD1.run(older)
    assert len(run.runs) == 3


def test_a_pipeline_with_other_parts_is_not_watched(sd1, make):
    other = make("StableDiffusionXL")
    other[1].vae, vae = sd1.vae, other[1].vae
    with watch(sd1, screen="off") as run:
        other[0].run(other[1], output_type="latent")
    other[1].vae = vae
    assert run.runs == []


def test_an_older_copy_in_another_thread_belongs_to_another_user(sd1, caplog):
    older = request(sd1)
    with watch(sd1, screen="off") as run:
        thread = threading.Thread(target=SD1.run, args=(older,))
        thread.start()
        thread.join()
        assert run.notes == []
    assert run.runs == []
    (note,) = run.notes
    assert note == caplog.messages[-1]
    assert note.startswith("only a copy of StableDiffusionPipeline that is older than this block sampled, in another")
    assert "thread or task" in note
    assert "pass that copy to watch(), or copy the pipeline in the block" in note
    assert has_no_hooks(older)


def test_a_task_of_another_request_is_another_user(sd1):
    """Requests of a server take turns in one thread, each in a task."""
    copies = [request(sd1) for _ in range(2)]

    async def watches():
        with watch(copies[0], screen="off") as run:
            await asyncio.sleep(0)  # the other task samples now
            SD1.run(copies[0])
            await asyncio.to_thread(SD1.run, sd1)  # the task goes on in another thread
        return run

    async def samples():
        SD1.run(copies[1])

    async def serve():
        return (await asyncio.gather(watches(), samples()))[0]

    run = asyncio.run(serve())
    assert [each.run.sampler["name"] for each in run.runs] == ["DDIM", "EulerDiscrete"]
    assert steps_of(run) == [ALL_STEPS] * 2


def test_two_users_with_older_copies_have_their_own_runs(sd1):
    """Each request watches its own copy, in its own thread, at the same time."""
    copies = [request(sd1) for _ in range(2)]
    barrier = threading.Barrier(2, timeout=60)
    runs = {}

    def wait(pipe, index, timestep, kwargs):
        barrier.wait()
        return kwargs

    def serve(number):
        with watch(copies[number], screen="off") as run:
            barrier.wait()
            SD1.run(copies[number], callback_on_step_end=wait)
            barrier.wait()
        runs[number] = run

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [steps_of(runs[number]) for number in range(2)] == [[ALL_STEPS]] * 2
    assert all(map(has_no_hooks, (sd1, *copies)))


def test_a_callback_shows_an_older_copy_from_its_second_step_on(sd1):
    """The callback says after the first step which pipeline samples."""
    older = request(sd1)
    plain = SD1.run(older)
    previews = Previews(sd1, screen="off")
    result = SD1.run(older, callback_on_step_end=previews)
    assert np.array_equal(plain, result)
    assert steps_of(previews) == [ALL_STEPS[1:]]
    assert {picture.show for picture in previews.pictures} == {"denoised"}
    sigmas = previews.runs[0].run.sampler["sigmas"]
    assert sigmas[1:-1] == pytest.approx([picture.sigma for picture in previews.pictures])
    assert previews.notes == ["step 1 is not shown: the first callback said which copy of the pipeline samples"]
    previews.close()
    assert has_no_hooks(older)


# Loops without a progress bar, or without a scheduler


def own_loop(pipe, steps=STEPS, *, scheduler=True):
    """A loop as users write it."""
    with torch.no_grad():
        pipe.scheduler.set_timesteps(steps)
        latents = noise(1, 4, 16, 24) * pipe.scheduler.init_noise_sigma
        for t in pipe.scheduler.timesteps:
            output = pipe.unet(pipe.scheduler.scale_model_input(latents, t), t, encoder_hidden_states=noise(1, 6, 8))
            latents = pipe.scheduler.step(output.sample, t, latents).prev_sample
    return latents


def test_a_loop_of_the_user_is_watched(sd1, tmp_path):
    plain = own_loop(sd1)
    with watch(sd1, tmp_path, screen="off") as run:
        result = own_loop(sd1)
        own_loop(sd1, 3)
        SD1.run(sd1)
    assert torch.equal(plain, result)
    assert steps_of(run) == [ALL_STEPS, [(index, 3) for index in (1, 2, 3)], ALL_STEPS]
    assert [each.state for each in run.runs] == ["finished"] * 3
    first = run.runs[0].run.sampler
    assert first["sigmas"] == pytest.approx([float(sigma) for sigma in run.runs[2].run.sampler["sigmas"]])
    assert has_no_hooks(sd1)


def test_a_loop_of_the_user_that_fails_ends_its_run(sd1):
    with suppress(KeyError), watch(sd1, screen="off") as run:
        sd1.scheduler.set_timesteps(STEPS)
        latents = noise(1, 4, 16, 24)
        sd1.scheduler.step(latents, sd1.scheduler.timesteps[0], latents)
        raise KeyError
    assert run.runs[0].state == "failed"
    assert steps_of(run) == [ALL_STEPS[:1]]


class OwnSteps(diffusers.StableDiffusionPipeline):
    """Takes its steps without its scheduler, as pipelines for editing do."""

    @torch.no_grad()
    def __call__(self, named=True, iterates=False, callback_on_step_end=None):
        state = noise(1, 4, 16, 24)
        if named:
            latents = state
        bar = self.progress_bar(range(STEPS)) if iterates else self.progress_bar(total=STEPS)
        for i in bar if iterates else range(STEPS):
            state = latents = state * 0.5
            if callback_on_step_end is not None:
                callback_on_step_end(self, i, i, {"latents": state})
            if not iterates:
                bar.update()
        bar.close()
        return state if named else (state, latents)[0]


@pytest.mark.parametrize("iterates", [False, True])
def test_a_loop_that_does_not_call_its_scheduler_shows_noisy_latents_with_a_note(sd1, tmp_path, iterates):
    pipe = OwnSteps(**sd1.components, requires_safety_checker=False)
    with watch(pipe, tmp_path, screen="off", keep_latents=True) as run:
        result = pipe(iterates=iterates)
    assert steps_of(run) == [ALL_STEPS]
    assert {(picture.show, picture.sigma) for picture in run.pictures} == {("noisy", None)}
    assert run.runs[0].run.sampler["sigmas"] is None
    assert torch.equal(SavedRun.open(run.folder).latents(STEPS).noisy, result)
    assert run.notes[0].startswith("OwnSteps does not call its own scheduler")


def test_a_callback_shows_the_latents_of_a_loop_that_does_not_call_its_scheduler(sd1):
    pipe = OwnSteps(**sd1.components, requires_safety_checker=False)
    previews = Previews(pipe, screen="off")
    pipe(callback_on_step_end=previews)
    assert steps_of(previews) == [ALL_STEPS]
    previews.close()


class NoLatents(OwnSteps):
    def __call__(self):
        with self.progress_bar(total=STEPS) as bar:
            for _ in range(STEPS):
                bar.update()


def test_a_loop_of_which_nothing_is_known_warns(sd1, caplog):
    pipe = NoLatents(**sd1.components, requires_safety_checker=False)
    with watch(pipe, screen="off") as run:
        pipe()
    assert run.runs == []
    (note,) = run.notes
    assert note == caplog.messages[-1]
    assert note.startswith("NoLatents sampled, but did not call its own scheduler and has no variable `latents`")
    assert "safelight.recording" in note


def test_nothing_was_sampled(sd1, caplog):
    with watch(sd1, screen="off") as run:
        pass
    (note,) = run.notes
    assert note == caplog.messages[-1]
    assert note.startswith("no sampler call of StableDiffusionPipeline was seen in this block, so there is no run")


def skyreels():
    torch.manual_seed(0)
    pipe = diffusers.SkyReelsV2DiffusionForcingPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=wan_vae(),
        scheduler=diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        transformer=diffusers.SkyReelsV2Transformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=1,
            attention_head_dim=12,
            in_channels=16,
            out_channels=16,
            text_dim=8,
            freq_dim=16,
            ffn_dim=16,
            num_layers=1,
            rope_max_seq_len=32,
        ),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    ("more", "total"),
    [({}, 3), ({"ar_step": 2, "causal_block_size": 1}, 7)],
    ids=["all frames together", "frames one after another"],
)
def test_the_frames_of_a_step_with_a_scheduler_each_are_one_video(tmp_path, more, total):
    pipe = skyreels()

    def sample():
        return pipe(
            None,
            prompt_embeds=noise(1, 6, 8),
            guidance_scale=1.0,
            height=32,
            width=48,
            num_frames=9,
            base_num_frames=9,
            num_inference_steps=3,
            output_type="latent",
            generator=torch.Generator().manual_seed(1),
            **more,
        ).frames

    plain = sample()
    with watch(pipe, tmp_path, screen="off", keep_latents=True) as run:
        result = sample()
    assert torch.equal(plain, result)
    assert steps_of(run) == [[(index, total) for index in range(1, total + 1)]]
    assert run.notes == []
    last = SavedRun.open(run.folder).latents(total)
    torch.testing.assert_close(last.denoised, result, rtol=1e-5, atol=1e-5)
    assert last.noisy.shape == result.shape
    sigmas = run.runs[0].run.sampler["sigmas"]
    if more:  # each frame has a noise level of its own
        assert sigmas is None
        assert run.pictures[2].sigma is None
    else:
        assert sigmas[:-1] == pytest.approx([picture.sigma for picture in run.pictures])


def test_a_callback_that_is_never_called_warns(sd1, caplog):
    previews = Previews(sd1, screen="off")
    SD1.run(sd1)
    assert previews.notes == []
    previews.close()
    assert previews.notes == [
        "StableDiffusionPipeline sampled, but the callback was not called: pass it as callback_on_step_end"
    ]
    assert caplog.messages[-1] == previews.notes[0]


@pytest.mark.parametrize("caught", [False, True])
def test_a_call_that_failed_before_its_first_step_gives_no_warning(sd1, caught):
    with suppress(RuntimeError), watch(sd1, screen="off") as run, suppress(RuntimeError if caught else KeyError):
        SD1.run(sd1, prompt_embeds=noise(1, 6, 5))
    assert run.notes == []


def test_an_error_of_ours_at_the_end_of_a_loop_costs_no_image(sd1, monkeypatch, caplog):
    end = WatchedRun.end

    def fail(run, *ended):
        end(run, *ended)
        raise RuntimeError("no thread can be started")

    plain = SD1.run(sd1)
    monkeypatch.setattr(WatchedRun, "end", fail)
    with watch(sd1, screen="off"):
        result = SD1.run(sd1)
    assert np.array_equal(plain, result)
    assert "the end of this loop is not recorded" in caplog.text
    assert has_no_hooks(sd1)
