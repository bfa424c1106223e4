"""Families of pipelines for images with a layout, a latent space or a denoiser of their own."""

import diffusers
import tiny_models as models
import torch
from tiny_models import ones
from tiny_pipelines import Tiny, arguments


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
        return {"scheduler": models.flow(), "vae": models.kl(16, 0.3611, 0.1159), "transformer": transformer}

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
    return {"transformer": transformer, "vae": models.kl(4, 0.18215), "scheduler": diffusers.DDIMScheduler()}


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
    return {"transformer": transformer, "scheduler": models.flow(), "vae": models.kl(4, 0.13025)}


def prx():
    transformer = diffusers.PRXTransformer2DModel(
        in_channels=16, patch_size=2, context_in_dim=8, hidden_size=16, num_heads=2, depth=1, axes_dim=[4, 4]
    )
    return {"transformer": transformer, "scheduler": models.flow(), "vae": models.kl(16, 0.3611, 0.1159)}


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
    return models.unet(
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
    return {"transformer": transformer, "vae": vae, "scheduler": models.flow()}


WURSTCHEN = {"prompt_embeds_pooled": (1, 1, 8)}
TEXT = {"guidance_scale": 1.0}
MASK = {"prompt_attention_mask": ones(1, 6).bool()}
PRX = {"use_resolution_binning": False}
CLEAN = {"clean_caption": False}
ROWS = (
    Tiny("OvisImagePipeline", like_flux("OvisImageTransformer2DModel"), arguments(**TEXT), "flux1", (16, 1, 16, 24)),
    Tiny("BriaPipeline", like_flux("BriaTransformer2DModel"), arguments(**TEXT), "flux1", (16, 1, 16, 24)),
    Tiny("PRXPipeline", prx, arguments(**TEXT, **PRX, **MASK), "flux1", (16, 1, 16, 24), can_stop=False),
    Tiny("LuminaPipeline", lumina, arguments(**TEXT, **MASK), "sdxl", (4, 1, 4, 6), can_stop=False),
    Tiny("DiTPipeline", dit, lambda: {"class_labels": [1], "guidance_scale": 1.0}, "sd1", (4, 1, 16, 16)),
    Tiny("IFPipeline", deep_floyd, arguments(**TEXT, **CLEAN), "pixels", (3, 1, 32, 48), can_stop=False),
    Tiny(
        "StableCascadePriorPipeline",
        cascade_prior,
        arguments(1024, 1536, **TEXT, **WURSTCHEN),
        "cascade_prior",
        (16, 1, 24, 36),
        output="image_embeddings",
    ),
    Tiny(
        "KandinskyV22Pipeline",
        kandinsky,
        arguments(128, 192, image_embeds=(1, 8), negative_image_embeds=(1, 8), guidance_scale=1.0),
        "unknown",
        (4, 1, 64, 96),
        notes=("the latents of KandinskyV22Pipeline are of an unknown space",),
        decodes_x0=False,
    ),
    Tiny(
        "HunyuanImagePipeline",
        hunyuan_image,
        arguments(
            prompt_embeds_mask=ones(1, 6),
            prompt_embeds_2=(1, 6, 8),
            prompt_embeds_mask_2=ones(1, 6),
            distilled_guidance_scale=3.25,
        ),
        "hunyuan_image21",
        (64, 1, 16, 24),
    ),
)
