"""The latent space of a pipeline: by its VAE, its class and its denoiser, and unknown where these leave a doubt."""

import inspect
from contextlib import suppress

import diffusers
import pytest
from safelight.decoders.latents.space_table import SPACES
from safelight.hosts.diffusers.facts import evidence_of, space_of, space_or_unknown
from safelight.hosts.diffusers.pipeline_families import family_of
from tiny_models import kl


class Config(dict):
    __getattr__ = dict.__getitem__


def pipe_of(name, vae=None, **config):
    autoencoder = None if vae is None else type(vae, (), {"config": Config(config)})()
    return type(name, (), {"vae": autoencoder})()


@pytest.mark.parametrize(
    ("pipe", "channels", "space"),
    [
        (pipe_of("StableDiffusionPipeline", "AutoencoderKL", latent_channels=4, scaling_factor=0.18215), 4, "sd1"),
        (pipe_of("PixArtSigmaPipeline", "AutoencoderKL", latent_channels=4, scaling_factor=0.13025), 4, "sdxl"),
        (pipe_of("CogView4Pipeline", "AutoencoderKL", latent_channels=16, scaling_factor=1.0), 16, "cogview4"),
        (pipe_of("WanPipeline", "AutoencoderKLWan", z_dim=16), 16, "wan21"),
        (pipe_of("WanPipeline", "AutoencoderKLWan", z_dim=48), 48, "wan22"),
        (pipe_of("CosmosPipeline", "AutoencoderKLWan", z_dim=16), None, "wan21"),
        (pipe_of("CogVideoXPipeline", "AutoencoderKLCogVideoX", z_dim=16, scaling_factor=0.7), 16, "cogvideox15"),
        (pipe_of("FluxPipeline", "AutoencoderTiny", latent_channels=16, scaling_factor=1.0), None, "flux1"),
        (pipe_of("HunyuanVideo15Pipeline"), None, "hunyuan_video15"),
        (pipe_of("StableDiffusionXLPipeline", "AutoencoderKL", scaling_factor=0.5), 4, "playground25"),
        (pipe_of("DDIMPipeline"), 3, "pixels"),
        (pipe_of("DDIMPipeline"), 5, "unknown"),
    ],
)
def test_the_vae_decides_the_space_or_else_the_pipeline(pipe, channels, space):
    assert space_of(pipe, family_of(type(pipe)), evidence_of(pipe, SPACES, channels), SPACES).name == space


def pipe_with(name, vae, *bases):
    return type(name, bases, {"vae": vae})()


def compiled(vae):
    return type("OptimizedModule", (), {"_orig_mod": vae, "config": vae.config})()


def space_and_note(pipe, channels=4):
    family = family_of(type(pipe))
    found, note = space_or_unknown(pipe, family, evidence_of(pipe, SPACES, channels), SPACES)
    return found.name, note


@pytest.mark.parametrize("name", ["KandinskyPipeline", "KandinskyV22Pipeline", "Kandinsky3Pipeline", "MyPipeline"])
def test_the_default_scale_of_another_vae_class_identifies_nothing(name):
    pipe = type(name, (), {"vae": None, "movq": movq()})()
    space, note = space_and_note(pipe)
    assert space == "unknown"
    assert note == (
        f"the latents of {name} are of an unknown space: its VAE is a VQModel, and no known space has its class and "
        "numbers. The colors of the pictures are not those of the image; if you know the space, pass space="
    )


def test_a_default_scale_that_means_another_space_than_the_pipeline_is_doubtful():
    space, note = space_and_note(pipe_with("StableDiffusionXLPipeline", kl(4, 0.18215)))
    assert space == "unknown"
    assert note.startswith(
        "StableDiffusionXLPipeline samples latents of Stable Diffusion XL, but its AutoencoderKL has the scale 0.18215 "
        "of Stable Diffusion 1 and 2, which is also the default of this class."
    )


def test_contradicting_numbers_are_noted_in_words():
    space, note = space_and_note(pipe_with("FluxPipeline", kl(16, 0.2)), 16)
    assert space == "unknown"
    assert "Evidence(" not in note
    assert "diffusers gives: 16 channels, scale 0.2, model FluxPipeline" in note


def with_unet(kind, vae=None, **config):
    """A pipeline of a class, without its other parts."""
    pipe = object.__new__(kind)
    vars(pipe).update(vae=kl(4, 0.18215) if vae is None else vae)
    if config:
        vars(pipe)["unet"] = type("UNet2DConditionModel", (), {"config": Config(config)})()
    return pipe


class MyPipeline(diffusers.DiffusionPipeline):
    pass


class MySdxlPipeline(diffusers.StableDiffusionXLPipeline):
    pass


class MySd1Pipeline(diffusers.StableDiffusionImg2ImgPipeline):
    pass


SD1_UNET, SD2_UNET = ({"in_channels": 4, "cross_attention_dim": width} for width in (768, 1024))


@pytest.mark.parametrize(
    ("pipe", "space", "reason"),
    [
        (
            with_unet(MyPipeline),
            "unknown",
            "MyPipeline are of an unknown space: its AutoencoderKL has the scale 0.18215",
        ),
        (with_unet(MyPipeline, **SD1_UNET), "sd1", None),
        (with_unet(MyPipeline, **SD2_UNET), "sd1", None),
        (with_unet(MyPipeline, **SD1_UNET | {"in_channels": 9}), "sd1", None),
        (
            with_unet(MyPipeline, **SD1_UNET | {"cross_attention_dim": 2048}),
            "unknown",
            "neither the pipeline's class nor",
        ),
        (with_unet(MyPipeline, **SD1_UNET | {"cross_attention_dim": (768, 768)}), "unknown", "says nothing"),
        (with_unet(MyPipeline, **SD1_UNET | {"in_channels": 7}), "unknown", "says nothing"),
        (with_unet(MyPipeline, kl(8, 0.18215), **SD1_UNET), "unknown", "says nothing"),
        (with_unet(MyPipeline, kl(4, 0.13025)), "sdxl", None),
        (with_unet(MySd1Pipeline), "sd1", None),
        (with_unet(MySdxlPipeline), "unknown", "MySdxlPipeline samples latents of Stable Diffusion XL, but its"),
        (with_unet(MySdxlPipeline, kl(4, 0.13025)), "sdxl", None),
        (with_unet(diffusers.FluxPipeline, kl(16, 0.18215)), "unknown", "which is the default of this class."),
        (with_unet(diffusers.StableDiffusionUpscalePipeline, kl(4, 0.08333)), "sd_x4", None),
        (with_unet(diffusers.StableDiffusionUpscalePipeline), "unknown", "of Stable Diffusion 1 and 2, which is also"),
    ],
)
def test_a_default_scale_needs_the_pipeline_s_class_or_its_denoiser(pipe, space, reason):
    found, note = space_and_note(pipe, None)
    assert (found, note is None) == (space, reason is None)
    assert reason is None or reason in note


# Pipelines of diffusers 0.42.1 whose checkpoints have the VAE of Stable Diffusion 1 and 2.
WITH_VAE_OF_SD1 = {
    *("AltDiffusion", "AltDiffusionImg2Img", "BlipDiffusion", "BlipDiffusionControlNet", "CycleDiffusion", "DiT"),
    *("AnimateDiff", "AnimateDiffControlNet", "AnimateDiffPAG", "AnimateDiffSparseControlNet", "I2VGenXL", "Latte"),
    *("AnimateDiffVideoToVideo", "AnimateDiffVideoToVideoControlNet", "LatentConsistencyModel", "PIA", "PixArtAlpha"),
    *("LatentConsistencyModelImg2Img", "MarigoldDepth", "MarigoldIntrinsics", "MarigoldNormals", "PaintByExample"),
    *("SemanticStableDiffusion", "StableUnCLIP", "StableUnCLIPImg2Img", "StableVideoDiffusion", "TextToVideoSD"),
    *("VideoToVideoSD", "TextToVideoZero", "VersatileDiffusion", "VersatileDiffusionDualGuided"),
    *("VersatileDiffusionImageVariation", "VersatileDiffusionTextToImage", "LEditsPPPipelineStableDiffusion"),
}
OTHER_VAE = ("StableDiffusion3", "StableDiffusionXL", "StableDiffusionUpscale")
FEWEST_PIPELINES = {"0.42": 230}  # with a `vae`, by version of diffusers


def pipelines_with_vae():
    found = {}
    for name in dir(diffusers):
        with suppress(RuntimeError, ImportError):  # of libraries that are not installed
            kind = getattr(diffusers, name)
            is_pipeline = inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline)
            if is_pipeline and "vae" in inspect.signature(kind.__init__).parameters:
                found[name.removesuffix("Pipeline")] = kind
    return found


PIPELINES = pipelines_with_vae()


@pytest.mark.parametrize("name", PIPELINES)
def test_only_pipelines_with_the_vae_of_stable_diffusion_have_its_space_by_a_default_scale(name):
    found, note = space_and_note(with_unet(PIPELINES[name]), None)
    has_vae_of_sd1 = name in WITH_VAE_OF_SD1 or (name.startswith("StableDiffusion") and not name.startswith(OTHER_VAE))
    assert found == ("sd1" if has_vae_of_sd1 else "unknown")
    assert (note is None) == has_vae_of_sd1
    if note is not None:
        assert "Evidence(" not in note
        assert name in note


def test_most_pipelines_of_diffusers_were_checked():
    version = ".".join(diffusers.__version__.split(".")[:2])
    assert len(PIPELINES) >= FEWEST_PIPELINES.get(version, 150)


def test_numbers_of_an_unknown_vae_class_count_more_than_the_pipeline():
    pipe = pipe_of("StableDiffusionPipeline", "MyVae", latent_channels=4, scaling_factor=0.9)
    assert space_and_note(pipe)[0] == "unknown"


@pytest.mark.parametrize("wrap", [lambda vae: vae, compiled], ids=["plain", "compiled"])
def test_a_subclass_of_a_known_vae_class_or_a_compiled_vae_is_known(wrap):
    class MyVae(diffusers.AutoencoderKL):
        pass

    vae = kl(4, 0.18215)
    vae.__class__ = MyVae
    assert space_and_note(pipe_with("StableDiffusionOfMine", wrap(vae))) == ("sd1", None)


def movq():
    return diffusers.VQModel(block_out_channels=(4,), norm_num_groups=2, latent_channels=4, num_vq_embeddings=8)
