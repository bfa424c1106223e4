"""Tiny modular pipelines of every family, with random weights. Text encoders are left out: prompts are embeddings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from safelight.hosts.diffusers.modular_blocks import loop_blocks
from tiny_models import (
    flow,
    flux1,
    flux2,
    ltx,
    ltx_vae,
    noise,
    ones,
    qwen,
    qwen_vae,
    sd3,
    sdxl,
    wan22_vae,
    wan_transformer,
    wan_vae,
    zimage,
)

STEPS = 3
SECTIONS = ("the pipeline samples its video in sections, one after another: each of its runs shows one section",)
ENCODERS = ("image_encoder", "video_encoder", "vae_encoder")
SIZE = {"height": 32, "width": 48}
TEXT = ("text_encoder", "prompt_upsampler", "prompt_enhancer", "prompt_upsample", "semantic_generator", "duration")


@dataclass(frozen=True)
class TinyModular:
    """A tiny modular pipeline of a family.

    Args:
        components: function that returns its components by name.
        call: function that returns the arguments of its call, without generator and number of steps.
        space: name of its latent space.
        latents: shape `[C, T, H, W]` of the shown latents, unpacked.
        output: name of its result.
        without: names of further blocks that are left out.
        configs: settings of the pipeline.
        steps: number of steps of each of its loops.
        notes: notes of its last run.
        decoded: first and last frame of the latents that its VAE decodes first.
    """

    components: Callable[[], dict[str, Any]]
    call: Callable[[], dict[str, Any]]
    space: str
    latents: tuple[int, int, int, int]
    output: str = "images"
    without: tuple[str, ...] = ()
    configs: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[int, ...] = (STEPS,)
    notes: tuple[str, ...] = ()
    decoded: tuple[int | None, int | None] = (None, None)

    @property
    def decodes_whole(self):
        """Whether the VAE decodes the whole latents in one call."""
        return self.output in ("images", "videos")

    def run(self, pipe, output=None, **more):
        """Returns the final images or frames as an array, or another output."""
        generator = torch.Generator().manual_seed(3)
        given = {"num_inference_steps": STEPS, "generator": generator, "output_type": "np", **self.call(), **more}
        known = {each.name for each in pipe.blocks.inputs}
        with torch.compiler.set_stance("force_eager"):  # the compilation of flex_attention takes ten seconds
            return pipe(output=output or self.output, **{name: value for name, value in given.items() if name in known})


def create(family, without=(), components=()):
    """Returns the modular pipeline of a family.

    Args:
        family: name of the family.
        without: names of further blocks that are left out.
        components: names of components that are not loaded.
    """
    kind = getattr(diffusers, f"{family}ModularPipeline")
    tiny = MODULAR[family]
    blocks = getattr(diffusers, kind.default_blocks_name)()
    for name in (*TEXT, *tiny.without, *without):
        blocks.sub_blocks.pop(name, None)
    pipe = kind(blocks)
    torch.manual_seed(0)
    pipe.update_components(**{name: part for name, part in tiny.components().items() if name not in components})
    pipe.register_to_config(**tiny.configs)
    for block in loop_blocks(pipe):
        block.set_progress_bar_config(disable=True)
    return pipe


def parts(make, *names):
    """Returns a function that returns components of a tiny pipeline."""

    def chosen():
        made = make()
        return {name: made[name] for name in names}

    return chosen


def arguments(**more):
    """Returns a function that returns the size of the picture, an embedding of a prompt, and more."""
    shapes = {"prompt_embeds": (1, 6, 8), **more}
    return lambda: (
        SIZE
        | {
            name: noise(*value) if type(value) is tuple else value
            for name, value in shapes.items()
            if value is not None
        }
    )


def unguided():
    return diffusers.ClassifierFreeGuidance(guidance_scale=1.0)


def flux3(flow_map=False):
    return lambda: {
        "vae": flux2()["vae"],
        "scheduler": flow(),
        "transformer": diffusers.Flux3Transformer2DModel(
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            joint_attention_dim=8,
            timestep_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            flow_map=flow_map,
        ),
        **({} if flow_map else {"guider": unguided()}),
    }


def with_guider(components):
    return lambda: {**components(), "guider": unguided()}


def anima():
    return {
        "vae": qwen_vae(),
        "scheduler": flow(),
        "guider": unguided(),
        "transformer": diffusers.CosmosTransformer3DModel(
            in_channels=16,
            out_channels=16,
            num_attention_heads=1,
            attention_head_dim=16,
            num_layers=1,
            text_embed_dim=8,
            adaln_lora_dim=4,
            max_size=(4, 16, 16),
            extra_pos_embed_type=None,
            concat_padding_mask=False,  # it needs torchvision
        ),
        "text_conditioner": diffusers.AnimaTextConditioner(
            source_dim=8, target_dim=8, model_dim=8, num_layers=1, num_attention_heads=1, target_vocab_size=4
        ),
    }


def ernie():
    return {
        "vae": flux2()["vae"],
        "scheduler": flow(),
        "guider": unguided(),
        "transformer": diffusers.ErnieImageTransformer2DModel(
            hidden_size=16,
            num_attention_heads=1,
            num_layers=1,
            ffn_hidden_size=16,
            text_in_dim=8,
            rope_axes_dim=(4, 6, 6),
        ),
    }


def ltx_parts():
    """The VAE has the strides of the published one, on which the frames of the latents depend."""
    return {**ltx(), "guider": unguided(), "vae": ltx_vae(spatio_temporal_scaling=(True, True, True, False))}


def hunyuan15():
    return {
        "vae": diffusers.AutoencoderKLHunyuanVideo15(block_out_channels=(32,) * 5, layers_per_block=1),
        "scheduler": flow(),
        "guider": unguided(),
        "transformer": diffusers.HunyuanVideo15Transformer3DModel(
            num_attention_heads=1,
            attention_head_dim=16,
            num_layers=1,
            num_refiner_layers=1,
            text_embed_dim=8,
            text_embed_2_dim=8,
            image_embed_dim=8,
            rope_axes_dim=(4, 6, 6),
            target_size=64,
            task_type="t2v",
        ),
    }


def ideogram4():
    def transformer():
        return diffusers.Ideogram4Transformer2DModel(
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            intermediate_size=16,
            adaln_dim=8,
            llm_features_dim=8,
            mrope_section=(4, 2, 2),
        )

    return {
        "vae": flux2()["vae"],
        "scheduler": flow(),
        "transformer": transformer(),
        "unconditional_transformer": transformer(),
    }


def krea2(guided=True):
    return lambda: {
        "vae": qwen_vae(),
        "scheduler": flow(),
        "transformer": diffusers.Krea2Transformer2DModel(
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            num_key_value_heads=1,
            intermediate_size=16,
            timestep_embed_dim=16,
            text_hidden_dim=8,
            num_text_layers=2,
            text_num_attention_heads=1,
            text_num_key_value_heads=1,
            text_intermediate_size=8,
            num_layerwise_text_blocks=1,
            num_refiner_text_blocks=1,
            axes_dims_rope=(4, 6, 6),
        ),
        **({"guider": unguided()} if guided else {}),
    }


def qwen21(guided=True):
    return lambda: {
        "vae": diffusers.AutoencoderKLQwenImage21(
            base_dim=4, decoder_base_dim=4, dim_mult=[1, 1, 1, 1, 1], num_res_blocks=1
        ),
        "scheduler": flow(),
        "transformer": diffusers.QwenImage21Transformer2DModel(
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            context_in_dim=8,
            axes_dims_rope=(4, 6, 6),
        ),
        **({"guider": unguided()} if guided else {}),
    }


def wan_with(**more):
    return lambda: {
        "vae": wan_vae(),
        "scheduler": diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        "guider": unguided(),
        "transformer": wan_transformer(),
        **{name: make() for name, make in more.items()},
    }


def ltx2_transformer(**more):
    return diffusers.LTX2VideoTransformer3DModel(
        **{
            "num_attention_heads": 1,
            "attention_head_dim": 12,
            "cross_attention_dim": 12,
            "audio_num_attention_heads": 1,
            "audio_attention_head_dim": 12,
            "audio_cross_attention_dim": 12,
            "num_layers": 1,
            "caption_channels": 8,
            **more,
        }
    )


def ltx2():
    audio_vae = diffusers.AutoencoderKLLTX2Audio(base_channels=4, ch_mult=(1, 1), num_res_blocks=1)
    return {"scheduler": flow(), "transformer": ltx2_transformer(), "audio_vae": audio_vae}


def echo():
    return {"transformer": ltx2_transformer(use_prompt_embeddings=False)}


def minimax_h3():
    return {
        "scheduler": diffusers.MiniMaxH3Scheduler(),
        "audio_scheduler": diffusers.MiniMaxH3Scheduler(),
        "transformer": diffusers.MiniMaxH3Transformer3DModel(
            num_attention_heads=1,
            attention_head_dim=16,
            hidden_size=16,
            num_layers=1,
            num_refiner_layers=1,
            ffn_dim=16,
            text_dim=8,
            freq_dim=16,
            time_embed_hidden_dim=16,
            time_embed_dim=8,
            rope_freq_dim=2,
        ),
    }


def cosmos3(distilled=False):
    return lambda: {
        "vae": wan22_vae(),
        "scheduler": flow()
        if distilled
        else diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        "transformer": diffusers.Cosmos3OmniTransformer(
            head_dim=16,
            hidden_size=16,
            intermediate_size=16,
            num_attention_heads=1,
            num_hidden_layers=1,
            num_key_value_heads=1,
            vocab_size=16,
            rope_scaling={"mrope_section": [4, 2, 2]},
        ),
    }


def helios(stages=1, kind="HeliosScheduler"):
    return lambda: {
        "vae": wan_vae(),
        "guider": unguided(),
        "scheduler": getattr(diffusers, kind)(stages=stages, **({} if stages > 1 else {"stage_range": [0, 1]})),
        "transformer": diffusers.HeliosTransformer3DModel(
            num_attention_heads=1,
            attention_head_dim=12,
            text_dim=8,
            freq_dim=16,
            ffn_dim=16,
            num_layers=1,
            rope_dim=(4, 4, 4),
        ),
    }


def vace_transformer():
    return wan_transformer(kind="WanVACETransformer3DModel", vace_layers=[0], vace_in_channels=96)


def wan_animate2():
    return {
        "vae": wan_vae(),
        "guider": unguided(),
        "scheduler": flow(),
        "transformer": diffusers.WanAnimate2Transformer3DModel(
            text_len=6, dim=12, ffn_dim=16, freq_dim=16, text_dim=8, num_heads=1, num_layers=1, use_img_emb=False
        ),
    }


def animation():
    return arguments(
        segment_frame_length=9,
        reference_image_latents=(20, 1, 4, 6),
        driving_video_pixels=(1, 3, 9, 32, 48),
        num_segments=1,
        real_frame_len=9,
        crop_region=[0, 0, 32, 48],
        effective_segment=9,
        prev_segment_conditioning_frames=1,
        condition_clip_context=(1, 257, 1280),
        prompt_ref_embeds=(1, 6, 8),
        negative_prompt_embeds=(1, 6, 8),
    )


def music3():
    return {
        "scheduler": flow(),
        "guider": unguided(),
        "condition_encoder": diffusers.MiniMaxMusic3ConditionEncoder(
            condition_hidden_dim=8, num_condition_layers=1, out_dim=8
        ),
        "transformer": diffusers.MiniMaxMusic3Transformer1DModel(
            condition_dim=8,
            num_layers=1,
            num_attention_heads=1,
            attention_head_dim=16,
            ff_inner_dim=16,
            rotary_dim=8,
            fourier_embedding_dim=16,
        ),
    }


MODULAR = {
    "LTX2": TinyModular(
        ltx2,
        arguments(
            height=64,
            width=96,
            num_frames=9,
            connector_prompt_embeds=(1, 6, 8),
            connector_audio_prompt_embeds=(1, 6, 8),
            connector_attention_mask=ones(1, 6),
            negative_connector_prompt_embeds=(1, 6, 8),
            negative_connector_audio_prompt_embeds=(1, 6, 8),
            negative_connector_attention_mask=ones(1, 6),
            batch_size=1,
            dtype=torch.float32,
        ),
        "ltx2",
        (128, 2, 2, 3),
        output="latents",
        without=("decode",),
    ),
    "LTX25": TinyModular(
        ltx2,
        arguments(
            height=64,
            width=96,
            num_frames=9,
            connector_prompt_embeds=(1, 6, 8),
            connector_audio_prompt_embeds=(1, 6, 8),
            connector_attention_mask=ones(1, 6),
            negative_connector_prompt_embeds=(1, 6, 8),
            negative_connector_audio_prompt_embeds=(1, 6, 8),
            negative_connector_attention_mask=ones(1, 6),
            batch_size=1,
            dtype=torch.float32,
        ),
        "ltx2",
        (128, 2, 2, 3),
        output="latents",
        without=("decode",),
    ),
    "Echo": TinyModular(
        echo,
        arguments(
            height=64,
            width=96,
            num_frames=9,
            connector_prompt_embeds=(1, 6, 12),
            connector_audio_prompt_embeds=(1, 6, 12),
            connector_attention_mask=ones(1, 6),
            sigmas=[1.0, 0.6, 0.3, 0.0],
        ),
        "ltx2",
        (128, 2, 2, 3),
        output="latents",
        without=("decode",),
    ),
    "MiniMaxH3": TinyModular(
        minimax_h3,
        arguments(height=64, width=96, num_frames=124, prompt_embeds=(1, 6, 8), text_token_tags=ones(6)),
        "minimax_h3",
        (24, 37, 4, 6),
        output="latents",
        without=("decode",),
        steps=(2,),
    ),
    "Cosmos3Omni": TinyModular(
        cosmos3(),
        lambda: {**SIZE, "num_frames": 9, "cond_input_ids": [1, 2, 3], "uncond_input_ids": [1, 2]},
        "wan22",
        (48, 3, 2, 3),
        output="videos",
        without=("after_decode",),
        configs={"requires_safety_checker": False},
    ),
    "Cosmos3Distilled": TinyModular(
        cosmos3(distilled=True),
        lambda: {**SIZE, "num_frames": 9, "cond_input_ids": [1, 2, 3], "uncond_input_ids": [1, 2]},
        "wan22",
        (48, 3, 2, 3),
        output="videos",
        configs={"requires_safety_checker": False, "distilled_sigmas": [1.0, 0.7, 0.4]},
    ),
    "Helios": TinyModular(
        helios(),
        arguments(num_frames=9, num_latent_frames_per_chunk=3, negative_prompt_embeds=(1, 6, 8)),
        "wan21",
        (16, 3, 4, 6),
        output="videos",
        notes=SECTIONS,
    ),
    "HeliosPyramid": TinyModular(
        helios(stages=3),
        arguments(
            height=64,
            width=128,
            num_frames=9,
            num_latent_frames_per_chunk=3,
            negative_prompt_embeds=(1, 6, 8),
            pyramid_num_inference_steps_list=[2, 2, 2],
        ),
        "wan21",
        (16, 3, 8, 16),
        output="videos",
        notes=SECTIONS,
        steps=(2, 2, 2),
    ),
    "HeliosPyramidDistilled": TinyModular(
        helios(stages=3, kind="HeliosDMDScheduler"),
        arguments(
            height=64,
            width=128,
            num_frames=9,
            num_latent_frames_per_chunk=3,
            negative_prompt_embeds=(1, 6, 8),
            pyramid_num_inference_steps_list=[2, 2, 2],
        ),
        "wan21",
        (16, 3, 8, 16),
        output="videos",
        notes=SECTIONS,
        steps=(4, 4, 4),
    ),
    "MiniMaxMusic3": TinyModular(
        music3,
        lambda: {"frame_hiddens": noise(1, 12, 8)},
        "minimax_music3",
        (128, 1, 1, 41),
        output="latent_chunks",
        without=("decode",),
    ),
    "WanImage2Video": TinyModular(
        wan_with(transformer=lambda: wan_transformer(in_channels=36, image_dim=8, added_kv_proj_dim=12)),
        arguments(
            num_frames=9,
            negative_prompt_embeds=(1, 6, 8),
            image_condition_latents=(1, 20, 3, 4, 6),
            image_embeds=(1, 4, 8),
        ),
        "wan21",
        (16, 3, 4, 6),
        output="videos",
        without=("image_encoder", "vae_encoder"),
    ),
    "Wan22Image2Video": TinyModular(
        wan_with(
            transformer=lambda: wan_transformer(in_channels=36),
            transformer_2=lambda: wan_transformer(in_channels=36),
            guider_2=unguided,
        ),
        arguments(num_frames=9, negative_prompt_embeds=(1, 6, 8), image_condition_latents=(1, 20, 3, 4, 6)),
        "wan21",
        (16, 3, 4, 6),
        output="videos",
        without=("vae_encoder",),
    ),
    "Wan22Vace": TinyModular(
        wan_with(
            transformer=vace_transformer,
            transformer_2=vace_transformer,
            guider_2=unguided,
        ),
        arguments(
            num_frames=9,
            negative_prompt_embeds=(1, 6, 8),
        ),
        "wan21",
        (16, 3, 4, 6),
        output="videos",
    ),
    "WanAnimate2": TinyModular(
        wan_animate2,
        animation(),
        "wan21",
        (16, 4, 4, 6),
        output="videos",
        without=ENCODERS,
        notes=SECTIONS,
        decoded=(1, None),
    ),
    "WanAnimate2Distilled": TinyModular(
        wan_animate2,
        animation(),
        "wan21",
        (16, 4, 4, 6),
        output="videos",
        without=ENCODERS,
        notes=SECTIONS,
        decoded=(1, None),
    ),
    "QwenImageEdit": TinyModular(
        with_guider(parts(qwen, "transformer", "scheduler", "vae")),
        arguments(prompt_embeds_mask=ones(1, 6), image_latents=(1, 16, 1, 4, 6)),
        "wan21",
        (16, 1, 4, 6),
        without=("vae_encoder",),
    ),
    "QwenImageEditPlus": TinyModular(
        with_guider(parts(qwen, "transformer", "scheduler", "vae")),
        lambda: {**arguments(prompt_embeds_mask=ones(1, 6))(), "image_latents": [noise(1, 16, 1, 4, 6)]},
        "wan21",
        (16, 1, 4, 6),
        without=("vae_encoder",),
    ),
    "QwenImageLayered": TinyModular(
        with_guider(parts(qwen, "transformer", "scheduler", "vae")),
        arguments(prompt_embeds_mask=ones(1, 6), image_latents=(1, 1, 16, 4, 6), layers=2),
        "wan21",
        (16, 3, 4, 6),
        without=("vae_encoder",),
        decoded=(1, 2),
    ),
    "Flux": TinyModular(
        parts(flux1, "transformer", "scheduler", "vae"),
        arguments(pooled_prompt_embeds=(1, 8)),
        "flux1",
        (16, 1, 16, 24),
    ),
    "FluxKontext": TinyModular(
        parts(flux1, "transformer", "scheduler", "vae"),
        arguments(pooled_prompt_embeds=(1, 8)),
        "flux1",
        (16, 1, 16, 24),
        without=("vae_encoder",),
    ),
    "Flux2": TinyModular(parts(flux2, "transformer", "scheduler", "vae"), arguments(), "flux2", (32, 1, 16, 24)),
    "Flux2Klein": TinyModular(parts(flux2, "transformer", "scheduler", "vae"), arguments(), "flux2", (32, 1, 16, 24)),
    "Flux2KleinBase": TinyModular(
        with_guider(parts(flux2, "transformer", "scheduler", "vae")), arguments(), "flux2", (32, 1, 16, 24)
    ),
    "Flux3": TinyModular(flux3(), arguments(), "flux2", (32, 1, 16, 24)),
    "Flux3Distilled": TinyModular(flux3(flow_map=True), arguments(), "flux2", (32, 1, 16, 24)),
    "QwenImage": TinyModular(
        with_guider(parts(qwen, "transformer", "scheduler", "vae")),
        arguments(prompt_embeds_mask=ones(1, 6)),
        "wan21",
        (16, 1, 4, 6),
    ),
    "QwenImage21": TinyModular(
        qwen21(),
        arguments(
            height=64, width=96, prompt_embeds_mask=ones(1, 6), image_pad_mask=torch.zeros(1, 6, dtype=torch.bool)
        ),
        "qwen_image21",
        (64, 1, 4, 6),
    ),
    "QwenImage21Turbo": TinyModular(
        qwen21(guided=False),
        arguments(
            height=64, width=96, prompt_embeds_mask=ones(1, 6), image_pad_mask=torch.zeros(1, 6, dtype=torch.bool)
        ),
        "qwen_image21",
        (64, 1, 4, 6),
    ),
    "StableDiffusion3": TinyModular(
        with_guider(parts(sd3, "transformer", "scheduler", "vae")),
        arguments(pooled_prompt_embeds=(1, 8)),
        "sd3",
        (16, 1, 16, 24),
    ),
    "StableDiffusionXL": TinyModular(
        with_guider(parts(sdxl, "unet", "scheduler", "vae")),
        arguments(pooled_prompt_embeds=(1, 8)),
        "sdxl",
        (4, 1, 16, 24),
    ),
    "ZImage": TinyModular(
        with_guider(parts(zimage, "transformer", "scheduler", "vae")),
        lambda: {**SIZE, "prompt_embeds": [noise(6, 8)]},
        "flux1",
        (16, 1, 16, 24),
    ),
    "Anima": TinyModular(
        anima,
        lambda: {
            **SIZE,
            "qwen_prompt_embeds": noise(1, 6, 8),
            "qwen_attention_mask": ones(1, 6),
            "t5_input_ids": ones(1, 6),
            "t5_attention_mask": ones(1, 6),
        },
        "wan21",
        (16, 1, 4, 6),
    ),
    "ErnieImage": TinyModular(ernie, lambda: {**SIZE, "prompt_embeds": [noise(6, 8)]}, "flux2", (32, 1, 16, 24)),
    "Ideogram4": TinyModular(
        ideogram4,
        lambda: {**SIZE, "text_features": noise(1, 6, 8), "text_lengths": [6], "guidance_schedule": [2.0] * STEPS},
        "flux2",
        (32, 1, 16, 24),
    ),
    "Krea2": TinyModular(
        krea2(), arguments(prompt_embeds=(1, 6, 2, 8), prompt_embeds_mask=ones(1, 6).bool()), "wan21", (16, 1, 4, 6)
    ),
    "Krea2Turbo": TinyModular(
        krea2(guided=False),
        arguments(prompt_embeds=(1, 6, 2, 8), prompt_embeds_mask=ones(1, 6).bool()),
        "wan21",
        (16, 1, 4, 6),
    ),
    "Wan": TinyModular(
        wan_with(), arguments(num_frames=9, negative_prompt_embeds=(1, 6, 8)), "wan21", (16, 3, 4, 6), output="videos"
    ),
    "Wan22": TinyModular(
        wan_with(transformer_2=wan_transformer, guider_2=unguided),
        arguments(num_frames=9, negative_prompt_embeds=(1, 6, 8)),
        "wan21",
        (16, 3, 4, 6),
        output="videos",
    ),
    "LTX": TinyModular(
        ltx_parts,
        arguments(
            height=64,
            width=96,
            num_frames=9,
            prompt_attention_mask=ones(1, 6),
            negative_prompt_embeds=(1, 6, 8),
            negative_prompt_attention_mask=ones(1, 6),
        ),
        "ltxv",
        (128, 2, 8, 12),
        output="videos",
    ),
    "HunyuanVideo15": TinyModular(
        hunyuan15,
        arguments(
            num_frames=9,
            batch_size=1,
            prompt_embeds_mask=ones(1, 6),
            prompt_embeds_2=(1, 6, 8),
            prompt_embeds_mask_2=ones(1, 6),
        ),
        "hunyuan_video15",
        (32, 3, 2, 3),
        output="videos",
        without=("image_encoder",),
    ),
}
