"""Watching a pipeline: its runs, and that the pipeline is unchanged during and after it, also after errors."""

import copy
import gc
import json
import weakref
from contextlib import suppress
from dataclasses import replace
from functools import partial
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
from safelight.errors import OptionError, RunError, SinkError, UnknownDecoderError, UnknownSpaceError
from safelight.hosts import x0
from safelight.hosts.diffusers import Previews, WatchOptions, watch, watched_run
from safelight.preview.manifest import read_manifest
from safelight.preview.sinks.base import Delivery, RunScreen, Sink
from safetensors.torch import load_file
from tiny_models import OLD, cogvideox, kl, noise, wan_transformer
from tiny_pipelines import FAMILIES, STEPS

pytestmark = pytest.mark.filterwarnings("ignore")
SD1 = FAMILIES["StableDiffusion"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def is_restored(pipe):
    return "progress_bar" not in vars(pipe) and "step" not in vars(pipe.scheduler)


class RecordingSink(Sink):
    """Records its calls."""

    name = "recorder"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self, fail=False):
        self.calls, self.fail = [], fail

    def open(self):
        self.calls.append("open")

    def show(self, picture):
        if self.fail:
            raise OSError("no screen")
        self.calls.append(picture.index)

    def close(self, state):
        self.calls.append(state)


# Results of a run


def test_a_run_writes_a_folder_that_the_page_can_open(sd1, tmp_path):
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


def test_without_a_folder_there_are_pictures_but_no_files(sd1, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with watch(sd1, screen="off") as run:
        assert (run.folder, run.manifest(), list(run.pictures), run.notes, run.sampling) == (None, None, [], [], False)
        SD1.run(sd1)
    assert (run.folder, run.manifest(), len(run.pictures)) == (None, None, STEPS)
    assert names(tmp_path) == []


def test_pictures_are_shown_while_the_pipeline_samples(sd1):
    was_sampling, screen = [], RecordingSink()

    def look(pipe, index, timestep, kwargs):
        was_sampling.append(run.sampling)
        return kwargs

    with watch(sd1, screen=screen) as run:
        SD1.run(sd1, callback_on_step_end=look)
    assert was_sampling == [True] * STEPS
    assert screen.calls[0] == "open"
    assert screen.calls[-2:] == [STEPS, "finished"]


def test_every_call_in_the_block_is_a_run_and_no_call_after_it(sd1, tmp_path):
    screens = []

    def new_screen():
        screens.append(RecordingSink())
        return screens[-1]

    with watch(sd1, tmp_path, screen=new_screen, filename_prefix="deep/mine") as run:
        SD1.run(sd1)
        sd1.scheduler = diffusers.DDIMScheduler.from_config(sd1.scheduler.config)
        SD1.run(sd1)
    SD1.run(sd1)
    assert [each.folder.name for each in run.runs] == ["mine_00001", "mine_00002"]
    assert [each.run.sampler["name"] for each in run.runs] == ["EulerDiscrete", "DDIM"]
    assert names(tmp_path / "deep") == ["mine_00001", "mine_00002"]
    assert [len(each.pictures) for each in run.runs] == [STEPS, STEPS]
    assert len(screens) == 2
    assert is_restored(sd1)


def test_only_the_newest_calls_and_pictures_stay_in_memory(sd1):
    with watch(sd1, screen="off", memory=2) as run:
        for _ in range(9):
            SD1.run(sd1, num_inference_steps=3, output_type="latent")
    assert [len(each.pictures) for each in run.runs] == [0] + [2] * 8
    assert [picture.index for picture in run.pictures] == [2, 3]


@pytest.mark.parametrize(("every", "expected"), [(2, [1, 3, 4]), (3, [1, 4]), (5, [1, 4])])
def test_every_nth_step_is_shown_and_always_the_last(sd1, every, expected):
    with watch(sd1, screen="off", every_n_steps=every) as run:
        SD1.run(sd1)
    assert [picture.index for picture in run.pictures] == expected


def test_noisy_latents_can_be_shown(sd1):
    with watch(sd1, screen="off", show="noisy") as run:
        SD1.run(sd1)
    assert [picture.show for picture in run.pictures] == ["noisy"] * STEPS


def test_both_latents_can_be_shown(sd1, tmp_path):
    with watch(sd1, tmp_path, screen="off", show="both") as run:
        SD1.run(sd1)
    assert [picture.show for picture in run.pictures] == ["denoised"] * STEPS
    assert [picture.noisy.show for picture in run.pictures] == ["noisy"] * STEPS
    [manifest] = [recorded.manifest() for recorded in run.runs]
    assert all(len(step["noisy_files"]) == len(step["files"]) for step in manifest["steps"])


@pytest.fixture
def computed(monkeypatch):
    """The calls in which an estimate was computed."""
    calls, compute = [], x0.compute_x0
    monkeypatch.setattr(
        x0, "compute_x0", lambda scheduler, call, tables: calls.append(call) or compute(scheduler, call, tables)
    )
    return calls


@pytest.mark.parametrize(("keeps", "expected"), [(False, 0), (True, STEPS)])
def test_no_estimate_is_computed_where_only_noise_is_shown(sd1, tmp_path, computed, keeps, expected):
    with watch(sd1, tmp_path, screen="off", show="noisy", keep_latents=keeps) as run:
        SD1.run(sd1)
    assert len(computed) == expected
    assert [picture.sigma for picture in run.pictures] == pytest.approx(run.runs[0].run.sampler["sigmas"][:-1])


def test_no_estimate_is_computed_after_an_error_in_our_code(sd1, computed, monkeypatch):
    monkeypatch.setattr(watched_run, "start", lambda *_, **__: 1 / 0)
    with watch(sd1, screen="off") as run:
        SD1.run(sd1)
    assert len(computed) == 1
    assert run.notes[0].startswith("this run continues without previews")


@pytest.mark.parametrize(
    ("batch", "files", "items"),
    [
        ("grid", ["step_0001.png"], 2),
        ("first", ["step_0001.png"], 1),
        ("all files", ["step_0001_item_01.png", "step_0001_item_02.png"], 2),
    ],
)
def test_a_batch_is_written_as_the_option_says(sd1, tmp_path, batch, files, items):
    with watch(sd1, tmp_path, screen="off", batch=batch) as run:
        SD1.run(sd1, num_images_per_prompt=2)
    assert run.manifest()["steps"][0]["files"] == files
    assert {picture.pixels.shape[0] for picture in run.pictures} == {items}


def test_files_have_the_requested_format_and_size(sd1, tmp_path):
    with watch(sd1, tmp_path, screen="off", file_format="webp", enlarge="nearest", sheet=False, animation="off") as run:
        SD1.run(sd1)
    assert names(run.folder) == ["index.html", "run.json", *(f"step_{i:04d}.webp" for i in range(1, STEPS + 1))]
    with Image.open(run.folder / "step_0001.webp") as image:
        assert image.size == (24 * 8, 16 * 8)


def test_a_video_is_written_as_an_animation(make, tmp_path):
    family, pipe = make("Wan")
    with watch(pipe, tmp_path, screen="off", frames="animated") as run:
        family.run(pipe)
    assert {picture.pixels.shape[1] for picture in run.pictures} == {3}
    with Image.open(run.folder / "step_0001.webp") as image:
        assert image.n_frames == 3


def test_each_frame_of_a_video_can_be_a_file(make, tmp_path):
    family, pipe = make("Wan")
    with watch(pipe, tmp_path, screen="off", frames="all files", animation_from_step=2, animation_to_step=3) as run:
        family.run(pipe)
    assert names(run.folder / "step_0001") == ["frame_0001.png", "frame_0002.png", "frame_0003.png"]
    with Image.open(run.folder / "steps.webp") as image:
        assert image.n_frames == 2


def test_the_frame_rate_of_the_pipeline_is_used(make):
    family, pipe = make("LTX")
    with watch(pipe, screen="off", frames="animated") as run:
        family.run(pipe, frame_rate=10)
    assert run.pictures[-1].fps == pytest.approx(10 / 8)  # one latent frame is eight frames of the video


# Schedulers, and pipelines with special loops

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
def test_every_scheduler_is_shown_step_by_step_with_the_same_result(sd1, name):
    sd1.scheduler = getattr(diffusers, f"{name}Scheduler")(**OLD, **SCHEDULERS[name])
    torch.manual_seed(8)
    plain, rng = SD1.run(sd1, guidance_scale=2.0, negative_prompt_embeds=noise(1, 6, 8)), torch.get_rng_state()
    torch.manual_seed(8)
    with watch(sd1, screen="off") as run:
        result = SD1.run(sd1, guidance_scale=2.0, negative_prompt_embeds=noise(1, 6, 8))
    assert np.array_equal(plain, result)
    assert torch.equal(rng, torch.get_rng_state())
    steps = STEPS + 1 if name == "PNDM" else STEPS
    assert [(p.index, p.total, p.show) for p in run.pictures] == [(i + 1, steps, "denoised") for i in range(steps)]
    assert run.notes == []
    sigmas = run.runs[0].run.sampler["sigmas"]
    if sigmas is not None:
        assert sigmas[:-1] == pytest.approx([picture.sigma for picture in run.pictures], abs=1e-4)


def test_x0_is_the_one_of_the_guided_model_output(sd1, tmp_path, monkeypatch):
    """By the formula of https://arxiv.org/abs/2010.02502 (12), from the inputs and outputs of the UNet."""
    scheduler = diffusers.DDIMScheduler(**OLD, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    sd1.scheduler = scheduler
    expected = []

    def hook(module, args, kwargs, output):
        sample, timestep = args[:2] if len(args) > 1 else (args[0], kwargs["timestep"])
        without, with_ = output[0].chunk(2)
        cumprod = scheduler.alphas_cumprod[int(timestep)]
        noise_ = without + 3.0 * (with_ - without)
        expected.append((sample.chunk(2)[0] - (1 - cumprod) ** 0.5 * noise_) / cumprod**0.5)

    handle = sd1.unet.register_forward_hook(hook, with_kwargs=True)
    try:
        with watch(sd1, tmp_path, screen="off", keep_latents=True) as run:
            SD1.run(sd1, guidance_scale=3.0, negative_prompt_embeds=noise(1, 6, 8))
    finally:
        handle.remove()
    from safelight.preview.saved_run import SavedRun

    saved = SavedRun.open(run.folder)
    assert len(expected) == STEPS
    for index, estimate in enumerate(expected, 1):
        torch.testing.assert_close(saved.latents(index).denoised, estimate, rtol=1e-4, atol=1e-4)


def test_image_to_image_counts_only_the_sampled_steps(sd1):
    pipe = diffusers.StableDiffusionImg2ImgPipeline(**sd1.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    arguments = {"prompt_embeds": noise(1, 6, 8), "guidance_scale": 1.0, "num_inference_steps": 8, "output_type": "np"}
    image = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(1))

    def sample():
        return pipe(image=image, strength=0.5, generator=torch.Generator().manual_seed(2), **arguments).images

    plain = sample()
    with watch(pipe, screen="off") as run:
        result = sample()
    assert np.array_equal(plain, result)
    assert [(picture.index, picture.total) for picture in run.pictures] == [(i, 4) for i in range(1, 5)]
    assert run.runs[0].run.sampler["sigmas"][:-1] == pytest.approx([picture.sigma for picture in run.pictures])


def test_a_base_model_that_ends_early_has_its_own_step_count(make):
    family, pipe = make("StableDiffusionXL")
    with watch(pipe, screen="off") as run:
        family.run(pipe, denoising_end=0.5, output_type="latent", num_inference_steps=8)
    assert 1 < len(run.pictures) < 8
    assert run.pictures[-1].index == run.pictures[-1].total


def taken(pipe, call):
    """Returns the sigmas that the pipeline's scheduler takes, and the one that it ends at."""
    steps, scheduler = [], pipe.scheduler
    step = scheduler.step

    def recorded(*args, **kwargs):
        result = step(*args, **kwargs)
        steps.append([float(scheduler.sigmas[scheduler.step_index - 1]), float(scheduler.sigmas[scheduler.step_index])])
        return result

    scheduler.step = recorded
    try:
        call()
    finally:
        del scheduler.step
    order = getattr(scheduler, "order", 1)
    return [before for before, _ in steps[::order]] + [steps[-1][1]]


@pytest.mark.parametrize("scheduler", ["EulerDiscrete", "DPMSolverMultistep", "UniPCMultistep", "HeunDiscrete"])
@pytest.mark.parametrize(
    "arguments", [{"denoising_end": 0.5}, {}, {"denoising_end": 0.01}], ids=["first part", "all", "one step"]
)
def test_the_sigmas_of_a_run_are_those_of_the_first_part_of_the_schedule(make, scheduler, arguments):
    family, pipe = make("StableDiffusionXL")
    before, pipe.scheduler = pipe.scheduler, getattr(diffusers, f"{scheduler}Scheduler")(**OLD)
    arguments = {**arguments, "output_type": "latent", "num_inference_steps": 8}
    try:
        expected = taken(pipe, lambda: family.run(pipe, **arguments))
        with watch(pipe, screen="off") as run:
            family.run(pipe, **arguments)
    finally:
        pipe.scheduler = before
    assert run.runs[0].run.sampler["sigmas"] == pytest.approx(expected)


@pytest.mark.parametrize(
    "arguments",
    [
        {"denoising_start": 0.4, "denoising_end": 0.8, "num_inference_steps": 10},
        {"denoising_start": 0.6, "num_inference_steps": 10},
        {"strength": 0.7, "timesteps": [900, 700, 650, 200, 20]},
    ],
    ids=["middle", "end", "custom timesteps"],
)
def test_the_sigmas_of_a_run_are_those_of_any_part_of_the_schedule(make, arguments):
    family, base = make("StableDiffusionXL")
    pipe = diffusers.StableDiffusionXLImg2ImgPipeline(
        **{name: part for name, part in base.components.items() if name not in ("image_encoder", "feature_extractor")},
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = diffusers.DPMSolverMultistepScheduler(**OLD)
    given = {**family.call(), "image": noise(1, 4, 16, 24), "output_type": "latent", **arguments}
    del given["height"], given["width"]

    def sample():
        pipe(generator=torch.Generator().manual_seed(0), **given)

    expected = taken(pipe, sample)
    with watch(pipe, screen="off") as run:
        sample()
    assert run.runs[0].run.sampler["sigmas"] == pytest.approx(expected)
    assert [picture.sigma for picture in run.pictures] == pytest.approx(expected[:-1])


def test_a_loop_that_changes_its_schedule_has_the_sigmas_that_it_took(sd1):
    def change(pipe, index, timestep, kwargs):
        if index == 0:
            pipe.scheduler.sigmas = pipe.scheduler.sigmas * 0.9
        return kwargs

    with watch(sd1, screen="off") as run:
        SD1.run(sd1, callback_on_step_end=change)
    sigmas = run.runs[0].run.sampler["sigmas"]
    assert sigmas == pytest.approx([*(picture.sigma for picture in run.pictures), 0])
    assert sigmas[1] == pytest.approx(float(sd1.scheduler.sigmas[1]))


def test_two_experts_are_a_single_run(make):
    family, pipe = make("Wan")
    both = diffusers.WanPipeline(**{**pipe.components, "transformer_2": wan_transformer()}, boundary_ratio=0.6)
    both.set_progress_bar_config(disable=True)
    plain = family.run(both)
    with watch(both, screen="off") as run:
        result = family.run(both)
    assert np.array_equal(plain, result)
    assert [(picture.index, picture.total) for picture in run.pictures] == [(i, STEPS) for i in range(1, STEPS + 1)]
    assert len(run.runs) == 1


def test_a_second_order_flow_scheduler_is_shown_once_per_step(make):
    family, pipe = make("StableDiffusion3")
    scheduler, pipe.scheduler = pipe.scheduler, diffusers.FlowMatchHeunDiscreteScheduler()
    try:
        with watch(pipe, screen="off") as run:
            family.run(pipe)
    finally:
        pipe.scheduler = scheduler
    assert [(picture.index, picture.total) for picture in run.pictures] == [(i, STEPS) for i in range(1, STEPS + 1)]


def test_the_multistep_scheduler_of_cogvideox_is_supported():
    family = replace(FAMILIES["CogVideoX"], parts=partial(cogvideox, "CogVideoXDPMScheduler"))
    pipe = family.create()
    plain = family.run(pipe)
    with watch(pipe, screen="off") as run:
        result = family.run(pipe)
    assert np.array_equal(plain, result)
    assert [picture.show for picture in run.pictures] == ["denoised"] * STEPS


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (32, 96), (96, 32), (64, 80), (48, 48)])
def test_tokens_get_the_height_and_width_of_the_picture(make, size):
    family, pipe = make("Flux")
    height, width = size
    with watch(pipe, screen="off") as run:
        family.run(pipe, height=height, width=width)
    assert run.pictures[-1].pixels.shape[2:4] == (height // 2, width // 2)
    assert run.notes == []


# The pipeline is restored, and works as before


class OopsError(Exception):
    pass


def test_after_an_exception_the_pipeline_is_restored(sd1, tmp_path):
    def fail(pipe, index, timestep, kwargs):
        if index == 1:
            raise OopsError("user error")
        return kwargs

    with pytest.raises(OopsError), watch(sd1, tmp_path, screen="off") as run:
        SD1.run(sd1, callback_on_step_end=fail)
    assert is_restored(sd1)
    assert run.runs[0].state == run.manifest()["state"] == "failed"
    assert run.notes == ["the pipeline failed: OopsError: user error"]
    assert [picture.index for picture in run.pictures] == [1, 2]
    assert {"step_0002.png", "sheet.png", "steps.webp"} <= set(names(run.folder))


def test_an_exception_that_is_caught_in_the_block_ends_only_its_run(sd1):
    def fail(*_):
        raise OopsError

    with watch(sd1, screen="off") as run:
        with pytest.raises(OopsError):
            SD1.run(sd1, callback_on_step_end=fail)
        SD1.run(sd1)
    assert "step" not in vars(sd1.scheduler)
    assert [each.state for each in run.runs] == ["failed", "finished"]


def test_a_call_that_never_samples_is_not_a_run(sd1, tmp_path):
    with pytest.raises(ValueError, match="divisible by 8"), watch(sd1, tmp_path / "runs", screen="off") as run:
        SD1.run(sd1, height=33)
    assert (run.runs, run.folder) == ([], None)
    assert not (tmp_path / "runs").exists()
    assert is_restored(sd1)


def test_ctrl_c_ends_the_run_as_interrupted(sd1):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), watch(sd1, screen="off") as run:
        SD1.run(sd1, callback_on_step_end=stop)
    assert run.runs[0].state == "interrupted"
    assert is_restored(sd1)


def test_the_user_s_callback_can_still_change_latents(sd1):
    def halve(pipe, index, timestep, kwargs):
        return {"latents": kwargs["latents"] / 2}

    plain = SD1.run(sd1, callback_on_step_end=halve)
    with watch(sd1, screen="off") as run:
        result = SD1.run(sd1, callback_on_step_end=halve)
    assert np.array_equal(plain, result)
    assert not np.array_equal(plain, SD1.run(sd1))
    assert len(run.pictures) == STEPS


def test_a_pipeline_can_be_watched_twice(sd1):
    with watch(sd1, screen="off") as outer, watch(sd1, screen="off") as inner:
        result = SD1.run(sd1)
    assert np.array_equal(result, SD1.run(sd1))
    assert len(outer.pictures) == len(inner.pictures) == STEPS
    assert is_restored(sd1)


def test_a_copy_of_the_scheduler_during_sampling_is_independent(sd1):
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


def test_watching_leaves_no_reference_to_the_pipeline(sd1):
    pipe = diffusers.StableDiffusionPipeline(**sd1.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    with watch(pipe, screen="off") as run:
        SD1.run(pipe)
    assert len(run.pictures) == STEPS
    reference = weakref.ref(pipe)
    del pipe, run
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("where", ["compute_x0", "family_of_pipeline", "create_numbered_folder"])
def test_an_error_in_our_code_costs_only_previews(sd1, tmp_path, monkeypatch, where):
    from safelight.hosts import x0
    from safelight.hosts.diffusers import watched_run

    plain = SD1.run(sd1)
    with watch(sd1, tmp_path, screen="off") as run:
        monkeypatch.setattr(x0 if where == "compute_x0" else watched_run, where, lambda *_: 1 / 0)
        result = SD1.run(sd1)
    assert np.array_equal(plain, result)
    assert is_restored(sd1)
    if where == "compute_x0":  # noisy latents are still known
        assert [picture.show for picture in run.pictures] == ["noisy"] * STEPS
    else:
        assert "this run continues without previews: ZeroDivisionError" in run.notes[0]


def test_a_screen_that_fails_costs_only_a_note(sd1):
    with watch(sd1, screen=RecordingSink(fail=True)) as run:
        SD1.run(sd1)
    assert run.notes == ["recorder failed: OSError: no screen"]
    assert len(run.pictures) == STEPS


def test_a_screen_that_cannot_be_created_costs_a_note(sd1):
    def none():
        raise OopsError("no display")

    with watch(sd1, screen=none) as run:
        SD1.run(sd1)
    assert run.notes == ["the screen cannot be used, so nothing is shown: OopsError: no display"]


def test_a_folder_that_cannot_be_created_costs_a_note(sd1, tmp_path):
    plain = SD1.run(sd1)
    with watch(sd1, tmp_path / "file", screen="off") as run:
        (tmp_path / "file").write_text("in the way")
        result = SD1.run(sd1)
    assert np.array_equal(plain, result)
    assert "run.json could not be opened" in run.notes[0]
    assert len(run.pictures) == STEPS


def test_a_run_screen_receives_its_run_and_a_function_to_stop_it(sd1):
    class FollowingScreen(RecordingSink, RunScreen):
        def follow(self, run, stop):
            self.calls.append(("follow", run.space, stop is not None))

    screen = FollowingScreen()
    with watch(sd1, screen=screen) as run:
        SD1.run(sd1)
    assert screen.calls[:2] == [("follow", "sd1", True), "open"]
    assert len(run.pictures) == STEPS


def test_a_real_picture_has_the_right_orientation_and_colors(make, monkeypatch):
    """FLUX.2's pipeline with the demo's exact denoiser as its model; the picture is wider than high."""
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


def stopping(run, at, results=None):
    def stop(pipe, index, timestep, kwargs):
        if index == at:
            (results if results is not None else []).append(run.stop())
        return kwargs

    return stop


@pytest.mark.parametrize("every", [1, 4])
def test_a_stopped_run_ends_with_the_steps_so_far(sd1, tmp_path, every):
    results = []
    with watch(sd1, tmp_path, screen="off", every_n_steps=every) as run:
        assert run.stop() is False
        images = SD1.run(sd1, callback_on_step_end=stopping(run, 1, results))
        assert run.stop() is False
    assert results == [True]
    assert images.shape == (1, 32, 48, 3)
    assert run.manifest()["state"] == "interrupted"
    assert run.pictures[-1].index == 2
    assert sd1._interrupt is False
    with watch(sd1, screen="off") as run:
        SD1.run(sd1)
    assert run.runs[0].state == "finished"


@pytest.mark.parametrize("name", ["StableDiffusion", "StableDiffusion3", "Flux"])
def test_a_kept_estimate_is_the_result_of_the_pipeline_bit_for_bit(make, name, tmp_path):
    family, pipe = make(name)
    asked = []

    def keep(pipe, index, timestep, kwargs):
        if index == 1:
            asked.append(run.stop(keep=True))
        return kwargs

    with watch(pipe, tmp_path, screen="off", keep_latents=True) as run:
        latents = family.run(pipe, callback_on_step_end=keep, output_type="latent")
    manifest = run.manifest()
    assert (asked, manifest["state"], manifest["sampler"]["kept_step"]) == ([True], "stopped", 3)
    assert [step["index"] for step in manifest["steps"]] == [1, 2, 3]
    kept = load_file(run.folder / "step_0003.safetensors")["denoised"]
    # FLUX's pipeline has the same values in another order: its latents are packed.
    values, expected = (each.float().flatten() for each in (torch.as_tensor(latents), kept))
    assert torch.equal(values, expected) or name == "Flux"
    assert torch.equal(values.sort().values, expected.sort().values)
    with watch(pipe, screen="off") as run:
        family.run(pipe)
    assert run.runs[0].state == "finished"


def test_an_estimate_of_an_inpainting_pipeline_is_not_kept(sd1):
    pipe = diffusers.StableDiffusionInpaintPipeline(**sd1.components)
    pipe.set_progress_bar_config(disable=True)
    given = {"image": torch.zeros(1, 3, 32, 48), "mask_image": torch.ones(1, 1, 32, 48)}
    refusals = []

    def keep(pipe, index, timestep, kwargs):
        with pytest.raises(RunError, match="no estimate of StableDiffusionInpaintPipeline can be kept: it adds noise"):
            run.stop(keep=True)
        refusals.append(index)
        return kwargs

    with watch(pipe, screen="off") as run:
        SD1.run(pipe, callback_on_step_end=keep, **given)
    assert len(refusals) == STEPS
    assert run.runs[0].state == "finished"


def test_after_a_stop_the_next_call_runs_to_its_end(sd1):
    with watch(sd1, screen="off") as run:
        SD1.run(sd1, callback_on_step_end=stopping(run, 0))
        SD1.run(sd1)
    assert [each.state for each in run.runs] == ["interrupted", "finished"]
    assert [len(each.pictures) for each in run.runs] == [1, STEPS]


def test_a_pipeline_that_cannot_be_stopped_raises(make):
    family, pipe = make("Lumina2")
    steps = []

    def stop(pipe, index, timestep, kwargs):
        with pytest.raises(RunError, match="Lumina2Pipeline cannot be stopped: expected a pipeline whose loop reads"):
            run.stop()
        steps.append(index)
        return kwargs

    with watch(pipe, screen="off") as run:
        family.run(pipe, callback_on_step_end=stop)
    assert steps == list(range(STEPS))
    assert run.runs[0].state == "finished"


class BarIteratingPipeline(diffusers.DiffusionPipeline):
    """A pipeline that iterates over its progress bar, as older ones do, and that may end its loop early."""

    def __init__(self, scheduler, vae):
        super().__init__()
        self.register_modules(scheduler=scheduler, vae=vae)

    def __call__(self, breaks_at=None, fails_at=None, on_step=lambda _: None):
        self.scheduler.set_timesteps(STEPS)
        latents = noise(1, 4, 6, 8)
        for i, t in enumerate(self.progress_bar(self.scheduler.timesteps)):
            latents = self.scheduler.step(latents * 0.1, t, latents).prev_sample
            on_step(i)
            if i == fails_at:
                raise OopsError
            if i == breaks_at:
                break
        return latents


@pytest.fixture
def iterating():
    pipe = BarIteratingPipeline(diffusers.DDIMScheduler(**OLD), kl(4, 0.18215))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_pipeline_that_iterates_over_its_bar_is_watched_and_stopped(iterating):
    plain = iterating()
    with watch(iterating, screen="off") as run:
        result = iterating()
        iterating(on_step=lambda i: i == 1 and run.stop())
    assert torch.equal(plain, result)
    assert [each.state for each in run.runs] == ["finished", "interrupted"]
    assert [len(each.pictures) for each in run.runs] == [STEPS, 2]
    assert is_restored(iterating)


@pytest.mark.parametrize("argument", ["breaks_at", "fails_at"])
def test_a_loop_over_the_bar_that_ends_early_restores_the_scheduler(iterating, argument):
    with watch(iterating, screen="off") as run:
        with suppress(OopsError):
            iterating(**{argument: 1})
        gc.collect()
        assert not run.sampling
    assert "step" not in vars(iterating.scheduler)
    assert run.runs[0].state == "interrupted"
    assert [picture.index for picture in run.pictures] == [1, 2]


# Spaces


def test_with_a_tiny_autoencoder_the_pipeline_decides_the_space(make):
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


def test_without_a_vae_the_pipeline_decides_the_space(sd1):
    pipe = diffusers.StableDiffusionPipeline(**{**sd1.components, "vae": None}, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    with watch(pipe, screen="off") as run:
        SD1.run(pipe, output_type="latent")
    assert run.runs[0].run.space == "sd1"


def test_a_pipeline_that_samples_pixels_is_shown_without_a_decoder():
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


def test_a_vae_with_unknown_numbers_is_shown_with_a_note(sd1):
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


# Callbacks


def test_a_callback_shows_each_step_and_removes_itself(sd1, tmp_path):
    plain = SD1.run(sd1)
    result = SD1.run(sd1, callback_on_step_end=Previews(sd1, tmp_path, screen="off"))
    assert np.array_equal(plain, result)
    assert is_restored(sd1)
    manifest = json.loads((tmp_path / "steps_00001" / "run.json").read_text())
    assert manifest["state"] == "finished"
    assert [step["show"] for step in manifest["steps"]] == ["denoised"] * STEPS
    assert manifest["sheet"] == "sheet.png"


def test_a_callback_shows_only_the_calls_that_use_it(sd1):
    previews = Previews(sd1, screen="off")
    SD1.run(sd1)
    assert previews.runs == []
    SD1.run(sd1, callback_on_step_end=previews)
    SD1.run(sd1, callback_on_step_end=previews)
    assert [len(each.pictures) for each in previews.runs] == [STEPS, STEPS]
    assert (previews.folder, previews.manifest(), previews.notes, previews.sampling) == (None, None, [], False)
    assert len(previews.pictures) == STEPS
    previews.close()
    assert is_restored(sd1)
    previews.close()


def test_the_user_s_own_callback_can_call_ours(sd1):
    previews, steps = Previews(sd1, screen="off"), []

    def mine(pipe, index, timestep, kwargs):
        steps.append(index)
        return previews(pipe, index, timestep, kwargs)

    plain = SD1.run(sd1)
    assert np.array_equal(plain, SD1.run(sd1, callback_on_step_end=mine))
    assert (len(steps), len(previews.pictures)) == (STEPS, STEPS)
    previews.close()


def test_a_callback_removes_itself_when_the_pipeline_raises(sd1, tmp_path):
    def fail(previews):
        def mine(pipe, index, timestep, kwargs):
            previews(pipe, index, timestep, kwargs)
            raise OopsError

        return mine

    with pytest.raises(OopsError):
        SD1.run(sd1, callback_on_step_end=fail(Previews(sd1, tmp_path, screen="off")))
    gc.collect()
    assert is_restored(sd1)
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


def test_a_callback_works_among_several_callbacks_of_diffusers(sd1):
    from diffusers.callbacks import MultiPipelineCallbacks

    previews = Previews(sd1, screen="off")
    SD1.run(sd1, callback_on_step_end=MultiPipelineCallbacks([previews]))
    assert len(previews.pictures) == STEPS
    previews.close()


# Wrong arguments are errors before sampling


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"decoder": "photoshop"}, UnknownDecoderError, "no decoder is named 'photoshop'"),
        ({"space": "outer"}, UnknownSpaceError, "no latent space is named 'outer'"),
        ({"show": "all"}, ValueError, "show: expected one of denoised, noisy, both, got 'all'"),
        ({"file_format": "bmp"}, ValueError, "file_format: expected one of png, webp, jpg"),
        ({"screen": "wall"}, ValueError, "screen: expected auto, off, a sink or a function"),
        ({"every_n_steps": 0}, ValueError, "every_n_steps: expected 1 to 10000, got 0"),
        ({"device_mb": -1}, ValueError, "device_mb: expected at least 0, got -1"),
        ({"memory": 0}, ValueError, "memory: expected at least 1, got 0"),
        ({"keep_latents": True}, ValueError, "give out= as well"),
        ({"out": "x", "filename_prefix": " "}, ValueError, "filename_prefix: expected a name"),
        ({"animation_from_step": 3, "animation_to_step": 2}, OptionError, "3"),
        ({"color": "red"}, TypeError, "color"),
    ],
)
@pytest.mark.parametrize("watcher", [lambda *args, **kwargs: watch(*args, **kwargs).__enter__(), Previews])
def test_a_wrong_option_is_an_error_before_sampling(sd1, watcher, options, error, message):
    with pytest.raises(error, match=message):
        watcher(sd1, **options)
    assert is_restored(sd1)


@pytest.mark.parametrize(
    ("thing", "advice"),
    [
        (None, "got NoneType; if diffusers is not installed: pip install diffusers transformers"),
        ("pipe", "got str; if diffusers is not installed"),
        (diffusers.StableDiffusionPipeline, "got the class StableDiffusionPipeline; create an object of it first"),
    ],
)
@pytest.mark.parametrize("watcher", [lambda thing: watch(thing).__enter__(), Previews])
def test_an_object_that_is_not_a_pipeline_is_refused(watcher, thing, advice):
    with pytest.raises(TypeError, match=rf"expected a pipeline of diffusers, .*{advice}"):
        watcher(thing)


def test_decoders_in_a_folder_are_used(sd1, tmp_path):
    shipped = Path(shipped_module.__file__).parents[2] / "weights" / "sd1-linear-keturn.safetensors"
    (tmp_path / "mine.safetensors").write_bytes(shipped.read_bytes())
    for folder in (tmp_path, str(tmp_path), [tmp_path]):
        with watch(sd1, screen="off", decoder_folder=folder, decoder="mine.safetensors") as run:
            SD1.run(sd1, num_inference_steps=1)
        assert run.notes == []
        assert run.pictures[0].decoder == "sd1-linear-keturn"


def test_a_chdir_in_the_block_does_not_move_the_files(sd1, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with watch(sd1, "runs", screen="off") as run:
        monkeypatch.chdir("elsewhere")
        SD1.run(sd1)
        assert run.folder == tmp_path / "runs" / "steps_00001"
    assert (tmp_path / "runs" / "steps_00001" / "index.html").exists()
    assert names(tmp_path / "elsewhere") == []


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    options = WatchOptions.of("~/runs", decoder_folder="~/decoders")
    assert options.new_prefix() == tmp_path / "runs" / "steps"
    assert options.decoder_folder == (tmp_path / "decoders",)


@pytest.mark.parametrize(("out", "prefix"), [("file", "steps"), ("file/in", "steps"), (".", "file/steps")])
def test_a_file_in_the_place_of_the_folder_is_an_error_before_sampling(sd1, tmp_path, out, prefix):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SinkError, match=r"out: expected a folder, but .*file is a file; choose another path"):
        watch(sd1, tmp_path / out, filename_prefix=prefix).__enter__()
    assert is_restored(sd1)


def test_the_prefix_follows_from_out():
    assert WatchOptions.of("runs").new_prefix().name == "steps"
    assert WatchOptions.of().new_prefix() is None
