"""Copies of pipelines, pipelines in pipelines, and sampler calls that nothing was heard of."""

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
from tiny_pipelines import FAMILIES, OLD, STEPS, noise, wan_vae

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


# Nothing heard


def test_an_older_copy_is_not_heard_and_the_user_is_warned(sd1, caplog):
    older = request(sd1)
    with watch(sd1, screen="off") as run:
        SD1.run(older)
        assert run.notes == []
    (note,) = run.notes
    assert note == caplog.messages[-1]
    assert "no sampler call of StableDiffusionPipeline was seen in this block, so there is no run" in note
    assert "an older copy or one of from_pipe(), watch that one" in note


def test_a_loop_that_uses_copies_of_the_scheduler_is_not_heard_and_the_user_is_warned(caplog):
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
    with watch(pipe, screen="off") as run:
        pipe(
            None,
            prompt_embeds=noise(1, 6, 8),
            guidance_scale=1.0,
            height=32,
            width=48,
            num_frames=9,
            base_num_frames=9,
            num_inference_steps=3,
            output_type="latent",
        )
    assert run.runs == []
    (note,) = run.notes
    assert note == caplog.messages[-1]
    assert note.startswith("SkyReelsV2DiffusionForcingPipeline sampled, but did not call its own scheduler")
    assert "safelight.recording" in note


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

    def fail(run, state, error):
        end(run, state, error)
        raise RuntimeError("no thread can be started")

    plain = SD1.run(sd1)
    monkeypatch.setattr(WatchedRun, "end", fail)
    with watch(sd1, screen="off"):
        result = SD1.run(sd1)
    assert np.array_equal(plain, result)
    assert "the end of this loop is not recorded" in caplog.text
    assert has_no_hooks(sd1)
