"""Modular pipelines of every family: the same results, x0 as their own VAE gets it, and blocks as before."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import diffusers
import numpy as np
import pytest
import tiny_modular
import torch
from safelight.decoders.latents.space_table import SPACES
from safelight.decoders.nets.checkerboard import over_checkerboard
from safelight.errors import OptionError, RunError
from safelight.hosts.diffusers import Previews, watch
from safelight.hosts.diffusers.modular_blocks import is_modular, loop_blocks
from safelight.hosts.gradio.background_call import previews
from safelight.preview.saved_run import SavedRun
from tiny_modular import MODULAR, STEPS

from ... import older

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def all_families():
    newest = "Flux3ModularPipeline"
    older.expect(older.diffusers_has(newest), "diffusers", diffusers.__version__, newest)


@pytest.fixture(params=MODULAR)
def family(request):
    return request.param


@pytest.fixture
def flux():
    return tiny_modular.create("Flux")


def sample(pipe, family="Flux", **more):
    return MODULAR[family].run(pipe, **more)


def attributes_of(pipe):
    """The names of the attributes of a pipeline, its components and its blocks."""
    parts = [pipe, *pipe.components.values(), *loop_blocks(pipe)]
    return [set(vars(part)) for part in parts if hasattr(part, "__dict__")]


def steps_of(run):
    return [[(picture.index, picture.total) for picture in each.pictures] for each in run.runs]


ALL_STEPS = [(index, STEPS) for index in range(1, STEPS + 1)]


def same(first, second):
    if isinstance(first, list):
        return all(map(same, first, second))
    return np.array_equal(np.asarray(first), np.asarray(second))


def expect_x0_of_euler(run, steps):
    """Compares x0 with the states before and after each step: `x = (1 - s) * x0 + s * noise` on a straight line."""
    saved = [SavedRun.open(run.folder).latents(index) for index in range(1, steps + 1)]
    sigmas = run.manifest()["sampler"]["sigmas"]
    for i in range(steps - 1):
        (s, after), (x, x_after) = sigmas[i : i + 2], (saved[i].noisy.double(), saved[i + 1].noisy.double())
        expected = (s * x_after - after * x) / (s - after)
        torch.testing.assert_close(saved[i].denoised.double(), expected, rtol=5e-3, atol=5e-3)


def test_every_modular_pipeline_of_diffusers_has_a_test():
    names = {name for name in dir(diffusers) if name.endswith("ModularPipeline")} - {"ModularPipeline"}
    assert {name.removesuffix("ModularPipeline") for name in names} <= set(MODULAR)


def test_a_watched_run_has_the_same_result_and_correct_previews(family, tmp_path, monkeypatch):
    tiny, pipe = MODULAR[family], tiny_modular.create(family)
    plain = tiny.run(pipe)
    attributes, decoded = attributes_of(pipe), []
    rng = torch.get_rng_state()
    with monkeypatch.context() as patch:
        if tiny.decodes_whole:
            decode = pipe.vae.decode
            patch.setattr(pipe.vae, "decode", lambda z, *a, **k: (decoded.append(z.clone()), decode(z, *a, **k))[1])
        with watch(pipe, tmp_path, screen="off", keep_latents=True) as run:
            result = tiny.run(pipe)
    # The result is bit-identical, and nothing is left.
    assert same(plain, result)
    assert torch.equal(rng, torch.get_rng_state())
    assert attributes_of(pipe) == attributes
    # There is a picture for each step, with the right space and shape.
    assert [len(each.pictures) for each in run.runs] == list(tiny.steps)
    manifest = run.manifest()
    assert (manifest["space"], manifest["state"], manifest["notes"]) == (tiny.space, "finished", list(tiny.notes))
    assert {picture.show for picture in run.pictures} == {"denoised"}
    assert manifest["host"]["pipeline"] == f"{family}ModularPipeline"
    assert (manifest["sampler"]["seed"], manifest["sampler"]["steps"]) == (3, tiny.steps[-1])
    assert None not in manifest["sampler"]["sigmas"][:-1]
    if isinstance(getattr(pipe, "scheduler", None), diffusers.FlowMatchEulerDiscreteScheduler):
        expect_x0_of_euler(run, tiny.steps[-1])
    # The last x0 is what the VAE decodes, or what the pipeline returns as its latents.
    space = SPACES[tiny.space]
    last = space.unpack(SavedRun.open(run.folder).latents(tiny.steps[-1]).denoised)
    assert last.shape == (1, *tiny.latents)
    final = space.to_model(decoded[0][:1]) if tiny.decodes_whole else result
    if isinstance(final, torch.Tensor):
        last = last[:, :, slice(*tiny.decoded)]
        final = final.transpose(1, 2) if final.ndim == 3 else final  # tokens
        torch.testing.assert_close(last, final.reshape(last.shape), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    "family", ["Flux3", "Ideogram4", "Krea2", "ZImage", "QwenImage21", "Cosmos3Omni"], indirect=True
)
def test_decoder_full_decodes_the_picture_of_the_pipeline(family):
    pipe = tiny_modular.create(family)
    with watch(pipe, screen="off", decoder="full") as run:
        result = np.asarray(sample(pipe, family))
    picture, image = run.pictures[-1], torch.tensor(result.reshape(-1, *result.shape[-3:])[0]).movedim(-1, 0)
    assert (picture.card.kind, run.notes) == ("full", [])
    expected = over_checkerboard(image[None])[0].movedim(0, -1).numpy() * 255
    assert np.abs(picture.first - expected).max() <= 1.01


# Latent space


@pytest.mark.parametrize("family", ["Flux", "Flux3", "QwenImage", "StableDiffusion3", "LTX"], indirect=True)
def test_without_a_vae_the_blocks_say_the_latent_space(family):
    pipe = tiny_modular.create(family, without=("decode",), components=("vae",))
    assert getattr(pipe, "vae", None) is None
    with watch(pipe, screen="off") as run:
        MODULAR[family].run(pipe, output="latents")
    assert (run.runs[0].run.space, run.notes) == (MODULAR[family].space, [])


def test_a_decoder_that_is_not_loaded_says_the_latent_space():
    """Blocks of the user's own, whose class and whose pipeline's class say nothing."""
    pipe = tiny_modular.create("Flux2", components=("vae",))
    denoise = pipe.blocks.sub_blocks["denoise"]

    class Mine(type(loop_blocks(pipe)[0])):
        pass

    for auto in denoise.sub_blocks.values():
        auto.sub_blocks["denoise"] = Mine()
    blocks = diffusers.SequentialPipelineBlocks.from_blocks_dict(
        {"denoise": denoise, "decode": pipe.blocks.sub_blocks["decode"]}
    )
    mine = diffusers.ModularPipeline(blocks)
    assert type(mine) is diffusers.ModularPipeline
    with watch(mine, screen="off", decoder="principal") as run:
        pass
    assert run.runs == []
    from safelight.hosts.diffusers.facts import evidence_of, space_of
    from safelight.hosts.diffusers.pipeline_families import DEFAULT_FAMILY

    assert space_of(mine, DEFAULT_FAMILY, evidence_of(mine, SPACES), SPACES).name == "flux2"


def test_a_pipeline_of_blocks_without_a_class_of_its_own_is_watched(flux):
    pipe = diffusers.ModularPipeline(flux.blocks)
    pipe.update_components(**flux.components)
    pipe.vae_scale_factor, pipe.num_channels_latents, pipe.default_height = 2, 16, 32
    pipe.default_width = 48
    plain = sample(flux)
    with watch(pipe, screen="off") as run:
        result = sample(pipe)
    assert same(plain, result)
    assert steps_of(run) == [ALL_STEPS]
    assert (run.runs[0].run.space, run.notes) == ("flux1", [])


# Runs


def test_every_call_is_a_run_and_options_apply(flux, tmp_path):
    with watch(flux, tmp_path, screen="off", every_n_steps=2, decoder="full") as run:
        sample(flux)
        sample(flux, num_inference_steps=4)
    assert steps_of(run) == [[(1, 3), (3, 3)], [(1, 4), (3, 4), (4, 4)]]
    assert [each.pictures[-1].card.kind for each in run.runs] == ["full", "full"]
    assert run.manifest()["truth"]["psnr_db"] is not None
    sample(flux)
    assert len(run.runs) == 2


def test_stop_leaves_the_remaining_steps_out_and_the_pipeline_decodes_what_it_has(flux):
    calls = []
    forward = flux.transformer.forward

    def stopping(*args, **kwargs):
        calls.append(len(calls))
        if len(calls) == 2:
            other = threading.Thread(target=run.stop)
            other.start()
            other.join()
        return forward(*args, **kwargs)

    flux.transformer.forward = stopping
    with watch(flux, screen="off") as run:
        result = sample(flux)
        first = run.runs[0]
        assert (len(calls), first.state, steps_of(run)) == (2, "interrupted", [ALL_STEPS[:2]])
        flux.transformer.forward = forward
        again = sample(flux)
    assert result.shape == again.shape
    assert steps_of(run)[1] == ALL_STEPS
    assert run.stop() is False
    assert not {"loop_step", "progress_bar"} & set(vars(loop_blocks(flux)[0]))


def test_a_loop_without_a_bar_of_its_blocks_cannot_be_stopped():
    pipe = tiny_modular.create("Helios")
    forward, errors = pipe.transformer.forward, []

    def stopping(*args, **kwargs):
        if run.runs:
            with pytest.raises(RunError, match="cannot be stopped") as error:
                run.stop()
            errors.append(error)
        return forward(*args, **kwargs)

    pipe.transformer.forward = stopping
    with watch(pipe, screen="off") as run:
        MODULAR["Helios"].run(pipe)
    assert errors
    assert len(run.pictures) == STEPS


def test_an_exception_of_a_block_ends_the_run(flux):
    def fail(*args, **kwargs):
        if run.runs:
            raise KeyError("no")
        return forward(*args, **kwargs)

    sample(flux)
    forward, flux.transformer.forward = flux.transformer.forward, fail
    attributes = attributes_of(flux)
    with watch(flux, screen="off") as run, pytest.raises(KeyError):
        sample(flux)
    assert (run.runs[0].state, steps_of(run)) == ("failed", [ALL_STEPS[:1]])
    assert attributes_of(flux) == attributes


def test_copies_of_blocks_and_pipelines_have_no_hooks(flux):
    with watch(flux, screen="off") as run:
        blocks = flux.blocks
        copied = copy.copy(flux)
        sample(copied)
        deep = copy.deepcopy(flux)
    assert steps_of(run) == [ALL_STEPS]
    for pipe in (flux, copied, deep):
        assert not {"loop_step", "progress_bar", "__getstate__"} & set(vars(loop_blocks(pipe)[0]))
    assert not {"loop_step", "progress_bar"} & set(vars(blocks.sub_blocks["denoise"].sub_blocks["denoise"]))


def test_a_loop_that_the_user_writes_over_the_components_is_watched(flux):
    with watch(flux, screen="off", space="flux1") as run:
        flux.scheduler.set_timesteps(STEPS)
        latents = torch.randn(1, 16, 6, 8)
        for t in flux.scheduler.timesteps:
            latents = flux.scheduler.step(latents * 0.1, t, latents).prev_sample
    assert steps_of(run) == [ALL_STEPS]


@pytest.mark.parametrize("family", ["Flux", "Helios"], indirect=True)
def test_a_call_in_another_thread_is_watched(family):
    pipe = tiny_modular.create(family)
    plain = sample(pipe, family)
    with watch(pipe, screen="off") as run, ThreadPoolExecutor(1) as pool:
        result = pool.submit(sample, pipe, family).result()
    assert same(plain, result)
    assert steps_of(run) == [ALL_STEPS]


def test_previews_for_gradio_yield_the_steps_and_the_image(flux):
    generator = torch.Generator().manual_seed(3)
    pictures = list(previews(flux, num_inference_steps=STEPS, generator=generator, **MODULAR["Flux"].call()))
    assert (len(pictures) > 1, pictures[-1].size) == (True, (48, 32))


def test_nothing_was_sampled(flux, caplog):
    with watch(flux, screen="off") as run:
        pass
    assert run.notes == [caplog.messages[-1]]
    assert run.notes[0].startswith("no sampler call of FluxModularPipeline was seen in this block")
    assert "Safelight follows the loops of this pipeline's blocks" in run.notes[0]


def test_what_is_no_modular_pipeline_and_wrong_options_are_refused(flux):
    assert is_modular(flux)
    assert not is_modular(diffusers.ModularPipeline)
    with pytest.raises(TypeError, match="got a FluxModularPipeline; use `with watch"):
        Previews(flux)
    with pytest.raises(OptionError, match="vae: expected no VAE with a pipeline"):
        watch(flux, vae=flux.vae).__enter__()
    with pytest.raises(TypeError, match="got the class FluxModularPipeline; create an object of it first"):
        watch(type(flux)).__enter__()
