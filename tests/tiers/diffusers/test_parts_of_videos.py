"""Pipelines whose scheduler calls are a part of a step, of the video or of the image: one picture for each step."""

from contextlib import nullcontext
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safelight.hosts.diffusers import watch
from safelight.preview.saved_run import SavedRun
from tiny_models import OLD, flow, hunyuan_video, ltx, noise, ones, wan_vae

from ... import older

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 3


class Denoiser(torch.nn.Module):
    """Stands for a large transformer."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, **config):
        super().__init__()
        self.config = SimpleNamespace(in_channels=16, patch_size=(1, 2, 2), **config)

    def cache_context(self, _):
        return nullcontext()

    def build_attention_mask(self, *_, **__):
        return None

    def forward(self, hidden_states, encoder_hidden_states=None, **_):
        return ((hidden_states * 3).sin() * 0.3 + encoder_hidden_states.mean(), None)


def generator():
    return torch.Generator().manual_seed(0)


def needs(*names):
    missing = [name for name in names if not hasattr(diffusers, name)]
    older.expect(not missing, "diffusers", diffusers.__version__, ", ".join(missing))


def watched(pipe, sample, tmp_path):
    """Returns the result of `sample`, which is the same without previews, and its runs."""
    pipe.set_progress_bar_config(disable=True)
    plain = sample()
    with watch(pipe, tmp_path, screen="off", keep_latents=True) as run:
        result = sample()
    assert torch.equal(plain, result)
    return result, run.runs


def steps_of(run):
    return [(picture.index, picture.total) for picture in run.pictures]


def last_latents(run):
    return SavedRun.open(run.folder).latents(run.pictures[-1].index)


def test_the_given_first_frame_of_a_video_is_part_of_its_pictures(tmp_path):
    """The scheduler gets the other frames only."""
    pipe = diffusers.LTXImageToVideoPipeline(**ltx(), text_encoder=None, tokenizer=None)
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8))

    def sample():
        arguments = {"prompt_embeds": noise(1, 6, 8), "prompt_attention_mask": ones(1, 6), "guidance_scale": 1.0}
        sizes = {"height": 64, "width": 96, "num_frames": 9, "num_inference_steps": STEPS}
        return pipe(image=image, **arguments, **sizes, output_type="latent", generator=generator()).frames

    result, (run,) = watched(pipe, sample, tmp_path)
    assert steps_of(run) == [(index, STEPS) for index in range(1, STEPS + 1)]
    last = last_latents(run)
    expected = pipe._unpack_latents(result, 3, 16, 24, 1, 1)
    torch.testing.assert_close(last.denoised, expected, rtol=1e-3, atol=1e-3)
    assert run.notes == []


def test_channels_that_are_a_condition_are_no_part_of_the_video(tmp_path):
    """Kandinsky 5 gives its scheduler the first 16 of 33 channels, which come last."""
    needs("Kandinsky5T2VPipeline")
    torch.manual_seed(0)
    parts = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    transformer = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=16,
        in_text_dim=8,
        in_text_dim2=8,
        time_dim=8,
        out_visual_dim=16,
        patch_size=(1, 2, 2),
        model_dim=16,
        ff_dim=16,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(4, 4, 8),
        visual_cond=True,
    )
    pipe = diffusers.Kandinsky5T2VPipeline(
        transformer=transformer, vae=hunyuan_video()["vae"], scheduler=flow(), **parts
    )

    def sample():
        return pipe(
            height=32,
            width=48,
            num_frames=9,
            num_inference_steps=STEPS,
            guidance_scale=1.0,
            prompt_embeds_qwen=noise(1, 6, 8),
            prompt_embeds_clip=noise(1, 8),
            prompt_cu_seqlens=torch.tensor([0, 6], dtype=torch.int32),
            output_type="latent",
            generator=generator(),
        ).frames

    result, (run,) = watched(pipe, sample, tmp_path)
    assert steps_of(run) == [(index, STEPS) for index in range(1, STEPS + 1)]
    expected = result.permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(last_latents(run).denoised, expected, rtol=1e-4, atol=1e-4)


def test_of_two_calls_in_a_step_the_one_that_takes_the_step_is_shown(tmp_path):
    """The first call of Cosmos makes estimates with and without the prompt, which are two items of a batch."""

    class Safety(torch.nn.Module):
        dtype, device = torch.float32, torch.device("cpu")

        def check_text_safety(self, *_):
            return True

        def check_video_safety(self, video):
            return video

    vae = diffusers.AutoencoderKLCosmos(
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,),
        resolution=64,
        num_layers=1,
        scaling_factor=1.0,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
    )
    pipe = diffusers.CosmosTextToWorldPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=Denoiser(),
        vae=vae,
        scheduler=diffusers.EDMEulerScheduler(final_sigmas_type="zero"),
        safety_checker=Safety(),
    )

    def sample():
        embeddings = {"prompt_embeds": noise(1, 6, 8), "negative_prompt_embeds": noise(1, 6, 8, seed=6)}
        sizes = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": STEPS}
        return pipe(**embeddings, **sizes, guidance_scale=3.0, output_type="latent", generator=generator()).frames

    result, (run,) = watched(pipe, sample, tmp_path)
    assert steps_of(run) == [(index, STEPS) for index in range(1, STEPS + 1)]
    assert run.notes == []
    torch.testing.assert_close(last_latents(run).denoised, result, rtol=1e-4, atol=1e-4)


def test_sections_of_a_video_are_runs_that_say_so(tmp_path):
    """Without a progress bar of the pipeline."""
    needs("AnyFlowFARPipeline", "FlowMapEulerDiscreteScheduler")
    config = {"num_layers": 0, "num_attention_heads": 1, "attention_head_dim": 4, "chunk_partition": [1, 2]}
    config |= {"compressed_patch_size": (1, 2, 2), "full_chunk_limit": 2, "compressed_chunk_limit": 2}
    pipe = diffusers.AnyFlowFARPipeline(
        tokenizer=None,
        text_encoder=None,
        transformer=Denoiser(**config),
        vae=wan_vae(),
        scheduler=diffusers.FlowMapEulerDiscreteScheduler(),
    )

    def sample():
        sizes = {"height": 32, "width": 32, "num_frames": 9, "num_inference_steps": STEPS}
        arguments = {"guidance_scale": 1.0, "output_type": "latent"}
        return pipe(prompt_embeds=noise(1, 6, 8), **sizes, **arguments, generator=generator()).frames

    result, runs = watched(pipe, sample, tmp_path)
    assert [steps_of(run) for run in runs] == [[(index, STEPS) for index in range(1, STEPS + 1)]] * 2
    sections = [last_latents(run).denoised for run in runs]
    torch.testing.assert_close(torch.cat(sections, 2), result, rtol=1e-4, atol=1e-4)
    assert all(run.notes[0].startswith("the pipeline samples its video in sections") for run in runs)


@pytest.mark.parametrize("distilled", [False, True])
def test_stages_of_growing_size_are_steps_of_one_run(tmp_path, distilled):
    needs("HeliosPyramidPipeline")
    kind = diffusers.HeliosDMDScheduler if distilled else diffusers.HeliosScheduler
    pipe = diffusers.HeliosPyramidPipeline(None, None, wan_vae(), kind(stages=3), Denoiser())
    pipe.register_to_config(is_distilled=distilled)

    def sample():
        embeddings = {"prompt_embeds": noise(1, 6, 8), "negative_prompt_embeds": noise(1, 6, 8)}
        sizes = {"height": 128, "width": 128, "num_frames": 9, "pyramid_num_inference_steps_list": [2, 2, 2]}
        return pipe(**embeddings, **sizes, guidance_scale=1.0, output_type="latent", generator=generator()).frames

    result, (run,) = watched(pipe, sample, tmp_path)
    assert steps_of(run) == [(index, 6) for index in range(1, 7)]
    assert [picture.pixels.shape[2] for picture in run.pictures] == [4, 4, 8, 8, 16, 16]
    torch.testing.assert_close(last_latents(run).denoised, result, rtol=1e-4, atol=1e-4)
    sigmas = [picture.sigma for picture in run.pictures]
    assert run.run.sampler["sigmas"][:-1] == pytest.approx(sigmas)
    assert sigmas[::2] == pytest.approx([1, 0.8, 0.5], abs=2e-3)  # the levels at which the stages begin


def test_the_loops_of_a_pipeline_for_single_frames_say_what_they_show(sd1, tmp_path):
    """TextToVideoZero samples the first frame in two loops, and then all frames from the second loop's begin."""
    parts = {name: part for name, part in sd1.components.items() if name != "image_encoder"}
    parts["scheduler"] = diffusers.DDIMScheduler(**OLD, clip_sample=False)
    pipe = diffusers.TextToVideoZeroPipeline(**parts, requires_safety_checker=False)
    pipe.encode_prompt = lambda *_, **__: (noise(1, 6, 8), noise(1, 6, 8))

    def sample():
        sizes = {"video_length": 3, "height": 32, "width": 48, "num_inference_steps": 8, "t0": 2, "t1": 4}
        return torch.as_tensor(pipe("x", **sizes, output_type="latent", generator=generator()).images)

    result, runs = watched(pipe, sample, tmp_path)
    assert [steps_of(run) for run in runs] == [[(i, total) for i in range(1, total + 1)] for total in (3, 2, 5)]
    assert [tuple(last_latents(run).denoised.shape) for run in runs] == [(1, 4, frames, 16, 24) for frames in (1, 1, 3)]
    assert all("samples the first frame in two loops" in run.notes[0] for run in runs)
    final = last_latents(runs[-1]).denoised[0].transpose(0, 1)
    torch.testing.assert_close(final, result, rtol=1e-3, atol=1e-3)
    # Each loop takes its part of the schedule.
    levels = [[picture.sigma for picture in run.pictures] for run in runs]
    assert levels[1] == pytest.approx(levels[2][:2])
    for run, sigmas, following in zip(runs, levels, (levels[1][0], levels[2][2], 0.0), strict=True):
        assert run.run.sampler["sigmas"] == pytest.approx([*sigmas, following])


class Inverting(diffusers.StableDiffusionPipeline):
    """Has one scheduler that adds noise, and one that samples."""

    @torch.no_grad()
    def invert(self):
        latents = noise(1, 4, 16, 24)
        self.inverse_scheduler.set_timesteps(STEPS)
        for t in self.progress_bar(self.inverse_scheduler.timesteps):
            output = self.unet(latents, t, encoder_hidden_states=noise(1, 6, 8)).sample
            latents = self.inverse_scheduler.step(output, t, latents).prev_sample
        return latents


def test_the_loop_of_another_scheduler_of_the_pipeline_is_watched(sd1, tmp_path):
    pipe = Inverting(**sd1.components, requires_safety_checker=False)
    pipe.inverse_scheduler = diffusers.DDIMInverseScheduler(**OLD, clip_sample=False)
    _, (run,) = watched(pipe, pipe.invert, tmp_path)
    assert steps_of(run) == [(index, STEPS) for index in range(1, STEPS + 1)]
    assert run.run.sampler["name"] == "DDIMInverse"
    sigmas = run.run.sampler["sigmas"]
    assert sigmas == sorted(sigmas)
    assert sigmas[:-1] == pytest.approx([picture.sigma for picture in run.pictures])
    assert "step" not in vars(pipe.inverse_scheduler)


class WithPrior(diffusers.StableDiffusionPipeline):
    """Samples an embedding first, with a scheduler of its own."""

    @torch.no_grad()
    def __call__(self, sample=True):
        embedding = noise(1, 8)
        self.prior_scheduler.set_timesteps(STEPS)
        for t in self.progress_bar(self.prior_scheduler.timesteps):
            embedding = self.prior_scheduler.step(embedding / 2, t, embedding).prev_sample
        latents = noise(1, 4, 16, 24)
        self.scheduler.set_timesteps(STEPS)
        for t in self.progress_bar(self.scheduler.timesteps if sample else []):
            latents = self.scheduler.step(latents / 2, t, latents).prev_sample
        return latents


def test_embeddings_are_no_picture(sd1, tmp_path):
    pipe = WithPrior(**sd1.components, requires_safety_checker=False)
    pipe.prior_scheduler = diffusers.UnCLIPScheduler()
    _, (run,) = watched(pipe, pipe, tmp_path)
    assert steps_of(run) == [(index, STEPS) for index in range(1, STEPS + 1)]
    assert run.notes == []


def test_without_a_picture_the_warning_says_what_was_sampled(sd1):
    pipe = WithPrior(**sd1.components, requires_safety_checker=False)
    pipe.prior_scheduler = diffusers.UnCLIPScheduler()
    pipe.scheduler = pipe.prior_scheduler
    with watch(pipe, screen="off") as run:
        for _ in pipe.progress_bar(range(1)):
            pipe.scheduler.set_timesteps(2)
            pipe.scheduler.step(noise(1, 8), pipe.scheduler.timesteps[0], noise(1, 8))
    assert run.notes == ["WithPrior sampled no latents of a picture but tokens or embeddings, so there is no run"]


def test_a_pipeline_without_a_scheduler_of_that_name_is_watched(sd1, tmp_path):
    pipe = Inverting(**sd1.components, requires_safety_checker=False)
    pipe.decoder_scheduler, pipe.inverse_scheduler = diffusers.UnCLIPScheduler(), pipe.scheduler
    del pipe.scheduler
    _, (run,) = watched(pipe, pipe.invert, tmp_path)
    assert steps_of(run) == [(index, STEPS) for index in range(1, STEPS + 1)]
