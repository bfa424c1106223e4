"""Tiny pipelines of every family, with random weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch

STEPS = 4  # divides 1000
FLOW = {"shift": 3.0}
OLD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@dataclass(frozen=True)
class Tiny:
    """A tiny pipeline of a family.

    Args:
        make: function that creates it.
        needs: classes of diffusers that it needs.
        call: function that returns the arguments of its call, without generator and number of steps.
        space: name of its latent space.
        latents: shape `[C, T, H, W]` of one item, unpacked.
        output: attribute of its result.
        unpack: the pipeline's own conversion from the scheduler's latents to those of the VAE, without the scale.
    """

    make: Callable[[], Any]
    needs: tuple[str, ...]
    call: Callable[[], dict[str, Any]]
    space: str
    latents: tuple[int, int, int, int]
    output: str = "images"
    unpack: Callable[[Any, torch.Tensor], torch.Tensor] = lambda pipe, latents: latents

    def run(self, pipe, **more):
        """Returns the final images or frames, as an array."""
        generator = torch.Generator().manual_seed(3)
        output = pipe(
            **{"num_inference_steps": STEPS, "generator": generator, "output_type": "np", **self.call(), **more}
        )
        return output[0] if isinstance(output, tuple) else getattr(output, self.output)


def noise(*shape, seed=5):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def flow(**config):
    return diffusers.FlowMatchEulerDiscreteScheduler(**{**FLOW, **config})


def kl(channels, scale, shift=None, blocks=2, **more):
    """Creates an `AutoencoderKL`."""
    return diffusers.AutoencoderKL(
        block_out_channels=(4,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        latent_channels=channels,
        norm_num_groups=2,
        layers_per_block=1,
        scaling_factor=scale,
        shift_factor=shift,
        sample_size=32,
        **more,
    )


def unet(**more):
    return diffusers.UNet2DConditionModel(
        **{
            "block_out_channels": (4, 8),
            "layers_per_block": 1,
            "sample_size": 16,
            "in_channels": 4,
            "out_channels": 4,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": 8,
            "norm_num_groups": 2,
            "attention_head_dim": 4,
            **more,
        }
    )


def scheduler_of_sd(**config):
    return diffusers.EulerDiscreteScheduler(**{**OLD, "steps_offset": 1, **config})


def sd1():
    return diffusers.StableDiffusionPipeline(
        vae=kl(4, 0.18215),
        text_encoder=None,
        tokenizer=None,
        unet=unet(),
        scheduler=scheduler_of_sd(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl():
    return diffusers.StableDiffusionXLPipeline(
        vae=kl(4, 0.13025),
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=unet(
            addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=8 * 6 + 8
        ),
        scheduler=scheduler_of_sd(),
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def sd3():
    return diffusers.StableDiffusion3Pipeline(
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=32,
            patch_size=1,
            in_channels=16,
            out_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=8,
            caption_projection_dim=16,
            pooled_projection_dim=8,
        ),
        scheduler=flow(),
        vae=kl(16, 1.5305, 0.0609),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def flux1():
    return diffusers.FluxPipeline(
        scheduler=flow(),
        vae=kl(16, 0.3611, 0.1159),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            joint_attention_dim=8,
            pooled_projection_dim=8,
            axes_dims_rope=[4, 4, 8],
        ),
    )


def flux2():
    return diffusers.Flux2Pipeline(
        scheduler=flow(),
        vae=diffusers.AutoencoderKLFlux2(
            block_out_channels=(4, 4),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=2,
            sample_size=32,
        ),
        text_encoder=None,
        tokenizer=None,
        transformer=diffusers.Flux2Transformer2DModel(
            patch_size=1,
            in_channels=128,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            joint_attention_dim=8,
            timestep_guidance_channels=16,
            axes_dims_rope=[4, 4, 4, 4],
        ),
    )


def qwen_vae():
    return diffusers.AutoencoderKLQwenImage(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


def qwen():
    return diffusers.QwenImagePipeline(
        scheduler=flow(),
        vae=qwen_vae(),
        text_encoder=None,
        tokenizer=None,
        transformer=diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=64,
            out_channels=16,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            joint_attention_dim=8,
            guidance_embeds=False,
            axes_dims_rope=(4, 4, 8),
        ),
    )


def wan_vae():
    return diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )


def wan_transformer(kind="WanTransformer3DModel", **more):
    return getattr(diffusers, kind)(
        **{
            "patch_size": (1, 2, 2),
            "num_attention_heads": 1,
            "attention_head_dim": 12,
            "in_channels": 16,
            "out_channels": 16,
            "text_dim": 8,
            "freq_dim": 16,
            "ffn_dim": 16,
            "num_layers": 1,
            "cross_attn_norm": True,
            "qk_norm": "rms_norm_across_heads",
            "rope_max_seq_len": 32,
            **more,
        }
    )


def wan(**experts):
    return diffusers.WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=wan_vae(),
        scheduler=flow(),
        transformer=wan_transformer(),
        **experts,
    )


def ltx_vae(spatio_temporal_scaling=(True, True, False, False)):
    return diffusers.AutoencoderKLLTXVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=128,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=spatio_temporal_scaling,
        decoder_spatio_temporal_scaling=spatio_temporal_scaling,
        decoder_inject_noise=(False, False, False, False, False),
        upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )


def ltx():
    return diffusers.LTXPipeline(
        scheduler=flow(),
        vae=ltx_vae(),
        text_encoder=None,
        tokenizer=None,
        transformer=diffusers.LTXVideoTransformer3DModel(
            in_channels=128,
            out_channels=128,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            num_layers=1,
            caption_channels=8,
        ),
    )


def sana():
    return diffusers.SanaPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=diffusers.AutoencoderDC(
            in_channels=3,
            latent_channels=32,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(32, 32),
            decoder_block_out_channels=(32, 32),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        transformer=diffusers.SanaTransformer2DModel(
            patch_size=1,
            in_channels=32,
            out_channels=32,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=8,
            sample_size=16,
        ),
        scheduler=flow(),
    )


def pixart():
    return diffusers.PixArtSigmaPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=kl(4, 0.13025),
        transformer=diffusers.PixArtTransformer2DModel(
            sample_size=16,
            num_layers=1,
            patch_size=2,
            attention_head_dim=4,
            num_attention_heads=2,
            caption_channels=8,
            in_channels=4,
            cross_attention_dim=8,
            out_channels=8,
            norm_num_groups=2,
            use_additional_conditions=False,
        ),
        scheduler=scheduler_of_sd(),
    )


def auraflow():
    return diffusers.AuraFlowPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=kl(4, 0.13025),
        transformer=diffusers.AuraFlowTransformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=4,
            num_attention_heads=2,
            caption_projection_dim=8,
            joint_attention_dim=8,
            out_channels=4,
            pos_embed_max_size=256,
        ),
        scheduler=flow(),
    )


def hunyuandit():
    return diffusers.HunyuanDiTPipeline(
        vae=kl(4, 0.13025, blocks=4),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=diffusers.HunyuanDiT2DModel(
            sample_size=16,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=2,
            in_channels=4,
            cross_attention_dim=8,
            cross_attention_dim_t5=8,
            pooled_projection_dim=4,
            hidden_size=16,
            text_len=6,
            text_len_t5=6,
            activation_fn="gelu-approximate",
        ),
        scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def lumina2():
    return diffusers.Lumina2Pipeline(
        transformer=diffusers.Lumina2Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=16,
            hidden_size=24,
            num_layers=1,
            num_refiner_layers=1,
            num_attention_heads=3,
            num_kv_heads=1,
            multiple_of=2,
            axes_dim_rope=(4, 2, 2),
            axes_lens=(64, 64, 64),
            cap_feat_dim=8,
        ),
        scheduler=flow(),
        vae=kl(16, 0.3611, 0.1159),
        text_encoder=None,
        tokenizer=None,
    )


def zimage():
    transformer = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=8,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    )
    for name, parameter in transformer.named_parameters():
        if "pad_token" in name:  # diffusers does not initialize it
            parameter.data.zero_()
    return diffusers.ZImagePipeline(
        scheduler=flow(), vae=kl(16, 0.3611, 0.1159), text_encoder=None, tokenizer=None, transformer=transformer
    )


def cogview4():
    return diffusers.CogView4Pipeline(
        tokenizer=None,
        text_encoder=None,
        vae=kl(16, 1.0, 0.0),
        transformer=diffusers.CogView4Transformer2DModel(
            patch_size=2,
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            out_channels=16,
            text_embed_dim=8,
            time_embed_dim=8,
            condition_dim=4,
        ),
        scheduler=flow(base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True),
    )


def chroma():
    return diffusers.ChromaPipeline(
        scheduler=flow(),
        vae=kl(16, 0.3611, 0.1159),
        text_encoder=None,
        tokenizer=None,
        transformer=diffusers.ChromaTransformer2DModel(
            patch_size=1,
            in_channels=64,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=8,
            axes_dims_rope=[4, 4, 8],
            approximator_hidden_dim=32,
            approximator_layers=1,
            approximator_num_channels=16,
        ),
    )


def hunyuan_video():
    return diffusers.HunyuanVideoPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=diffusers.HunyuanVideoTransformer3DModel(
            in_channels=16,
            out_channels=16,
            num_attention_heads=2,
            attention_head_dim=10,
            num_layers=1,
            num_single_layers=1,
            num_refiner_layers=1,
            patch_size=1,
            patch_size_t=1,
            guidance_embeds=True,
            text_embed_dim=8,
            pooled_projection_dim=8,
            rope_axes_dim=(2, 4, 4),
        ),
        vae=diffusers.AutoencoderKLHunyuanVideo(
            latent_channels=16,
            block_out_channels=(4, 4, 4, 4),
            layers_per_block=1,
            norm_num_groups=2,
            mid_block_add_attention=False,
        ),
        scheduler=flow(),
        text_encoder_2=None,
        tokenizer_2=None,
    )


def cogvideox(scheduler="CogVideoXDDIMScheduler"):
    return diffusers.CogVideoXPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(4, 4, 4, 4), latent_channels=16, layers_per_block=1, norm_num_groups=2
        ),
        transformer=diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=16,
            out_channels=16,
            time_embed_dim=2,
            text_embed_dim=8,
            num_layers=1,
            sample_width=6,
            sample_height=4,
            sample_frames=9,
            patch_size=2,
            max_text_seq_length=6,
        ),
        scheduler=getattr(diffusers, scheduler)(
            **OLD, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
        ),
    )


def mochi():
    return diffusers.MochiPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        vae=diffusers.AutoencoderKLMochi(
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            layers_per_block=(1, 1, 1, 1, 1),
            add_attention_block=(False,) * 5,
        ),
        text_encoder=None,
        tokenizer=None,
        transformer=diffusers.MochiTransformer3DModel(
            patch_size=2,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            pooled_projection_dim=8,
            in_channels=12,
            text_embed_dim=8,
            time_embed_dim=4,
        ),
    )


def kandinsky5():
    pipe = diffusers.Kandinsky5T2IPipeline(
        transformer=diffusers.Kandinsky5Transformer3DModel(
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
        ),
        vae=kl(16, 0.3611, 0.1159, blocks=4),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        scheduler=flow(),
    )
    pipe.resolutions = [(48, 32)]
    return pipe


def tokens_of_pixels(height, width):
    return lambda pipe, latents: pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)


def flux2_tokens(pipe, latents):
    ids = pipe._prepare_latent_ids(torch.zeros(1, 128, 8, 12))
    return pipe._unpatchify_latents(pipe._unpack_latents_with_ids(latents, ids))


def frames_first(pipe, latents):
    return latents.permute(0, 2, 1, 3, 4)


def channels_last(pipe, latents):
    return latents.permute(0, 4, 1, 2, 3)


PROMPT = {"prompt_embeds": (1, 6, 8)}


def arguments(height=32, width=48, **more):
    """Arguments of most pipelines. The picture is wider than high, so that swapped sides fail a test."""
    return lambda: {
        "height": height,
        "width": width,
        **{name: noise(*shape) if type(shape) is tuple else shape for name, shape in {**PROMPT, **more}.items()},
    }


def ones(*shape):
    return torch.ones(shape, dtype=torch.long)


FAMILIES = {
    "StableDiffusion": Tiny(sd1, ("StableDiffusionPipeline",), arguments(guidance_scale=1.0), "sd1", (4, 1, 16, 24)),
    "StableDiffusionXL": Tiny(
        sdxl,
        ("StableDiffusionXLPipeline",),
        arguments(guidance_scale=1.0, pooled_prompt_embeds=(1, 8)),
        "sdxl",
        (4, 1, 16, 24),
    ),
    "StableDiffusion3": Tiny(
        sd3,
        ("StableDiffusion3Pipeline",),
        arguments(guidance_scale=1.0, pooled_prompt_embeds=(1, 8)),
        "sd3",
        (16, 1, 16, 24),
    ),
    "Flux": Tiny(
        flux1,
        ("FluxPipeline",),
        arguments(pooled_prompt_embeds=(1, 8)),
        "flux1",
        (16, 1, 16, 24),
        unpack=tokens_of_pixels(32, 48),
    ),
    "Flux2": Tiny(flux2, ("Flux2Pipeline",), arguments(), "flux2", (32, 1, 16, 24), unpack=flux2_tokens),
    "QwenImage": Tiny(
        qwen,
        ("QwenImagePipeline",),
        arguments(true_cfg_scale=1.0, prompt_embeds_mask=ones(1, 6)),
        "wan21",
        (16, 1, 4, 6),
        unpack=tokens_of_pixels(32, 48),
    ),
    "Wan": Tiny(
        wan, ("WanPipeline",), arguments(guidance_scale=1.0, num_frames=9), "wan21", (16, 3, 4, 6), output="frames"
    ),
    "LTX": Tiny(
        ltx,
        ("LTXPipeline",),
        arguments(64, 96, guidance_scale=1.0, num_frames=9, prompt_attention_mask=ones(1, 6)),
        "ltxv",
        (128, 3, 16, 24),
        output="frames",
        unpack=lambda pipe, latents: pipe._unpack_latents(latents, 3, 16, 24, 1, 1),
    ),
    "Sana": Tiny(
        sana,
        ("SanaPipeline",),
        arguments(32, 64, guidance_scale=1.0, prompt_attention_mask=ones(1, 6), use_resolution_binning=False),
        "sana",
        (32, 1, 16, 32),
    ),
    "PixArtSigma": Tiny(
        pixart,
        ("PixArtSigmaPipeline",),
        arguments(
            guidance_scale=1.0,
            prompt_attention_mask=ones(1, 6),
            use_resolution_binning=False,
            negative_prompt=None,
        ),
        "sdxl",
        (4, 1, 16, 24),
    ),
    "AuraFlow": Tiny(
        auraflow,
        ("AuraFlowPipeline",),
        arguments(guidance_scale=1.0, prompt_attention_mask=ones(1, 6)),
        "sdxl",
        (4, 1, 16, 24),
    ),
    "HunyuanDiT": Tiny(
        hunyuandit,
        ("HunyuanDiTPipeline",),
        arguments(
            guidance_scale=1.0,
            prompt_embeds_2=(1, 6, 8),
            prompt_attention_mask=ones(1, 6),
            prompt_attention_mask_2=ones(1, 6),
            use_resolution_binning=False,
        ),
        "sdxl",
        (4, 1, 4, 6),
    ),
    "Lumina2": Tiny(
        lumina2,
        ("Lumina2Pipeline",),
        arguments(guidance_scale=1.0, prompt_attention_mask=ones(1, 6)),
        "flux1",
        (16, 1, 4, 6),
    ),
    "ZImage": Tiny(
        zimage,
        ("ZImagePipeline",),
        lambda: {"height": 32, "width": 48, "guidance_scale": 0.0, "prompt_embeds": [noise(6, 8)]},
        "flux1",
        (16, 1, 16, 24),
    ),
    "CogView4": Tiny(cogview4, ("CogView4Pipeline",), arguments(guidance_scale=1.0), "cogview4", (16, 1, 16, 24)),
    "Chroma": Tiny(
        chroma,
        ("ChromaPipeline",),
        arguments(guidance_scale=1.0, prompt_attention_mask=ones(1, 6).bool()),
        "flux1",
        (16, 1, 16, 24),
        unpack=tokens_of_pixels(32, 48),
    ),
    "HunyuanVideo": Tiny(
        hunyuan_video,
        ("HunyuanVideoPipeline",),
        arguments(num_frames=9, pooled_prompt_embeds=(1, 8), prompt_attention_mask=ones(1, 6)),
        "hunyuan_video",
        (16, 3, 4, 6),
        output="frames",
    ),
    "CogVideoX": Tiny(
        cogvideox,
        ("CogVideoXPipeline",),
        arguments(guidance_scale=1.0, num_frames=9),
        "cogvideox",
        (16, 3, 4, 6),
        output="frames",
        unpack=frames_first,
    ),
    "Mochi": Tiny(
        mochi,
        ("MochiPipeline",),
        arguments(guidance_scale=1.0, num_frames=7, prompt_attention_mask=ones(1, 6).bool()),
        "mochi",
        (12, 2, 4, 6),
        output="frames",
    ),
    "Kandinsky5": Tiny(
        kandinsky5,
        ("Kandinsky5T2IPipeline",),
        lambda: {
            "height": 32,
            "width": 48,
            "guidance_scale": 1.0,
            "prompt_embeds_qwen": noise(1, 6, 8),
            "prompt_embeds_clip": noise(1, 8),
            "prompt_cu_seqlens": torch.tensor([0, 6], dtype=torch.int32),
        },
        "flux1",
        (16, 1, 4, 6),
        output="image",
        unpack=channels_last,
    ),
}
