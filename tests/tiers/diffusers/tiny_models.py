"""Parts of tiny pipelines, with random weights: a function for each family returns its models and its scheduler."""

from types import SimpleNamespace

import diffusers
import torch
from safelight.decoders.latents.space_table import SPACES
from transformers import BatchEncoding
from transformers.modeling_outputs import BaseModelOutputWithPooling

FLOW = {"shift": 3.0}
OLD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def noise(*shape, seed=5):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ones(*shape):
    return torch.ones(shape, dtype=torch.long)


class Tokenizer:
    """Stands for a tokenizer, and for a processor that has one."""

    model_max_length, eos_token_id = 6, 0
    image_processor = None

    @property
    def tokenizer(self):
        return self

    def __call__(self, *_, **__):
        return BatchEncoding({"input_ids": ones(1, 6), "attention_mask": ones(1, 6)})

    def batch_decode(self, *_):
        return []

    def encode(self, *_):
        return [0]

    def convert_tokens_to_ids(self, _):
        return 0

    def apply_chat_template(self, *_, **__):
        return [[0, 1]]


class TextEncoder(torch.nn.Module):
    """Stands for a text encoder."""

    dtype, device, config = torch.float32, torch.device("cpu"), SimpleNamespace()

    def forward(self, *_, **__):
        return BaseModelOutputWithPooling(last_hidden_state=noise(1, 6, 8), pooler_output=noise(1, 8))


class Safety(torch.nn.Module):
    """Stands for a checker that lets everything pass."""

    dtype, device = torch.float32, torch.device("cpu")

    def check_text_safety(self, *_):
        return True

    def check_video_safety(self, video):
        return video


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
    return {
        "vae": kl(4, 0.18215),
        "unet": unet(),
        "scheduler": scheduler_of_sd(),
        "requires_safety_checker": False,
    }


def sdxl():
    return {
        "vae": kl(4, 0.13025),
        "unet": unet(
            addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=8 * 6 + 8
        ),
        "scheduler": scheduler_of_sd(),
        "force_zeros_for_empty_prompt": False,
        "add_watermarker": False,
    }


def sd3():
    return {
        "transformer": diffusers.SD3Transformer2DModel(
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
        "scheduler": flow(),
        "vae": kl(16, 1.5305, 0.0609),
    }


def flux1():
    return {
        "scheduler": flow(),
        "vae": kl(16, 0.3611, 0.1159),
        "transformer": diffusers.FluxTransformer2DModel(
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
    }


def flux2():
    return {
        "scheduler": flow(),
        "vae": diffusers.AutoencoderKLFlux2(
            block_out_channels=(4, 4),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            norm_num_groups=2,
            sample_size=32,
        ),
        "transformer": diffusers.Flux2Transformer2DModel(
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
    }


def qwen_vae():
    return diffusers.AutoencoderKLQwenImage(base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1)


def qwen():
    return {
        "scheduler": flow(),
        "vae": qwen_vae(),
        "transformer": diffusers.QwenImageTransformer2DModel(
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
    }


def wan_vae():
    return diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )


def wan22_vae():
    row = SPACES["wan22"]
    return diffusers.AutoencoderKLWan(
        base_dim=4,
        z_dim=48,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=list(row.mean),
        latents_std=list(row.std),
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
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
    return {
        "vae": wan_vae(),
        "scheduler": flow(),
        "transformer": wan_transformer(),
        **experts,
    }


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
    return {
        "scheduler": flow(),
        "vae": ltx_vae(),
        "transformer": diffusers.LTXVideoTransformer3DModel(
            in_channels=128,
            out_channels=128,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            num_layers=1,
            caption_channels=8,
        ),
    }


def sana():
    return {
        "vae": diffusers.AutoencoderDC(
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
        "transformer": diffusers.SanaTransformer2DModel(
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
        "scheduler": flow(),
    }


def pixart():
    return {
        "vae": kl(4, 0.13025),
        "transformer": diffusers.PixArtTransformer2DModel(
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
        "scheduler": scheduler_of_sd(),
    }


def auraflow():
    return {
        "vae": kl(4, 0.13025),
        "transformer": diffusers.AuraFlowTransformer2DModel(
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
        "scheduler": flow(),
    }


def hunyuandit():
    return {
        "vae": kl(4, 0.13025, blocks=4),
        "transformer": diffusers.HunyuanDiT2DModel(
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
        "scheduler": diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False),
        "requires_safety_checker": False,
    }


def lumina2():
    return {
        "transformer": diffusers.Lumina2Transformer2DModel(
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
        "scheduler": flow(),
        "vae": kl(16, 0.3611, 0.1159),
    }


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
    return {
        "scheduler": flow(),
        "vae": kl(16, 0.3611, 0.1159),
        "transformer": transformer,
    }


def cogview4():
    return {
        "vae": kl(16, 1.0, 0.0),
        "transformer": diffusers.CogView4Transformer2DModel(
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
        "scheduler": flow(base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True),
    }


def chroma():
    return {
        "scheduler": flow(),
        "vae": kl(16, 0.3611, 0.1159),
        "transformer": diffusers.ChromaTransformer2DModel(
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
    }


def hunyuan_video():
    return {
        "transformer": diffusers.HunyuanVideoTransformer3DModel(
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
        "vae": diffusers.AutoencoderKLHunyuanVideo(
            latent_channels=16,
            block_out_channels=(4, 4, 4, 4),
            layers_per_block=1,
            norm_num_groups=2,
            mid_block_add_attention=False,
        ),
        "scheduler": flow(),
    }


def cogvideox(scheduler="CogVideoXDDIMScheduler"):
    return {
        "vae": diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(4, 4, 4, 4), latent_channels=16, layers_per_block=1, norm_num_groups=2
        ),
        "transformer": diffusers.CogVideoXTransformer3DModel(
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
        "scheduler": getattr(diffusers, scheduler)(
            **OLD, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"
        ),
    }


def mochi():
    return {
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        "vae": diffusers.AutoencoderKLMochi(
            encoder_block_out_channels=(32, 32, 32, 32),
            decoder_block_out_channels=(32, 32, 32, 32),
            layers_per_block=(1, 1, 1, 1, 1),
            add_attention_block=(False,) * 5,
        ),
        "transformer": diffusers.MochiTransformer3DModel(
            patch_size=2,
            num_attention_heads=2,
            attention_head_dim=8,
            num_layers=2,
            pooled_projection_dim=8,
            in_channels=12,
            text_embed_dim=8,
            time_embed_dim=4,
        ),
    }


def kandinsky5():
    return {
        "transformer": diffusers.Kandinsky5Transformer3DModel(
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
        "vae": kl(16, 0.3611, 0.1159, blocks=4),
        "scheduler": flow(),
    }
