"""Further families of pipelines, with layouts, latent spaces or denoisers of their own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import diffusers
import numpy as np
import pytest
import tiny_pipelines as tiny
import torch
from safelight.hosts.diffusers import watch

from ... import older

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 4
SIZE = {"height": 32, "width": 48}
WIDE = 1.5


class Family(NamedTuple):
    """A pipeline: its class, its parts, the arguments of its call, its latent space, and the aspect of its pictures."""

    kind: str
    parts: Callable[[], dict[str, Any]]
    call: Callable[[], dict[str, Any]]
    space: str
    aspect: float = WIDE
    output: str = "images"
    notes: Sequence[str] = []


def like_flux(kind, **more):
    """The parts of a pipeline with the latents of FLUX.1 and a transformer of its own."""

    def parts():
        config = {
            "in_channels": 64,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 1,
            "joint_attention_dim": 8,
            "axes_dims_rope": [4, 4, 8],
        }
        transformer = getattr(diffusers, kind)(**{**config, **more})
        return {"scheduler": tiny.flow(), "vae": tiny.kl(16, 0.3611, 0.1159), "transformer": transformer}

    return parts


def dit():
    transformer = diffusers.DiTTransformer2DModel(
        sample_size=16,
        num_layers=1,
        patch_size=4,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        num_embeds_ada_norm=1000,
        norm_num_groups=2,
    )
    return {"transformer": transformer, "vae": tiny.kl(4, 0.18215), "scheduler": diffusers.DDIMScheduler()}


def animate_diff():
    adapter = diffusers.MotionAdapter(
        block_out_channels=(4, 8), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=2
    )
    scheduler = diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=False)
    return {"vae": tiny.kl(4, 0.18215), "unet": tiny.unet(), "motion_adapter": adapter, "scheduler": scheduler}


def latte():
    transformer = diffusers.LatteTransformer3DModel(
        sample_size=16,
        num_layers=1,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=8,
        in_channels=4,
        cross_attention_dim=16,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        video_length=2,
    )
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    return {"vae": tiny.kl(4, 0.18215), "transformer": transformer, "scheduler": scheduler}


def lumina():
    transformer = diffusers.LuminaNextDiT2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        hidden_size=24,
        num_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=16,
        cross_attention_dim=8,
        learn_sigma=True,
    )
    return {"transformer": transformer, "scheduler": tiny.flow(), "vae": tiny.kl(4, 0.13025)}


def prx():
    transformer = diffusers.PRXTransformer2DModel(
        in_channels=16, patch_size=2, context_in_dim=8, hidden_size=16, num_heads=2, depth=1, axes_dim=[4, 4]
    )
    return {"transformer": transformer, "scheduler": tiny.flow(), "vae": tiny.kl(16, 0.3611, 0.1159)}


def cascade_prior():
    prior = diffusers.StableCascadeUNet(
        conditioning_dim=16,
        block_out_channels=(16, 16),
        num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        clip_image_in_channels=8,
        clip_text_in_channels=8,
        clip_text_pooled_in_channels=8,
    )
    text_encoder = torch.nn.Linear(1, 1)  # only its dtype and its device are read
    text_encoder.dtype, text_encoder.device = torch.float32, torch.device("cpu")
    return {"prior": prior, "scheduler": diffusers.DDPMWuerstchenScheduler(), "text_encoder": text_encoder}


def unet_of_images(**more):
    """A UNet with the blocks of DeepFloyd IF and Kandinsky."""
    return tiny.unet(
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        **more,
    )


def deep_floyd():
    unet = unet_of_images(in_channels=3, out_channels=6)
    return {"unet": unet, "scheduler": diffusers.DDPMScheduler(variance_type="learned_range")}


def kandinsky():
    unet = unet_of_images(
        out_channels=8, addition_embed_type="image", encoder_hid_dim=8, encoder_hid_dim_type="image_proj"
    )
    movq = diffusers.VQModel(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
        norm_type="spatial",
        num_vq_embeddings=8,
        vq_embed_dim=4,
    )
    return {"unet": unet, "movq": movq, "scheduler": diffusers.DDIMScheduler(clip_sample=False)}


def hunyuan_image():
    transformer = diffusers.HunyuanImageTransformer2DModel(
        in_channels=64,
        out_channels=64,
        num_attention_heads=1,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        guidance_embeds=True,
        text_embed_dim=8,
        text_embed_2_dim=8,
        rope_axes_dim=(8, 8),
    )
    vae = diffusers.AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=64,
        block_out_channels=(128, 128),
        layers_per_block=1,
        spatial_compression_ratio=2,
        scaling_factor=0.75289,
        sample_size=32,
    )
    return {"transformer": transformer, "vae": vae, "scheduler": tiny.flow()}


def arguments(**more):
    """Arguments of a call; tuples are shapes of noise."""
    return lambda: {
        name: tiny.noise(*value) if type(value) is tuple else value for name, value in {**SIZE, **more}.items()
    }


def text(**more):
    return arguments(prompt_embeds=(1, 6, 8), guidance_scale=1.0, **more)


MASK = {"prompt_attention_mask": torch.ones(1, 6).bool()}
WURSTCHEN = {"height": 1024, "width": 1536, "prompt_embeds_pooled": (1, 1, 8)}
FAMILIES = [
    Family("OvisImagePipeline", like_flux("OvisImageTransformer2DModel"), text(), "flux1"),
    Family("BriaPipeline", like_flux("BriaTransformer2DModel"), text(), "flux1"),
    Family("PRXPipeline", prx, text(use_resolution_binning=False, **MASK), "flux1"),
    Family("LuminaPipeline", lumina, text(**MASK), "sdxl"),
    Family("DiTPipeline", dit, lambda: {"class_labels": [1], "guidance_scale": 1.0}, "sd1", aspect=1.0),
    Family("AnimateDiffPipeline", animate_diff, text(num_frames=2), "sd1", output="frames"),
    Family(
        "LattePipeline", latte, text(video_length=2, mask_feature=False, clean_caption=False), "sd1", output="frames"
    ),
    Family("StableCascadePriorPipeline", cascade_prior, text(**WURSTCHEN), "cascade_prior", output="image_embeddings"),
    Family(
        "KandinskyV22Pipeline",
        kandinsky,
        arguments(height=128, width=192, image_embeds=(1, 8), negative_image_embeds=(1, 8), guidance_scale=1.0),
        "unknown",
        notes=["the latents of KandinskyV22Pipeline are of an unknown space"],
    ),
    Family(
        "HunyuanImagePipeline",
        hunyuan_image,
        arguments(
            prompt_embeds=(1, 6, 8),
            prompt_embeds_mask=torch.ones(1, 6).long(),
            prompt_embeds_2=(1, 6, 8),
            prompt_embeds_mask_2=torch.ones(1, 6).long(),
            distilled_guidance_scale=3.25,
        ),
        "hunyuan_image21",
    ),
    Family("IFPipeline", deep_floyd, text(clean_caption=False), "pixels"),
]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.kind)
def test_a_further_family_is_watched(family):
    older.expect(hasattr(diffusers, family.kind), "diffusers", diffusers.__version__, family.kind)
    kind = getattr(diffusers, family.kind)
    torch.manual_seed(0)
    parts = family.parts()
    names = kind._get_signature_keys(kind)[0]
    without_checker = {"requires_safety_checker": False} if "safety_checker" in names else {}
    pipe = kind(**{name: parts.get(name) for name in names}, **without_checker)
    pipe.set_progress_bar_config(disable=True)

    def sample():
        torch.manual_seed(0)  # some pipelines draw without the generator
        output = pipe(
            num_inference_steps=STEPS, generator=torch.Generator().manual_seed(3), output_type="np", **family.call()
        )
        return np.asarray(getattr(output, family.output))

    plain = sample()
    with watch(pipe, screen="off") as run:
        result = sample()
    assert np.array_equal(plain, result, equal_nan=True)
    assert [(p.index, p.total, p.show) for p in run.pictures] == [(i + 1, STEPS, "denoised") for i in range(STEPS)]
    assert {p.shown[0] / p.shown[1] for p in run.pictures} == {family.aspect}
    assert run.runs[-1].run.space == family.space
    assert [note.partition(":")[0] for note in run.notes] == family.notes
