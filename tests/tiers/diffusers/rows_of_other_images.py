"""Families of pipelines for images with a layout, a latent space or a denoiser of their own."""

import diffusers
import tiny_models as models
import tiny_modular as modular
import torch
from pictures import HEIGHT, WIDTH, mask, picture
from tiny_models import noise, ones, wan22_vae
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


def hunyuan_refiner():
    transformer = diffusers.HunyuanImageTransformer2DModel(
        in_channels=128,
        out_channels=64,
        num_attention_heads=1,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=(1, 1, 1),
        guidance_embeds=True,
        text_embed_dim=8,
        rope_axes_dim=(4, 6, 6),
    )
    vae = diffusers.AutoencoderKLHunyuanImageRefiner(block_out_channels=(64,) * 5, layers_per_block=1)
    return {"transformer": transformer, "vae": vae, "scheduler": models.flow()}


def bria_fibo():
    transformer = diffusers.BriaFiboTransformer2DModel(
        patch_size=1,
        in_channels=48,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        text_encoder_dim=8,
        axes_dims_rope=[0, 4, 4],
    )
    return {"vae": wan22_vae(), "transformer": transformer, "scheduler": models.flow()}


def cogview3():
    transformer = diffusers.CogView3PlusTransformer2DModel(
        patch_size=2,
        in_channels=16,
        num_layers=1,
        attention_head_dim=4,
        num_attention_heads=2,
        out_channels=16,
        text_embed_dim=8,
        time_embed_dim=8,
        condition_dim=2,
        pos_embed_max_size=24,
        sample_size=8,
    )
    return {"vae": models.kl(16, 1.0), "transformer": transformer, "scheduler": diffusers.CogVideoXDDIMScheduler()}


def glm_image():
    transformer = diffusers.GlmImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=8,
        time_embed_dim=16,
        condition_dim=8,
        prior_vq_quantizer_codebook_size=8,
    )
    vae = models.kl(16, 1.0, blocks=4, latents_mean=[0.0] * 16, latents_std=[1.0] * 16)
    return {"vae": vae, "transformer": transformer, "scheduler": models.flow(), "text_encoder": models.TextEncoder()}


def hidream():
    transformer = diffusers.HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=[8, 8],
        text_emb_dim=8,
        num_routed_experts=4,
        num_activated_experts=2,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(32, 32),
        llama_layers=(0, 1),
    )
    return {"vae": models.kl(16, 0.3611, 0.1159), "transformer": transformer, "scheduler": models.flow()}


def longcat():
    config = {
        "in_channels": 64,
        "num_layers": 1,
        "num_single_layers": 1,
        "attention_head_dim": 16,
        "num_attention_heads": 1,
        "joint_attention_dim": 8,
        "pooled_projection_dim": 8,
        "axes_dims_rope": [4, 4, 8],
    }
    transformer = diffusers.LongCatImageTransformer2DModel(**config)
    return {"vae": models.kl(16, 0.3611, 0.1159), "transformer": transformer, "scheduler": models.flow()}


def nucleus():
    transformer = diffusers.NucleusMoEImageTransformer2DModel(
        patch_size=2,
        in_channels=64,
        out_channels=16,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        axes_dims_rope=(8, 4, 4),
        moe_enabled=False,
        capacity_factors=[8.0],
    )
    return {"vae": models.qwen_vae(), "transformer": transformer, "scheduler": models.flow()}


def prx_of_pixels():
    transformer = diffusers.PRXTransformer2DModel(
        in_channels=3,
        patch_size=2,
        context_in_dim=8,
        hidden_size=16,
        num_heads=2,
        depth=1,
        axes_dim=[4, 4],
        bottleneck_size=8,
        resolution_embeds=True,
    )
    return {"transformer": transformer, "scheduler": models.flow(), "text_encoder": models.TextEncoder()}


def joy(kind):
    def parts():
        transformer = getattr(diffusers, kind)(
            patch_size=[1, 2, 2],
            in_channels=16,
            hidden_size=32,
            num_attention_heads=2,
            text_dim=8,
            num_layers=1,
            rope_dim_list=[4, 6, 6],
            theta=256,
        )
        return {"vae": models.wan_vae(), "transformer": transformer, "scheduler": models.flow()}

    return parts


def qwen21():
    """It asks the processor for the number of tokens of the system prompt."""
    return {**modular.qwen21()(), "processor": models.Tokenizer()}


def longcat_edit():
    return {**longcat(), "text_processor": models.Tokenizer()}


def dreamlite():
    unet = diffusers.DreamLiteUNetModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        down_block_types=("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"),
        up_block_types=("DreamLiteCrossAttnUpBlock2D", "DreamLiteUpBlock2D"),
        block_out_channels=(32, 64),
        cross_attention_dim=8,
        attention_head_dim=8,
        layers_per_block=1,
        norm_num_groups=8,
        transformer_layers_per_block=1,
    )
    vae = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(32, 32),
        decoder_block_out_channels=(32, 32),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    return {"vae": vae, "unet": unet, "scheduler": models.flow(), "text_encoder": models.TextEncoder()}


def latent_diffusion():
    return {
        "vqvae": models.kl(4, 0.18215),
        "unet": models.unet(),
        "scheduler": ddim(),
        "bert": models.TextEncoder(),
        "tokenizer": models.Tokenizer(),
    }


def unconditional(channels=3, out=None):
    return diffusers.UNet2DModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=16,
        in_channels=channels,
        out_channels=out or channels,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=2,
        attention_head_dim=4,
    )


def of_pixels(kind, **config):
    """An unconditional model of pixels and a scheduler."""
    return lambda: {"unet": unconditional(), "scheduler": getattr(diffusers, kind)(**config)}


def ddim():
    return diffusers.DDIMScheduler(**models.OLD, clip_sample=False)


def marigold():
    return {**models.sd1(), "unet": models.unet(in_channels=8), "scheduler": ddim(), "prediction_type": "depth"}


WURSTCHEN = {"prompt_embeds_pooled": (1, 1, 8)}
TEXT = {"guidance_scale": 1.0}
MASK = {"prompt_attention_mask": ones(1, 6).bool()}
PRX = {"use_resolution_binning": False}
CLEAN = {"clean_caption": False}
SQUARE = (3, 1, 16, 16)
WIDE = (16, 1, 16, 24)
IN_STEPS = (16, 1, 4, 6)
IMAGE = {"image": picture()}
QWEN = {"prompt_embeds_mask": ones(1, 6)}
TARGETS = {"target_names": ["albedo", "material"], "albedo": {}, "material": {}}
UNKNOWN = {"notes": ("the latents ",), "decodes_x0": False}
ENCODED_BY_IDEOGRAM = {
    "attributes": {
        "encode_prompt": lambda *_, **__: (
            noise(1, 6 + 96, 8),
            torch.zeros(1, 6 + 96, 3).long(),
            ones(1, 6 + 96),
            torch.cat([torch.zeros(1, 6), torch.ones(1, 96)], 1).long(),
        )
    }
}
ENCODED_BY_BRIA = {
    "attributes": {
        "encode_prompt": lambda *_, **__: (
            noise(1, 6, 16),
            None,
            torch.zeros(6, 3),
            ones(1, 6),
            None,
            [noise(1, 6, 8)] * 2,
            None,
        )
    }
}
ENCODED_BY_LONGCAT = {"attributes": {"encode_prompt": lambda *_, **__: (noise(1, 6, 8), torch.zeros(6, 3))}}
ENCODED_BY_JOY = {
    "attributes": {
        "image_processor.get_default_height_width": lambda *_: (HEIGHT, WIDTH),
        "encode_prompt_multiple_images": lambda *_, **__: (noise(1, 6, 8), ones(1, 6)),
    }
}
ENCODED_BY_DREAMLITE = {
    "attributes": {"encode_prompt": lambda mode, prompts, **_: (noise(len(prompts), 6, 8), ones(len(prompts), 6))}
}
MARIGOLD = Tiny(
    "MarigoldDepthPipeline",
    marigold,
    dict,
    "sd1",
    (4, 1, 16, 24),
    "prediction",
    more={**IMAGE, "processing_resolution": 0},
    attributes={"empty_text_embedding": noise(1, 6, 8)},
)
ROWS = (
    Tiny(
        "Krea2Pipeline",
        modular.krea2(),
        arguments(guidance_scale=0.0, prompt_embeds=(1, 6, 2, 8), prompt_embeds_mask=ones(1, 6).bool()),
        "wan21",
        IN_STEPS,
    ),
    Tiny(
        "ErnieImagePipeline",
        modular.ernie,
        arguments(**TEXT, prompt_embeds=[noise(6, 8)]),
        "flux2",
        (32, 1, 16, 24),
        can_stop=False,
    ),
    Tiny(
        "QwenImage21Pipeline",
        qwen21,
        arguments(64, 96, true_cfg_scale=1.0, **QWEN),
        "qwen_image21",
        (64, 1, 4, 6),
    ),
    Tiny(
        "Ideogram4Pipeline",
        modular.ideogram4,
        arguments(guidance_schedule=[2.0] * 4, max_sequence_length=6, prompt="x"),
        "flux2",
        (32, 1, 16, 24),
        **ENCODED_BY_IDEOGRAM,
    ),
    Tiny(
        "BriaFiboPipeline",
        bria_fibo,
        arguments(**TEXT, prompt="x", prompt_embeds=None),
        "wan22",
        (48, 1, 2, 3),
        **ENCODED_BY_BRIA,
    ),
    Tiny(
        "BriaFiboEditPipeline",
        bria_fibo,
        arguments(**TEXT, prompt='{"edit_instruction": "x"}', prompt_embeds=None),
        "wan22",
        (48, 1, 2, 3),
        more={**IMAGE, "_auto_resize": False},
        **ENCODED_BY_BRIA,
    ),
    Tiny("CogView3PlusPipeline", cogview3, arguments(**TEXT), "unknown", WIDE, **UNKNOWN),
    Tiny(
        "GlmImagePipeline",
        glm_image,
        arguments(**TEXT, prior_token_ids=torch.ones(1, 6).long()),
        "unknown",
        IN_STEPS,
        **UNKNOWN,
    ),
    Tiny(
        "HiDreamImagePipeline",
        hidream,
        arguments(**TEXT, prompt_embeds_t5=(1, 6, 8), prompt_embeds_llama3=(2, 1, 6, 8), pooled_prompt_embeds=(1, 8)),
        "flux1",
        WIDE,
        attributes={"default_sample_size": 20},
    ),
    Tiny(
        "LongCatImagePipeline",
        longcat,
        arguments(**TEXT),
        "flux1",
        WIDE,
        more={"enable_prompt_rewrite": False},
        **ENCODED_BY_LONGCAT,
    ),
    Tiny(
        "LongCatImageEditPipeline",
        longcat_edit,
        arguments(**TEXT),
        "flux1",
        WIDE,
        more=IMAGE,
        **ENCODED_BY_LONGCAT,
        variables={"calculate_dimensions": lambda *_: (WIDTH, HEIGHT)},
    ),
    Tiny("NucleusMoEImagePipeline", nucleus, arguments(**TEXT, **QWEN), "wan21", IN_STEPS),
    Tiny("PRXPixelPipeline", prx_of_pixels, arguments(**TEXT, **PRX, **MASK), "pixels", (3, 1, 32, 48), can_stop=False),
    Tiny(
        "JoyImageEditPipeline",
        joy("JoyImageEditTransformer3DModel"),
        arguments(**TEXT, **QWEN),
        "wan21",
        IN_STEPS,
        more=IMAGE,
        attributes={"vae_image_processor.get_default_height_width": lambda *_: (HEIGHT, WIDTH)},
        decodes_x0=False,
    ),
    Tiny(
        "JoyImageEditPlusPipeline",
        joy("JoyImageEditPlusTransformer3DModel"),
        arguments(**TEXT, prompt=["x"], prompt_embeds=None),
        "wan21",
        IN_STEPS,
        more={"images": [picture()]},
        **ENCODED_BY_JOY,
    ),
    Tiny(
        "DreamLitePipeline",
        dreamlite,
        arguments(64, 96, guidance_scale=1.0),
        "unknown",
        (4, 1, 32, 48),
        **ENCODED_BY_DREAMLITE,
        **UNKNOWN,
        can_stop=False,
    ),
    Tiny(
        "DreamLiteMobilePipeline",
        dreamlite,
        arguments(64, 96),
        "unknown",
        (4, 1, 32, 48),
        **ENCODED_BY_DREAMLITE,
        **UNKNOWN,
        can_stop=False,
    ),
    Tiny("LDMTextToImagePipeline", latent_diffusion, arguments(prompt="x"), "unknown", (4, 1, 4, 6), **UNKNOWN),
    Tiny(
        "LDMPipeline",
        lambda: {**latent_diffusion(), "unet": unconditional(4)},
        dict,
        "unknown",
        (4, 1, 16, 16),
        **UNKNOWN,
    ),
    Tiny(
        "LDMSuperResolutionPipeline",
        lambda: {**latent_diffusion(), "unet": unconditional(6, 3), "vqvae": models.kl(3, 1.0)},
        dict,
        "unknown",
        (3, 1, 32, 32),
        more=IMAGE,
        **UNKNOWN,
    ),
    Tiny("DDPMPipeline", of_pixels("DDPMScheduler"), dict, "pixels", SQUARE),
    Tiny("DDIMPipeline", of_pixels("DDIMScheduler"), dict, "pixels", SQUARE),
    Tiny("PNDMPipeline", of_pixels("PNDMScheduler"), dict, "pixels", SQUARE, steps=(13,)),
    Tiny(
        "RePaintPipeline",
        of_pixels("RePaintScheduler"),
        dict,
        "pixels",
        (3, 1, 32, 32),
        more={"image": picture(32, 32), "mask_image": mask(32, 32)},
    ),
    Tiny("KarrasVePipeline", of_pixels("KarrasVeScheduler"), dict, "pixels", SQUARE),
    Tiny(
        "ScoreSdeVePipeline",
        of_pixels("ScoreSdeVeScheduler"),
        dict,
        "pixels",
        SQUARE,
        show="noisy",
        notes=("noisy latents are shown",),
    ),
    Tiny(
        "ConsistencyModelPipeline", of_pixels("CMStochasticIterativeScheduler"), dict, "pixels", SQUARE, can_stop=False
    ),
    Tiny(
        "HunyuanImageRefinerPipeline",
        hunyuan_refiner,
        arguments(prompt_embeds_mask=ones(1, 6), distilled_guidance_scale=3.25),
        "hunyuan_image21_refiner",
        (32, 1, 2, 3),
        more=IMAGE,
    ),
    MARIGOLD,
    MARIGOLD.like("MarigoldNormalsPipeline"),
    MARIGOLD.like(
        "MarigoldIntrinsicsPipeline",
        parts=lambda _: {"unet": models.unet(in_channels=12, out_channels=8), "target_properties": TARGETS},
        latents=(4, 2, 16, 24),
        decodes_x0=False,  # it decodes one picture after the other
    ),
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
