"""Pipelines of the same families with another input: masks, control pictures, parts of an image, other guidance."""

import inspect
from concurrent.futures import ThreadPoolExecutor

import diffusers
import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from PIL import Image
from safelight.hosts.diffusers import watch

from ... import older

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 4
HEIGHT, WIDTH = 32, 48


def picture(height=HEIGHT, width=WIDTH):
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


def mask(height=HEIGHT, width=WIDTH):
    """The right half is sampled."""
    return Image.fromarray(np.repeat([[0] * (width // 2) + [255] * (width // 2)], height, 0).astype(np.uint8))


def controlnet(pipe):
    return diffusers.ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(4, 8))


def of_unet(**more):
    """A part in place of the UNet of Stable Diffusion."""
    return lambda _pipe: {"unet": tiny.unet(**more)}


def of_controlnet(pipe):
    return {"controlnet": controlnet(pipe)}


def of_flux(**more):
    """A part in place of the transformer of FLUX."""

    def parts(pipe):
        config = {name: value for name, value in pipe.transformer.config.items() if not name.startswith("_")}
        return {"transformer": diffusers.FluxTransformer2DModel(**{**config, **more})}

    return parts


def of_config(kind):
    """A ControlNet of a class, with the settings of the pipeline's transformer."""

    def parts(pipe):
        model = getattr(diffusers, kind)
        names = inspect.signature(model.__init__).parameters
        return {
            "controlnet": model(**{name: value for name, value in pipe.transformer.config.items() if name in names})
        }

    return parts


def of_cogview4(pipe):
    """The transformer of CogView4 with the latents of a control picture beside its own."""
    return {"transformer": diffusers.CogView4Transformer2DModel(**{**pipe.transformer.config, "in_channels": 32})}


HALF = {"strength": 0.5}
IMAGE, MASK = {"image": picture()}, {"mask_image": mask()}
CONTROL = {"control_image": picture()}
NONE = lambda _pipe: {}  # noqa: E731

# Class, family, parts that differ, arguments that differ, number of steps.
RELATIVES = [
    ("StableDiffusionImg2ImgPipeline", "StableDiffusion", NONE, {**IMAGE, **HALF}, 2),
    ("StableDiffusionInpaintPipeline", "StableDiffusion", NONE, {**IMAGE, **MASK}, 4),
    ("StableDiffusionInpaintPipeline", "StableDiffusion", of_unet(in_channels=9), {**IMAGE, **MASK}, 4),
    ("StableDiffusionInstructPix2PixPipeline", "StableDiffusion", of_unet(in_channels=8), IMAGE, 4),
    ("StableDiffusionControlNetPipeline", "StableDiffusion", of_controlnet, IMAGE, 4),
    ("StableDiffusionControlNetImg2ImgPipeline", "StableDiffusion", of_controlnet, {**IMAGE, **CONTROL, **HALF}, 2),
    ("StableDiffusionControlNetInpaintPipeline", "StableDiffusion", of_controlnet, {**IMAGE, **CONTROL, **MASK}, 4),
    ("StableDiffusionPAGPipeline", "StableDiffusion", NONE, {"pag_scale": 0.0}, 4),
    (
        "StableDiffusionSAGPipeline",
        "StableDiffusion",
        lambda _: {"scheduler": diffusers.DDIMScheduler(**tiny.OLD)},
        {"sag_scale": 0.0},
        4,
    ),
    ("StableDiffusionXLInpaintPipeline", "StableDiffusionXL", NONE, {**IMAGE, **MASK, **HALF}, 2),
    ("StableDiffusionXLControlNetPipeline", "StableDiffusionXL", of_controlnet, IMAGE, 4),
    ("StableDiffusionXLControlNetImg2ImgPipeline", "StableDiffusionXL", of_controlnet, {**IMAGE, **CONTROL, **HALF}, 2),
    (
        "StableDiffusionXLControlNetInpaintPipeline",
        "StableDiffusionXL",
        of_controlnet,
        {**IMAGE, **CONTROL, **MASK, **HALF},
        2,
    ),
    ("StableDiffusionXLPAGPipeline", "StableDiffusionXL", NONE, {"pag_scale": 0.0}, 4),
    ("StableDiffusion3Img2ImgPipeline", "StableDiffusion3", NONE, {**IMAGE, **HALF}, 2),
    ("StableDiffusion3InpaintPipeline", "StableDiffusion3", NONE, {**IMAGE, **MASK, **HALF}, 2),
    ("StableDiffusion3ControlNetPipeline", "StableDiffusion3", of_config("SD3ControlNetModel"), CONTROL, 4),
    ("StableDiffusion3PAGPipeline", "StableDiffusion3", NONE, {"pag_scale": 0.0}, 4),
    ("FluxInpaintPipeline", "Flux", NONE, {**IMAGE, **MASK, **HALF}, 2),
    ("FluxKontextPipeline", "Flux", NONE, {**IMAGE, "max_area": HEIGHT * WIDTH, "_auto_resize": False}, 4),
    ("FluxControlPipeline", "Flux", of_flux(in_channels=128, out_channels=64), CONTROL, 4),
    ("FluxControlImg2ImgPipeline", "Flux", of_flux(in_channels=128, out_channels=64), {**IMAGE, **CONTROL, **HALF}, 2),
    ("FluxFillPipeline", "Flux", of_flux(in_channels=2 * 64 + 16, out_channels=64), {**IMAGE, **MASK}, 4),
    ("FluxControlNetPipeline", "Flux", of_config("FluxControlNetModel"), CONTROL, 4),
    ("QwenImageInpaintPipeline", "QwenImage", NONE, {**IMAGE, **MASK, **HALF}, 2),
    ("QwenImageControlNetPipeline", "QwenImage", of_config("QwenImageControlNetModel"), CONTROL, 4),
    ("ChromaImg2ImgPipeline", "Chroma", NONE, {**IMAGE, **HALF}, 2),
    ("ZImageImg2ImgPipeline", "ZImage", NONE, {**IMAGE, **HALF}, 2),
    ("ZImageInpaintPipeline", "ZImage", NONE, {**IMAGE, **MASK}, 4),
    ("PixArtAlphaPipeline", "PixArtSigma", NONE, {}, 4),
    ("CogVideoXVideoToVideoPipeline", "CogVideoX", NONE, {"video": [picture()] * 9, **HALF}, 2),
    (
        "LatentConsistencyModelPipeline",
        "StableDiffusion",
        lambda _: {"unet": tiny.unet(time_cond_proj_dim=8), "scheduler": diffusers.LCMScheduler(**tiny.OLD)},
        {},
        4,
    ),
    ("SkyReelsV2Pipeline", "Wan", NONE, {}, 4),
    (
        "WanVACEPipeline",
        "Wan",
        lambda _: {
            "transformer": tiny.wan_transformer("WanVACETransformer3DModel", vace_layers=[0], vace_in_channels=96)
        },
        {},
        4,
    ),
    ("CogView4ControlPipeline", "CogView4", of_cogview4, CONTROL, 4),
]


@pytest.mark.parametrize(
    ("kind", "family", "parts", "more", "steps"), RELATIVES, ids=lambda value: value if type(value) is str else ""
)
def test_a_related_pipeline_is_watched(make, kind, family, parts, more, steps):
    row, pipe = make(family)
    older.expect(hasattr(diffusers, kind), "diffusers", diffusers.__version__, kind)
    torch.manual_seed(0)
    names = inspect.signature(getattr(diffusers, kind).__init__).parameters
    given = {name: part for name, part in {**pipe.components, **parts(pipe)}.items() if name in names}
    given |= {
        name: None
        for name in names
        if name != "self" and name not in given and names[name].default is inspect.Parameter.empty
    }
    related = getattr(diffusers, kind)(**given)
    related.set_progress_bar_config(disable=True)
    accepted = inspect.signature(related.__call__).parameters
    arguments = {name: value for name, value in {**row.call(), **more}.items() if name in accepted}

    def sample():
        torch.manual_seed(0)  # some pipelines draw without the generator
        output = related(
            num_inference_steps=STEPS, generator=torch.Generator().manual_seed(3), output_type="np", **arguments
        )
        return np.asarray(getattr(output, row.output))

    plain = sample()
    with watch(related, screen="off") as run:
        result = sample()
    assert np.array_equal(plain, result, equal_nan=True)
    assert [(p.index, p.total, p.show) for p in run.pictures] == [(i + 1, steps, "denoised") for i in range(steps)]
    height, width = row.latents[-2:]
    assert {shown.shown[0] / shown.shown[1] for shown in run.pictures} == {width / height}
    assert run.notes == []
    assert run.runs[-1].run.space == row.space


def accelerate():
    return pytest.importorskip("accelerate")


# `enable_sequential_cpu_offload` gives each of these models such hooks.
OFFLOADS = {
    "model": lambda pipe: pipe.enable_model_cpu_offload(device="cpu"),
    "sequential": lambda pipe: [accelerate().cpu_offload(part, torch.device("cpu")) for part in (pipe.unet, pipe.vae)],
    "groups": lambda pipe: pipe.enable_group_offload(torch.device("cpu"), offload_type="leaf_level"),
    "compiled": lambda pipe: setattr(pipe, "unet", torch.compile(pipe.unet, backend="eager")),
    "compiled in place": lambda pipe: pipe.unet.compile(backend="eager"),
}


@pytest.fixture
def own_sd1(make):
    """A pipeline of Stable Diffusion that no other test uses."""

    def new():
        torch.manual_seed(0)
        pipe = tiny.sd1()
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return new


@pytest.mark.parametrize("how", OFFLOADS)
def test_a_pipeline_that_is_offloaded_or_compiled_is_watched(own_sd1, how, tmp_path):
    accelerate()
    row, pipe = tiny.FAMILIES["StableDiffusion"], own_sd1()
    expected = row.run(pipe)
    OFFLOADS[how](pipe)
    plain = row.run(pipe)
    with watch(pipe, tmp_path, screen="off") as run:
        result = row.run(pipe)
    assert np.array_equal(plain, result)
    assert np.allclose(expected, result, atol=1e-5)
    assert [(p.index, p.show) for p in run.pictures] == [(i + 1, "denoised") for i in range(tiny.STEPS)]
    assert (run.manifest()["space"], run.manifest()["state"], run.notes) == ("sd1", "finished", [])


def test_several_pipelines_are_watched_on_threads(own_sd1, make, tmp_path):
    """Each thread has a pipeline of its own, some of other families, and a block of its own."""
    rows = [tiny.FAMILIES[name] for name in ("StableDiffusion", "Flux", "StableDiffusion", "StableDiffusion3")]
    pipes = [own_sd1(), make("Flux")[1], own_sd1(), make("StableDiffusion3")[1]]
    plain = [row.run(pipe) for row, pipe in zip(rows, pipes, strict=True)]

    def sample(number):
        with watch(pipes[number], tmp_path / str(number), screen="off") as run:
            return rows[number].run(pipes[number]), run

    with ThreadPoolExecutor(len(rows)) as pool:
        found = [each.result() for each in [pool.submit(sample, number) for number in range(len(rows))]]
    for number, (result, run) in enumerate(found):
        assert np.array_equal(plain[number], result)
        assert [p.index for p in run.pictures] == [1, 2, 3, 4]
        assert len(run.runs) == 1
        assert run.manifest()["space"] == rows[number].space
        assert run.folder == tmp_path / str(number) / "steps_00001"


def test_several_pipelines_in_one_block_are_watched_on_threads(own_sd1, make, tmp_path):
    rows = [tiny.FAMILIES[name] for name in ("StableDiffusion", "Flux", "StableDiffusion")]
    pipes = [own_sd1(), make("Flux")[1], own_sd1()]
    plain = [row.run(pipe) for row, pipe in zip(rows, pipes, strict=True)]
    with watch(pipes, tmp_path, screen="off") as watched, ThreadPoolExecutor(len(rows)) as pool:
        calls = [pool.submit(row.run, pipe) for row, pipe in zip(rows, pipes, strict=True)]
        results = [call.result() for call in calls]
    assert all(map(np.array_equal, plain, results))
    assert sorted(run.run.space for run in watched.runs) == ["flux1", "sd1", "sd1"]
    assert [[p.index for p in run.pictures] for run in watched.runs] == [[1, 2, 3, 4]] * 3
    assert {run.folder.parent for run in watched.runs} == {tmp_path}
