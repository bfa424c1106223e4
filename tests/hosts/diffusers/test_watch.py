"""A pipeline that is watched: as it was before, after, and whatever happens in between."""

import copy
import gc
import json
import weakref
from contextlib import suppress
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image
from safelight.cli import demo_sampler
from safelight.decoders.decoder import to_bytes
from safelight.decoders.files import shipped as shipped_module
from safelight.decoders.files.shipped import open_shipped
from safelight.errors import OptionError, RunError, UnknownDecoderError, UnknownSpaceError
from safelight.hosts.diffusers import Options, Previews, watch
from safelight.preview.manifest import read_manifest
from safelight.preview.sinks.base import Delivery, RunScreen, Sink
from tiny_pipelines import FAMILIES, OLD, STEPS, cogvideox, kl, noise, wan_transformer

pytestmark = pytest.mark.filterwarnings("ignore")
SD1 = FAMILIES["StableDiffusion"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def untouched(pipe):
    return "progress_bar" not in vars(pipe) and "step" not in vars(pipe.scheduler)


class Watcher(Sink):
    """Takes down what it is told."""

    name = "watcher"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self, fail=False):
        self.told, self.fail = [], fail

    def open(self):
        self.told.append("open")

    def show(self, picture):
        if self.fail:
            raise OSError("no screen")
        self.told.append(picture.index)

    def close(self, state):
        self.told.append(state)


# What comes of it


def test_a_run_leaves_a_folder_that_the_page_opens(sd1, tmp_path):
    with watch(sd1, tmp_path / "runs", screen="off") as run:
        SD1.run(sd1)
    assert run.folder == tmp_path / "runs" / "steps_00001"
    steps = [f"step_{i:04d}.png" for i in range(1, STEPS + 1)]
    assert names(run.folder) == ["index.html", "run.json", "sheet.png", *steps, "steps.webp"]
    manifest = json.loads((run.folder / "run.json").read_text())
    assert manifest == run.manifest()
    read_manifest(run.folder)
    assert manifest["host"]["name"] == "diffusers"
    assert manifest["host"]["version"] == diffusers.__version__
    assert manifest["sampler"]["steps"] == STEPS
    assert manifest["sampler"]["name"] == "EulerDiscrete"
    assert len(manifest["sampler"]["sigmas"]) == STEPS + 1
    assert manifest["sampler"]["sigmas"][:-1] == pytest.approx([step["sigma"] for step in manifest["steps"]])


def test_without_a_folder_nothing_is_written_and_pictures_are_there(sd1, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with watch(sd1, screen="off") as run:
        assert (run.folder, run.manifest(), list(run.pictures), run.notes, run.sampling) == (None, None, [], [], False)
        SD1.run(sd1)
    assert (run.folder, run.manifest(), len(run.pictures)) == (None, None, STEPS)
    assert names(tmp_path) == []


def test_pictures_come_while_it_samples(sd1):
    seen, screen = [], Watcher()

    def look(pipe, index, timestep, kwargs):
        seen.append(run.sampling)
        return kwargs

    with watch(sd1, screen=screen) as run:
        SD1.run(sd1, callback_on_step_end=look)
    assert seen == [True] * STEPS
    assert screen.told[0] == "open"
    assert screen.told[-2:] == [STEPS, "finished"]


def test_every_call_in_the_block_is_a_run_and_none_after_it(sd1, tmp_path):
    made = []
    with watch(sd1, tmp_path, screen=lambda: made.append(Watcher()) or made[-1], filename_prefix="deep/mine") as run:
        SD1.run(sd1)
        sd1.scheduler = diffusers.DDIMScheduler.from_config(sd1.scheduler.config)
        SD1.run(sd1)
    SD1.run(sd1)
    assert [one.folder.name for one in run.runs] == ["mine_00001", "mine_00002"]
    assert [one.run.sampler["name"] for one in run.runs] == ["EulerDiscrete", "DDIM"]
    assert names(tmp_path / "deep") == ["mine_00001", "mine_00002"]
    assert [len(one.pictures) for one in run.runs] == [STEPS, STEPS]
    assert len(made) == 2
    assert untouched(sd1)


def test_of_many_calls_the_pictures_of_the_newest_stay_in_memory(sd1):
    with watch(sd1, screen="off", memory=2) as run:
        for _ in range(9):
            SD1.run(sd1, num_inference_steps=3, output_type="latent")
    assert [len(one.pictures) for one in run.runs] == [0] + [2] * 8
    assert [picture.index for picture in run.pictures] == [2, 3]


@pytest.mark.parametrize(("every", "expected"), [(2, [1, 3, 4]), (3, [1, 4]), (5, [1, 4])])
def test_of_every_nth_step_the_last_one_is_there_always(sd1, every, expected):
    with watch(sd1, screen="off", every_n_steps=every) as run:
        SD1.run(sd1)
    assert [picture.index for picture in run.pictures] == expected


def test_what_the_sampler_works_on_can_be_looked_at(sd1):
    with watch(sd1, screen="off", show="noisy") as run:
        SD1.run(sd1)
    assert [picture.show for picture in run.pictures] == ["noisy"] * STEPS


@pytest.mark.parametrize(
    ("batch", "files", "items"),
    [
        ("grid", ["step_0001.png"], 2),
        ("first", ["step_0001.png"], 1),
        ("all files", ["step_0001_item_01.png", "step_0001_item_02.png"], 2),
    ],
)
def test_a_batch_becomes_what_was_asked_for(sd1, tmp_path, batch, files, items):
    with watch(sd1, tmp_path, screen="off", batch=batch) as run:
        SD1.run(sd1, num_images_per_prompt=2)
    assert run.manifest()["steps"][0]["files"] == files
    assert {picture.pixels.shape[0] for picture in run.pictures} == {items}


def test_files_are_as_they_were_asked_for(sd1, tmp_path):
    with watch(sd1, tmp_path, screen="off", file_format="webp", enlarge="nearest", sheet=False, animation="off") as run:
        SD1.run(sd1)
    assert names(run.folder) == ["index.html", "run.json", *(f"step_{i:04d}.webp" for i in range(1, STEPS + 1))]
    with Image.open(run.folder / "step_0001.webp") as image:
        assert image.size == (24 * 8, 16 * 8)


def test_a_video_moves_at_the_speed_of_its_models(make, tmp_path):
    family, pipe = make("Wan")
    with watch(pipe, tmp_path, screen="off", frames="animated") as run:
        family.run(pipe)
    assert {picture.pixels.shape[1] for picture in run.pictures} == {3}
    with Image.open(run.folder / "step_0001.webp") as image:
        assert image.n_frames == 3


def test_of_a_video_each_frame_can_be_a_file(make, tmp_path):
    family, pipe = make("Wan")
    with watch(pipe, tmp_path, screen="off", frames="all files", animation_from_step=2, animation_to_step=3) as run:
        family.run(pipe)
    assert names(run.folder / "step_0001") == ["frame_0001.png", "frame_0002.png", "frame_0003.png"]
    with Image.open(run.folder / "steps.webp") as image:
        assert image.n_frames == 2


def test_a_pipeline_that_says_its_frame_rate_is_believed(make):
    family, pipe = make("LTX")
    with watch(pipe, screen="off", frames="animated") as run:
        family.run(pipe, frame_rate=10)
    assert run.pictures[-1].fps == pytest.approx(10 / 8)  # a frame of the latents is eight of the video


# Schedulers, and pipelines with ways of their own

SCHEDULERS = {
    "DDIM": {},
    "DDPM": {},
    "PNDM": {"skip_prk_steps": True},
    "HeunDiscrete": {},
    "KDPM2Discrete": {},
    "KDPM2AncestralDiscrete": {},
    "EulerAncestralDiscrete": {},
    "DPMSolverMultistep": {},
    "DPMSolverSinglestep": {},
    "DEISMultistep": {},
    "UniPCMultistep": {},
    "SASolver": {},
    "LCM": {},
    "TCD": {},
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_any_scheduler_is_shown_step_by_step_and_makes_the_same_picture(sd1, name):
    sd1.scheduler = getattr(diffusers, f"{name}Scheduler")(**OLD, **SCHEDULERS[name])
    torch.manual_seed(8)
    plain, rng = SD1.run(sd1, guidance_scale=2.0, negative_prompt_embeds=noise(1, 6, 8)), torch.get_rng_state()
    torch.manual_seed(8)
    with watch(sd1, screen="off") as run:
        result = SD1.run(sd1, guidance_scale=2.0, negative_prompt_embeds=noise(1, 6, 8))
    assert np.array_equal(plain, result)
    assert torch.equal(rng, torch.get_rng_state())
    looks = STEPS + 1 if name == "PNDM" else STEPS
    assert [(p.index, p.total, p.show) for p in run.pictures] == [(i + 1, looks, "denoised") for i in range(looks)]
    assert run.notes == []
    sigmas = run.runs[0].run.sampler["sigmas"]
    if sigmas is not None:
        assert sigmas[:-1] == pytest.approx([picture.sigma for picture in run.pictures], abs=1e-4)


def test_x0_is_what_the_models_output_makes_it(sd1, tmp_path, monkeypatch):
    """Guided, by the formula of https://arxiv.org/abs/2010.02502 (12), from what goes in and out of the UNet."""
    scheduler = diffusers.DDIMScheduler(**OLD, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    sd1.scheduler = scheduler
    expected = []

    def hook(module, args, kwargs, output):
        sample, timestep = args[:2] if len(args) > 1 else (args[0], kwargs["timestep"])
        without, with_ = output[0].chunk(2)
        kept = scheduler.alphas_cumprod[int(timestep)]
        noise_ = without + 3.0 * (with_ - without)
        expected.append((sample.chunk(2)[0] - (1 - kept) ** 0.5 * noise_) / kept**0.5)

    handle = sd1.unet.register_forward_hook(hook, with_kwargs=True)
    try:
        with watch(sd1, tmp_path, screen="off", keep_latents=True) as run:
            SD1.run(sd1, guidance_scale=3.0, negative_prompt_embeds=noise(1, 6, 8))
    finally:
        handle.remove()
    from safelight.preview.saved_run import SavedRun

    saved = SavedRun.open(run.folder)
    assert len(expected) == STEPS
    for index, x0 in enumerate(expected, 1):
        torch.testing.assert_close(saved.latents(index).denoised, x0, rtol=1e-4, atol=1e-4)


def test_of_an_image_to_image_only_what_is_sampled_counts(sd1):
    pipe = diffusers.StableDiffusionImg2ImgPipeline(**sd1.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    how = {"prompt_embeds": noise(1, 6, 8), "guidance_scale": 1.0, "num_inference_steps": 8, "output_type": "np"}
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))

    def sample():
        return pipe(image=image, strength=0.5, generator=torch.Generator().manual_seed(2), **how).images

    plain = sample()
    with watch(pipe, screen="off") as run:
        result = sample()
    assert np.array_equal(plain, result)
    assert [(picture.index, picture.total) for picture in run.pictures] == [(i, 4) for i in range(1, 5)]
    assert run.runs[0].run.sampler["sigmas"][:-1] == pytest.approx([picture.sigma for picture in run.pictures])


def test_a_base_and_its_refiner_are_watched_one_by_one(make):
    family, pipe = make("StableDiffusionXL")
    with watch(pipe, screen="off") as run:
        family.run(pipe, denoising_end=0.5, output_type="latent", num_inference_steps=8)
    assert 1 < len(run.pictures) < 8
    assert run.pictures[-1].index == run.pictures[-1].total


def test_two_experts_are_one_run(make):
    family, pipe = make("Wan")
    both = diffusers.WanPipeline(**{**pipe.components, "transformer_2": wan_transformer()}, boundary_ratio=0.6)
    both.set_progress_bar_config(disable=True)
    plain = family.run(both)
    with watch(both, screen="off") as run:
        result = family.run(both)
    assert np.array_equal(plain, result)
    assert [(picture.index, picture.total) for picture in run.pictures] == [(i, STEPS) for i in range(1, STEPS + 1)]
    assert len(run.runs) == 1


def test_a_flow_of_second_order_is_shown_once_a_step(make):
    family, pipe = make("StableDiffusion3")
    scheduler, pipe.scheduler = pipe.scheduler, diffusers.FlowMatchHeunDiscreteScheduler()
    try:
        with watch(pipe, screen="off") as run:
            family.run(pipe)
    finally:
        pipe.scheduler = scheduler
    assert [(picture.index, picture.total) for picture in run.pictures] == [(i, STEPS) for i in range(1, STEPS + 1)]


def test_the_multistep_scheduler_of_cogvideox_is_understood(make):
    family, _ = make("CogVideoX")
    pipe = cogvideox("CogVideoXDPMScheduler")
    pipe.set_progress_bar_config(disable=True)
    plain = family.run(pipe)
    with watch(pipe, screen="off") as run:
        result = family.run(pipe)
    assert np.array_equal(plain, result)
    assert [picture.show for picture in run.pictures] == ["denoised"] * STEPS


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (32, 96), (96, 32), (64, 80), (48, 48)])
def test_tokens_are_laid_as_high_and_as_wide_as_the_picture(make, size):
    family, pipe = make("Flux")
    height, width = size
    with watch(pipe, screen="off") as run:
        family.run(pipe, height=height, width=width)
    assert run.pictures[-1].pixels.shape[2:4] == (height // 2, width // 2)
    assert run.notes == []


# Nothing is left, nothing is in the way


class OopsError(Exception):
    pass


def test_an_exception_leaves_the_pipeline_as_it_was(sd1, tmp_path):
    def fail(pipe, index, timestep, kwargs):
        if index == 1:
            raise OopsError("of the user's own")
        return kwargs

    with pytest.raises(OopsError), watch(sd1, tmp_path, screen="off") as run:
        SD1.run(sd1, callback_on_step_end=fail)
    assert untouched(sd1)
    assert run.runs[0].state == run.manifest()["state"] == "failed"
    assert run.notes == ["the pipeline failed: OopsError: of the user's own"]
    assert [picture.index for picture in run.pictures] == [1, 2]
    assert {"step_0002.png", "sheet.png", "steps.webp"} <= set(names(run.folder))


def test_an_exception_that_is_caught_in_the_block_ends_its_run_alone(sd1):
    def fail(*_):
        raise OopsError

    with watch(sd1, screen="off") as run:
        with pytest.raises(OopsError):
            SD1.run(sd1, callback_on_step_end=fail)
        assert "step" not in vars(sd1.scheduler)
        SD1.run(sd1)
    assert [one.state for one in run.runs] == ["failed", "finished"]


def test_a_call_that_never_samples_is_no_run(sd1, tmp_path):
    with pytest.raises(ValueError, match="divisible by 8"), watch(sd1, tmp_path / "runs", screen="off") as run:
        SD1.run(sd1, height=33)
    assert (run.runs, run.folder) == ([], None)
    assert not (tmp_path / "runs").exists()
    assert untouched(sd1)


def test_the_interrupt_of_the_keyboard_is_an_interrupt(sd1):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watch(sd1, screen="off") as run:
        SD1.run(sd1, callback_on_step_end=stop)
    assert run.runs[0].state == "interrupted"
    assert untouched(sd1)


def test_the_users_callback_goes_on_with_all_it_may_do(sd1):
    def halve(pipe, index, timestep, kwargs):
        return {"latents": kwargs["latents"] / 2}

    plain = SD1.run(sd1, callback_on_step_end=halve)
    with watch(sd1, screen="off") as run:
        result = SD1.run(sd1, callback_on_step_end=halve)
    assert np.array_equal(plain, result)
    assert not np.array_equal(plain, SD1.run(sd1))
    assert len(run.pictures) == STEPS


def test_watched_twice_it_is_shown_twice(sd1):
    with watch(sd1, screen="off") as outer, watch(sd1, screen="off") as inner:
        result = SD1.run(sd1)
    assert np.array_equal(result, SD1.run(sd1))
    assert len(outer.pictures) == len(inner.pictures) == STEPS
    assert untouched(sd1)


def test_a_copy_of_the_scheduler_made_while_it_samples_is_its_own(sd1):
    copies = []

    def copied(pipe, index, timestep, kwargs):
        copies.append(copy.deepcopy(pipe.scheduler))
        before = pipe.scheduler.step_index
        if index + 1 < STEPS:
            copies[-1].step(torch.zeros(1, 4, 16, 24), pipe.scheduler.timesteps[index + 1], kwargs["latents"])
            assert copies[-1].step_index == before + 1
        assert pipe.scheduler.step_index == before
        return kwargs

    plain = SD1.run(sd1)
    with watch(sd1, screen="off") as run:
        result = SD1.run(sd1, callback_on_step_end=copied)
    assert np.array_equal(plain, result)
    assert len(run.pictures) == STEPS


def test_a_pipeline_is_not_kept_alive(sd1):
    pipe = diffusers.StableDiffusionPipeline(**sd1.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    with watch(pipe, screen="off") as run:
        SD1.run(pipe)
    assert len(run.pictures) == STEPS
    seen = weakref.ref(pipe)
    del pipe, run
    gc.collect()
    assert seen() is None


@pytest.mark.parametrize("where", ["recover", "family_of", "create_numbered_folder"])
def test_a_fault_of_ours_costs_previews_alone(sd1, tmp_path, monkeypatch, where):
    from safelight.hosts import x0
    from safelight.hosts.diffusers import watched_run

    plain = SD1.run(sd1)
    with watch(sd1, tmp_path, screen="off") as run:
        monkeypatch.setattr(x0 if where == "recover" else watched_run, where, lambda *_: 1 / 0)
        result = SD1.run(sd1)
    assert np.array_equal(plain, result)
    assert untouched(sd1)
    if where == "recover":  # what the sampler works on is still there
        assert [picture.show for picture in run.pictures] == ["noisy"] * STEPS
    else:
        assert "this run goes on without previews: ZeroDivisionError" in run.notes[0]


def test_a_screen_that_fails_is_told_of_and_nothing_else(sd1):
    with watch(sd1, screen=Watcher(fail=True)) as run:
        SD1.run(sd1)
    assert run.notes == ["watcher failed: OSError: no screen"]
    assert len(run.pictures) == STEPS


def test_a_screen_that_cannot_be_made_is_told_of(sd1):
    def none():
        raise OopsError("no display")

    with watch(sd1, screen=none) as run:
        SD1.run(sd1)
    assert run.notes == ["nothing is shown on a screen: OopsError: no display"]


def test_a_folder_that_cannot_be_made_is_told_of(sd1, tmp_path):
    (tmp_path / "file").write_text("in the way")
    plain = SD1.run(sd1)
    with watch(sd1, tmp_path / "file", screen="off") as run:
        result = SD1.run(sd1)
    assert np.array_equal(plain, result)
    assert "run.json could not be opened" in run.notes[0]
    assert len(run.pictures) == STEPS


def test_a_screen_that_follows_a_run_is_told_whose_it_is_and_how_to_stop_it(sd1):
    class Following(Watcher, RunScreen):
        def follow(self, run, stop):
            self.told.append(("follow", run.space, stop is not None))

    screen = Following()
    with watch(sd1, screen=screen) as run:
        SD1.run(sd1)
    assert screen.told[:2] == [("follow", "sd1", True), "open"]
    assert len(run.pictures) == STEPS


def test_a_real_picture_comes_out_of_the_noise_upright_and_in_its_colours(make, monkeypatch):
    """FLUX.2's pipeline with the demo's exact denoiser in place of its model; wider than high."""
    _, pipe = make("Flux2")
    latents = demo_sampler.load_latents()
    height, width = latents.shape[2] - 40, latents.shape[3] - 16
    denoise = demo_sampler.ExactDenoiser(latents, (height, width))
    final = []

    def forward(hidden_states, timestep, **_):
        x = pipe._unpatchify_latents(hidden_states.transpose(1, 2).reshape(1, 128, height // 2, width // 2))
        final[:] = [denoise(x, float(timestep[0]))]
        return (pipe._pack_latents(pipe._patchify_latents((x - final[0]) / timestep[0])),)

    monkeypatch.setattr(pipe.transformer, "forward", forward)
    monkeypatch.setattr(pipe, "scheduler", diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0))
    with watch(pipe, screen="off") as run:
        pipe(
            height=height * 2,
            width=width * 2,
            prompt_embeds=noise(1, 6, 8),
            sigmas=demo_sampler.schedule(8)[:-1],
            num_inference_steps=8,
            generator=torch.Generator().manual_seed(7),
            output_type="latent",
        )
    decoder = open_shipped(run.pictures[-1].decoder)
    expected = to_bytes(decoder.decode(final[0])).numpy()[:, None]
    assert np.abs(run.pictures[-1].pixels.astype(int) - expected).max() <= 1
    assert run.pictures[-1].pixels.std() > 20 > run.pictures[0].pixels.std()


# Stopping


def stopping(run, at, done=None):
    def stop(pipe, index, timestep, kwargs):
        if index == at:
            (done if done is not None else []).append(run.stop())
        return kwargs

    return stop


@pytest.mark.parametrize("every", [1, 4])
def test_a_run_that_is_stopped_ends_with_what_is_there(sd1, tmp_path, every):
    done = []
    with watch(sd1, tmp_path, screen="off", every_n_steps=every) as run:
        assert run.stop() is False
        images = SD1.run(sd1, callback_on_step_end=stopping(run, 1, done))
        assert run.stop() is False
    assert done == [True]
    assert images.shape == (1, 32, 48, 3)
    assert run.manifest()["state"] == "interrupted"
    assert run.pictures[-1].index == 2
    assert sd1._interrupt is False
    with watch(sd1, screen="off") as run:
        SD1.run(sd1)
    assert run.runs[0].state == "finished"


def test_after_a_stop_the_next_call_goes_on_to_its_end(sd1):
    with watch(sd1, screen="off") as run:
        SD1.run(sd1, callback_on_step_end=stopping(run, 0))
        SD1.run(sd1)
    assert [one.state for one in run.runs] == ["interrupted", "finished"]
    assert [len(one.pictures) for one in run.runs] == [1, STEPS]


def test_a_pipeline_without_a_way_to_stop_says_so(make):
    family, pipe = make("Lumina2")
    told = []

    def stop(pipe, index, timestep, kwargs):
        with pytest.raises(RunError, match="Lumina2Pipeline cannot be stopped: expected a pipeline whose loop looks"):
            run.stop()
        told.append(index)
        return kwargs

    with watch(pipe, screen="off") as run:
        family.run(pipe, callback_on_step_end=stop)
    assert told == list(range(STEPS))
    assert run.runs[0].state == "finished"


class GoesThroughTheBar(diffusers.DiffusionPipeline):
    """Older pipelines go through their progress bar; here is one that may break off."""

    def __init__(self, scheduler, vae):
        super().__init__()
        self.register_modules(scheduler=scheduler, vae=vae)

    def __call__(self, breaks_at=None, fails_at=None, each=lambda _: None):
        self.scheduler.set_timesteps(STEPS)
        latents = noise(1, 4, 6, 8)
        for i, t in enumerate(self.progress_bar(self.scheduler.timesteps)):
            latents = self.scheduler.step(latents * 0.1, t, latents).prev_sample
            each(i)
            if i == fails_at:
                raise OopsError
            if i == breaks_at:
                break
        return latents


@pytest.fixture
def through():
    pipe = GoesThroughTheBar(diffusers.DDIMScheduler(**OLD), kl(4, 0.18215))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_pipeline_that_goes_through_its_bar_is_watched_and_stopped(through):
    plain = through()
    with watch(through, screen="off") as run:
        result = through()
        through(each=lambda i: i == 1 and run.stop())
    assert torch.equal(plain, result)
    assert [one.state for one in run.runs] == ["finished", "interrupted"]
    assert [len(one.pictures) for one in run.runs] == [STEPS, 2]
    assert untouched(through)


@pytest.mark.parametrize("how", ["breaks_at", "fails_at"])
def test_a_loop_that_is_left_through_its_bar_is_let_go(through, how):
    with watch(through, screen="off") as run:
        with suppress(OopsError):
            through(**{how: 1})
        gc.collect()
        assert "step" not in vars(through.scheduler)
    assert run.runs[0].state == "interrupted"
    assert [picture.index for picture in run.pictures] == [1, 2]


# Spaces


def test_a_tiny_autoencoder_in_place_of_the_vae_leaves_the_space_to_the_pipeline(make):
    family, pipe = make("StableDiffusion3")
    vae = pipe.vae
    pipe.vae = diffusers.AutoencoderTiny(
        latent_channels=16,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    try:
        with watch(pipe, screen="off") as run:
            family.run(pipe, output_type="latent")
    finally:
        pipe.vae = vae
    assert run.runs[0].run.space == "sd3"


def test_without_a_vae_the_space_is_the_pipelines(sd1):
    pipe = diffusers.StableDiffusionPipeline(**{**sd1.components, "vae": None}, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    with watch(pipe, screen="off") as run:
        SD1.run(pipe, output_type="latent")
    assert run.runs[0].run.space == "sd1"


def test_a_pipeline_of_pixels_is_shown_as_it_is():
    pipe = diffusers.DDPMPipeline(
        unet=diffusers.UNet2DModel(
            sample_size=16,
            block_out_channels=(4, 8),
            layers_per_block=1,
            norm_num_groups=2,
            down_block_types=("DownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "UpBlock2D"),
        ),
        scheduler=diffusers.DDPMScheduler(),
    )
    pipe.set_progress_bar_config(disable=True)
    with watch(pipe, screen="off") as run:
        pipe(num_inference_steps=STEPS, generator=torch.Generator().manual_seed(0))
    assert [picture.decoder for picture in run.pictures] == ["pixels"] * STEPS
    assert run.pictures[-1].pixels.shape == (1, 1, 16, 16, 3)


def test_a_vae_with_numbers_of_its_own_is_shown_and_told_of(sd1):
    pipe = diffusers.StableDiffusionPipeline(**{**sd1.components, "vae": kl(4, 0.7)}, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    with watch(pipe, screen="off") as run:
        SD1.run(pipe)
    assert "AutoencoderKL" in run.notes[0]
    assert [picture.decoder for picture in run.pictures] == ["principal"] * STEPS
    with watch(pipe, screen="off", space="sd1") as run:
        SD1.run(pipe)
    assert run.notes == []
    assert run.runs[0].run.space == "sd1"


# As a callback


def test_a_callback_shows_each_step_and_goes_by_itself(sd1, tmp_path):
    plain = SD1.run(sd1)
    result = SD1.run(sd1, callback_on_step_end=Previews(sd1, tmp_path, screen="off"))
    assert np.array_equal(plain, result)
    assert untouched(sd1)
    manifest = json.loads((tmp_path / "steps_00001" / "run.json").read_text())
    assert manifest["state"] == "finished"
    assert [step["show"] for step in manifest["steps"]] == ["denoised"] * STEPS
    assert manifest["sheet"] == "sheet.png"


def test_a_callback_shows_what_it_is_called_for_alone(sd1):
    previews = Previews(sd1, screen="off")
    SD1.run(sd1)
    assert previews.runs == []
    SD1.run(sd1, callback_on_step_end=previews)
    SD1.run(sd1, callback_on_step_end=previews)
    assert [len(one.pictures) for one in previews.runs] == [STEPS, STEPS]
    assert (previews.folder, previews.manifest(), previews.notes, previews.sampling) == (None, None, [], False)
    assert len(previews.pictures) == STEPS
    previews.close()
    assert untouched(sd1)
    previews.close()


def test_a_callback_may_be_called_by_the_users_own(sd1):
    previews, seen = Previews(sd1, screen="off"), []

    def mine(pipe, index, timestep, kwargs):
        seen.append(index)
        return previews(pipe, index, timestep, kwargs)

    plain = SD1.run(sd1)
    assert np.array_equal(plain, SD1.run(sd1, callback_on_step_end=mine))
    assert (len(seen), len(previews.pictures)) == (STEPS, STEPS)
    previews.close()


def test_a_callback_goes_when_the_pipeline_raises(sd1, tmp_path):
    def fail(previews):
        def mine(pipe, index, timestep, kwargs):
            previews(pipe, index, timestep, kwargs)
            raise OopsError

        return mine

    with pytest.raises(OopsError):
        SD1.run(sd1, callback_on_step_end=fail(Previews(sd1, tmp_path, screen="off")))
    gc.collect()
    assert untouched(sd1)
    assert json.loads((tmp_path / "steps_00001" / "run.json").read_text())["state"] == "failed"


def test_a_callback_can_stop_the_run(sd1):
    previews = Previews(sd1, screen="off")

    def mine(pipe, index, timestep, kwargs):
        previews(pipe, index, timestep, kwargs)
        if index == 1:
            assert previews.stop()
        return kwargs

    SD1.run(sd1, callback_on_step_end=mine)
    assert previews.runs[0].state == "interrupted"
    assert len(previews.pictures) == 2
    previews.close()


def test_diffusers_several_callbacks_take_it(sd1):
    from diffusers.callbacks import MultiPipelineCallbacks

    previews = Previews(sd1, screen="off")
    SD1.run(sd1, callback_on_step_end=MultiPipelineCallbacks([previews]))
    assert len(previews.pictures) == STEPS
    previews.close()


# What is asked for wrongly is told at once


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"decoder": "photoshop"}, UnknownDecoderError, "no decoder is named 'photoshop'"),
        ({"space": "outer"}, UnknownSpaceError, "no latent space is named 'outer'"),
        ({"show": "both"}, ValueError, "show: expected one of denoised, noisy, got 'both'"),
        ({"file_format": "bmp"}, ValueError, "file_format: expected one of png, webp, jpg"),
        ({"screen": "wall"}, ValueError, "screen: expected auto, off, a sink or a function"),
        ({"every_n_steps": 0}, ValueError, "every_n_steps: expected 1 to 10000, got 0"),
        ({"device_mb": -1}, ValueError, "device_mb: expected at least 0, got -1"),
        ({"memory": 0}, ValueError, "memory: expected at least 1, got 0"),
        ({"keep_latents": True}, ValueError, "give out= as well"),
        ({"out": "x", "filename_prefix": " "}, ValueError, "filename_prefix: expected a name"),
        ({"animation_from_step": 3, "animation_to_step": 2}, OptionError, "3"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
@pytest.mark.parametrize("how", [lambda *args, **kwargs: watch(*args, **kwargs).__enter__(), Previews])
def test_a_wrong_choice_is_told_before_anything_is_sampled(sd1, how, options, error, told):
    with pytest.raises(error, match=told):
        how(sd1, **options)
    assert untouched(sd1)


@pytest.mark.parametrize("thing", [None, "pipe", diffusers.StableDiffusionPipeline])
def test_what_is_no_pipeline_is_told(thing):
    with pytest.raises(TypeError, match=r"expected a pipeline of diffusers.*pip install diffusers transformers"):
        Previews(thing)


def test_a_folder_with_decoders_is_looked_into(sd1, tmp_path):
    shipped = Path(shipped_module.__file__).parents[2] / "weights" / "sd1-linear-keturn.safetensors"
    (tmp_path / "mine.safetensors").write_bytes(shipped.read_bytes())
    for folder in (tmp_path, str(tmp_path), [tmp_path]):
        with watch(sd1, screen="off", decoder_folder=folder, decoder="mine.safetensors") as run:
            SD1.run(sd1, num_inference_steps=1)
        assert run.notes == []
        assert run.pictures[0].decoder == "sd1-linear-keturn"


def test_options_are_what_they_say():
    assert Options.of("runs").prefix.name == "steps"
    assert Options.of().prefix is None
