"""Pipelines that call their scheduler several times in a step, for parts of the latents."""

import diffusers
import pytest
import torch
from safelight.decoders.catalogue import Catalogue
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.crops import Crops, is_crop
from safelight.hosts.diffusers import Previews, watch
from safelight.preview.saved_run import SavedRun
from tiny_models import OLD, noise
from tiny_pipelines import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore")
SD1 = FAMILIES["StableDiffusion"]
STEPS = 3
SCALE = Catalogue().candidates(SPACES["sd1"])[0].card.scale  # of the decoder that auto uses
MORE = {"PNDM": {"skip_prk_steps": True}}


def panorama(sd1, scheduler):
    pipe = diffusers.StableDiffusionPanoramaPipeline(**sd1.components, requires_safety_checker=False)
    pipe.scheduler = scheduler
    pipe.set_progress_bar_config(disable=True)
    pipe.vae_scale_factor = 8
    views = pipe.get_views
    pipe.get_views = lambda height, width, **more: views(height, width, window_size=16, **more)
    return pipe


def sample(pipe, **more):
    return pipe(
        None,
        prompt_embeds=noise(1, 6, 8),
        guidance_scale=1.0,
        height=128,
        width=384,
        num_inference_steps=STEPS,
        output_type="latent",
        generator=torch.Generator().manual_seed(0),
        **more,
    ).images


def expected_states(pipe, **more):
    """Returns the noisy latents after each step."""
    states = []

    def record(pipe, index, timestep, kwargs):
        states.append(kwargs["latents"].clone())
        return kwargs

    sample(pipe, callback_on_step_end=record, **more)
    return states


@pytest.mark.parametrize("name", ["DDIM", "EulerDiscrete", "HeunDiscrete", "PNDM", "DPMSolverMultistep"])
@pytest.mark.parametrize(
    "options", [{}, {"circular_padding": True}, {"view_batch_size": 2}], ids=["plain", "circular", "batch of views"]
)
def test_a_step_of_a_panorama_is_one_picture_of_the_whole(sd1, tmp_path, name, options):
    pipe = panorama(sd1, getattr(diffusers, f"{name}Scheduler")(**OLD, **MORE.get(name, {})))
    plain = sample(pipe, **options)
    states = expected_states(pipe, **options)
    with watch(pipe, tmp_path, screen="off", keep_latents=True) as run:
        result = sample(pipe, **options)
    assert torch.equal(plain, result)
    assert run.notes == []
    total = len(run.pictures)
    assert total == (STEPS + 1 if name == "PNDM" else STEPS)
    assert [picture.index for picture in run.pictures] == list(range(1, total + 1))
    assert {picture.total for picture in run.pictures} == {total}
    assert {picture.pixels.shape[2:4] for picture in run.pictures} == {(SCALE * 16, SCALE * 48)}
    saved = SavedRun.open(run.folder)
    if name != "HeunDiscrete":
        for index in range(2, total + 1):
            assert torch.equal(saved.latents(index).noisy, states[index - 2])


def test_the_estimate_of_a_panorama_is_the_mean_of_the_estimates_of_its_crops(sd1, tmp_path):
    """At the last step of DDIM with set_alpha_to_one, the result is the estimate."""
    pipe = panorama(sd1, diffusers.DDIMScheduler(**OLD, clip_sample=False, set_alpha_to_one=True))
    with watch(pipe, tmp_path, screen="off", keep_latents=True) as run:
        result = sample(pipe)
    torch.testing.assert_close(SavedRun.open(run.folder).latents(STEPS).denoised, result, rtol=1e-4, atol=1e-4)


def test_a_callback_shows_one_picture_of_a_panorama_for_each_step(sd1):
    pipe = panorama(sd1, diffusers.DDIMScheduler(**OLD))
    previews = Previews(pipe, screen="off")
    sample(pipe, callback_on_step_end=previews)
    assert [(picture.index, picture.total) for picture in previews.pictures] == [
        (i, STEPS) for i in range(1, STEPS + 1)
    ]
    assert {picture.pixels.shape[2:4] for picture in previews.pictures} == {(SCALE * 16, SCALE * 48)}
    previews.close()


class Tiles(diffusers.StableDiffusionPipeline):
    """Samples two halves in each step, from a variable of another name."""

    @torch.no_grad()
    def __call__(self, blur=0.0):
        self.scheduler.set_timesteps(STEPS)
        picture = noise(1, 4, 16, 32) * self.scheduler.init_noise_sigma
        if blur:
            latents = picture
        with self.progress_bar(total=STEPS) as bar:
            for t in self.scheduler.timesteps:
                halves = [half + blur for half in picture.chunk(2, -1)]
                outputs = [self.unet(half, t, encoder_hidden_states=noise(1, 6, 8)).sample for half in halves]
                halves = [
                    self.scheduler.step(out, t, half).prev_sample for out, half in zip(outputs, halves, strict=True)
                ]
                picture = latents = torch.cat(halves, -1)
                bar.update()
        return latents


@pytest.mark.parametrize(
    ("blur", "reason"),
    [(0.0, "calls its scheduler several times in each step"), (0.1, "shows only the first part of a step")],
    ids=["unknown whole", "unknown places"],
)
def test_parts_that_cannot_be_put_together_are_said_to_be_parts(sd1, blur, reason):
    pipe = Tiles(**sd1.components, requires_safety_checker=False)
    pipe.scheduler = diffusers.DDIMScheduler(**OLD)
    plain = pipe(blur)
    with watch(pipe, screen="off") as run:
        result = pipe(blur)
    assert torch.equal(plain, result)
    assert [(picture.index, picture.total) for picture in run.pictures] == [(i, STEPS) for i in range(1, STEPS + 1)]
    assert any(reason in note for note in run.notes)


class OneAfterAnother(diffusers.StableDiffusionPipeline):
    """Samples two images in one loop, each with the whole schedule."""

    @torch.no_grad()
    def __call__(self):
        with self.progress_bar(total=2 * STEPS) as bar:
            for seed in (1, 2):
                self.scheduler.set_timesteps(STEPS)
                part = noise(1, 4, 16, 16, seed=seed) * self.scheduler.init_noise_sigma
                for t in self.scheduler.timesteps:
                    output = self.unet(part, t, encoder_hidden_states=noise(1, 6, 8)).sample
                    part = self.scheduler.step(output, t, part).prev_sample
                    bar.update()
        return part


@pytest.mark.parametrize("name", ["DPMSolverMultistep", "EulerDiscrete"])
def test_a_loop_that_samples_again_counts_on(sd1, name):
    pipe = OneAfterAnother(**sd1.components, requires_safety_checker=False)
    pipe.scheduler = getattr(diffusers, f"{name}Scheduler")(**OLD)
    with watch(pipe, screen="off") as run:
        pipe()
    total = 2 * STEPS
    assert [(picture.index, picture.total) for picture in run.pictures] == [(i, total) for i in range(1, total + 1)]
    assert run.notes[0].startswith("the pipeline samples several times in one loop")


def test_parts_are_smaller_in_time_height_or_width_only():
    whole = torch.zeros(1, 4, 3, 16, 24)
    for shape in ((2, 4, 3, 16, 16), (1, 4, 2, 16, 24), (1, 4, 1, 8, 24)):
        assert is_crop(torch.zeros(shape), whole, (2, 3, 4))
    for shape in ((1, 4, 3, 16, 24), (1, 4, 3, 32, 16), (1, 8, 3, 16, 16), (1, 16, 16)):
        assert not is_crop(torch.zeros(shape), whole, (2, 3, 4))
    assert not is_crop(torch.zeros(1, 16, 4), torch.zeros(1, 32, 4), ())
    assert not is_crop(torch.zeros(1, 3, 16, 24, 16), torch.zeros(1, 3, 16, 24, 33), (1, 2, 3))


def test_a_crop_is_found_at_its_place_and_wraps_around():
    whole = noise(2, 4, 6, 8)
    crops = Crops(whole, (2, 3), 1, None, 1.0)
    wrapped = torch.cat((whole[1:, :, 2:5, 6:], whole[1:, :, 2:5, :2]), -1)
    assert crops.add(wrapped, wrapped + 1)
    x0 = crops.x0()
    expected = whole.clone()
    expected[1:, :, 2:5, [6, 7, 0, 1]] += 1
    torch.testing.assert_close(x0, expected)
    assert not crops.add(noise(1, 4, 3, 4, seed=9), wrapped)


@pytest.mark.parametrize(("axes", "order"), [((2, 3, 4), (0, 1, 2, 3, 4)), ((1, 3, 4), (0, 2, 1, 3, 4))])
def test_a_part_of_a_video_is_found_at_its_place(axes, order):
    """Latents `[B, C, T, H, W]` and `[B, T, C, H, W]`."""
    video = noise(2, 4, 3, 6, 8)
    crops = Crops(video.permute(order), axes, 1, None, 1.0)
    part = video[1:, :, 1:, :4, 2:6].permute(order)
    assert crops.add(part, part + 1)
    expected = video.clone()
    expected[1:, :, 1:, :4, 2:6] += 1
    torch.testing.assert_close(crops.x0(), expected.permute(order))
    assert crops.noisy.shape == crops.x0().shape
