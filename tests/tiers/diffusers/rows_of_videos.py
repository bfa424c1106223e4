"""Pipelines for videos: relatives of the families, and further families."""

from types import SimpleNamespace

import diffusers
import tiny_models as models
import tiny_modular as modular
from changed_parts import config_of, controlnet, transformer
from pictures import HALF, picture, video
from tiny_models import noise, ones
from tiny_pipelines import FAMILIES, Tiny, arguments

WAN, LTX, COGVIDEOX, HUNYUAN = (FAMILIES[name] for name in ("Wan", "LTX", "CogVideoX", "HunyuanVideo"))
KANDINSKY5 = FAMILIES["Kandinsky5"]


def animate_diff():
    adapter = diffusers.MotionAdapter(
        block_out_channels=(4, 8), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=2
    )
    scheduler = diffusers.DDIMScheduler(beta_schedule="linear", clip_sample=False)
    return {"vae": models.kl(4, 0.18215), "unet": models.unet(), "motion_adapter": adapter, "scheduler": scheduler}


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
    return {"vae": models.kl(4, 0.18215), "transformer": transformer, "scheduler": scheduler}


def sparse_controlnet(_):
    return {
        "controlnet": diffusers.SparseControlNetModel(
            block_out_channels=(4, 8),
            layers_per_block=1,
            in_channels=4,
            conditioning_channels=3,
            down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
            cross_attention_dim=8,
            conditioning_embedding_out_channels=(4, 8),
            norm_num_groups=1,
            motion_num_attention_heads=1,
            attention_head_dim=4,
            concat_conditioning_mask=True,
            use_simplified_condition_embedding=False,
        )
    }


def animate_sdxl():
    adapter = diffusers.MotionAdapter(
        block_out_channels=(4, 8),
        motion_layers_per_block=1,
        motion_norm_num_groups=2,
        motion_num_attention_heads=2,
        use_motion_mid_block=False,
    )
    return {**models.sdxl(), "motion_adapter": adapter}


def pia(_):
    return {"unet": models.unet(in_channels=9)}


def text_to_video():
    unet = diffusers.UNet3DConditionModel(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=16,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    return {
        "vae": models.kl(4, 0.18215),
        "unet": unet,
        "scheduler": diffusers.DDIMScheduler(**models.OLD, clip_sample=False),
    }


def i2vgen():
    unet = diffusers.I2VGenXLUNet(
        block_out_channels=(4, 8),
        layers_per_block=1,
        sample_size=16,
        in_channels=4,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        num_attention_heads=None,
        norm_num_groups=2,
    )
    return {**text_to_video(), "unet": unet}


def svd():
    unet = diffusers.UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 64),
        layers_per_block=1,
        sample_size=16,
        in_channels=8,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        cross_attention_dim=8,
        num_attention_heads=2,
        projection_class_embeddings_input_dim=24,
        addition_time_embed_dim=8,
    )
    vae = diffusers.AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2, layers_per_block=1
    )
    scheduler = diffusers.EulerDiscreteScheduler(
        **models.OLD,
        interpolation_type="linear",
        prediction_type="v_prediction",
        sigma_max=700.0,
        sigma_min=0.002,
        steps_offset=1,
        timestep_type="continuous",
        use_karras_sigmas=True,
    )
    return {"vae": vae, "unet": unet, "scheduler": scheduler}


def allegro():
    vae = diffusers.AutoencoderKLAllegro(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2
    )
    vae.enable_tiling()
    transformer = diffusers.AllegroTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        cross_attention_dim=24,
        sample_width=6,
        sample_height=4,
        sample_frames=8,
        caption_channels=8,
    )
    return {"vae": vae, "transformer": transformer, "scheduler": diffusers.DDIMScheduler(clip_sample=False)}


def easy_animate(channels=16):
    def parts():
        vae = diffusers.AutoencoderKLMagvit(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2)
        transformer = diffusers.EasyAnimateTransformer3DModel(
            num_attention_heads=2,
            attention_head_dim=16,
            in_channels=channels,
            out_channels=16,
            time_embed_dim=2,
            text_embed_dim=8,
            text_embed_dim_t5=None,
            num_layers=1,
            sample_width=6,
            sample_height=4,
            patch_size=2,
        )
        return {"vae": vae, "transformer": transformer, "scheduler": models.flow()}

    return parts


def motif(channels=33):
    transformer = diffusers.MotifVideoTransformer3DModel(
        in_channels=channels,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_single_layers=1,
        patch_size=1,
        patch_size_t=1,
        text_embed_dim=8,
        image_embed_dim=8,
        rope_axes_dim=(4, 4, 4),
    )
    return {
        "vae": models.wan_vae(),
        "transformer": transformer,
        "scheduler": models.flow(),
        "guider": modular.unguided(),
    }


def sana_video():
    transformer = diffusers.SanaVideoTransformer3DModel(
        in_channels=16,
        out_channels=16,
        num_attention_heads=2,
        attention_head_dim=12,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=8,
        mlp_ratio=2.5,
        sample_size=8,
        patch_size=(1, 2, 2),
    )
    return {"vae": models.wan_vae(), "transformer": transformer, "scheduler": models.flow()}


def cosmos(channels):
    return diffusers.CosmosTransformer3DModel(
        in_channels=channels,
        out_channels=16,
        num_attention_heads=1,
        attention_head_dim=16,
        num_layers=1,
        mlp_ratio=2,
        text_embed_dim=8,
        adaln_lora_dim=4,
        max_size=(4, 32, 32),
        rope_scale=(2.0, 1.0, 1.0),
        concat_padding_mask=False,  # it needs torchvision
        extra_pos_embed_type="learnable",
    )


def cosmos2(channels):
    return lambda: {
        "vae": models.wan_vae(),
        "transformer": cosmos(channels),
        "scheduler": models.flow(use_karras_sigmas=True),
        "safety_checker": models.Safety(),
    }


def cosmos25(_):
    scheduler = diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    return {"transformer": cosmos(17), "scheduler": scheduler}


def cosmos1():
    vae = diffusers.AutoencoderKLCosmos(
        encoder_block_out_channels=(8, 8, 8, 8),
        decode_block_out_channels=(8, 8, 8, 8),
        attention_resolutions=(8,),
        resolution=64,
        num_layers=1,
        scaling_factor=1.0,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
    )
    scheduler = diffusers.EDMEulerScheduler(final_sigmas_type="zero", sigma_data=0.5)
    return {**cosmos2(17)(), "vae": vae, "scheduler": scheduler}


def wan_model(kind="WanTransformer3DModel", **config):
    return lambda _: {"transformer": models.wan_transformer(kind, **config)}


def anyflow(_):
    transformer = diffusers.AnyFlowTransformer3DModel(
        num_attention_heads=1, attention_head_dim=12, text_dim=8, freq_dim=16, ffn_dim=16, num_layers=1
    )
    return {"transformer": transformer, "scheduler": diffusers.FlowMapEulerDiscreteScheduler()}


def cosmos3():
    return {**modular.cosmos3()(), "enable_safety_checker": False, "text_tokenizer": models.Tokenizer()}


def hunyuan(**config):
    return transformer(guidance_embeds=False, **config)


def hunyuan15():
    """The last block of the encoder of its VAE has as many channels as mean and variance of the latents."""
    vae = diffusers.AutoencoderKLHunyuanVideo15(block_out_channels=(32, 32, 32, 32, 64), layers_per_block=1)
    return {**modular.hunyuan15(), "vae": vae}


def framepack(_):
    return {
        "transformer": diffusers.HunyuanVideoFramepackTransformer3DModel(
            in_channels=16,
            out_channels=16,
            num_attention_heads=2,
            attention_head_dim=10,
            num_layers=1,
            num_single_layers=1,
            num_refiner_layers=1,
            patch_size=2,
            patch_size_t=1,
            guidance_embeds=True,
            text_embed_dim=8,
            pooled_projection_dim=8,
            rope_axes_dim=(2, 4, 4),
            image_condition_type=None,
            has_image_proj=True,
            image_proj_dim=8,
            has_clean_x_embedder=True,
        )
    }


def wan_animate(_):
    transformer = models.wan_transformer(
        "WanAnimateTransformer3DModel",
        in_channels=36,
        latent_channels=16,
        image_dim=8,
        motion_encoder_size=16,
        motion_style_dim=8,
        motion_dim=4,
        motion_encoder_dim=16,
        face_encoder_hidden_dim=16,
        face_encoder_num_heads=2,
        inject_face_latents_blocks=1,
    )
    return {"transformer": transformer}


def sky_reels(_):
    transformer = diffusers.SkyReelsV2Transformer3DModel(
        num_attention_heads=1,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=8,
        freq_dim=16,
        ffn_dim=16,
        num_layers=1,
        rope_max_seq_len=32,
    )
    scheduler = diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    return {"transformer": transformer, "scheduler": scheduler}


def kandinsky5(_):
    parts = models.kandinsky5()
    config = {**config_of(parts["transformer"]), "visual_cond": True}
    return {"transformer": type(parts["transformer"])(**config), "vae": models.hunyuan_video()["vae"]}


TWO = {"steps": (2,)}  # of four, with half of the strength
IMAGE = {"image": picture()}
UNSTOPPABLE = {"can_stop": False}
FRAMES = {"output": "frames"}
TEXT = {"guidance_scale": 1.0}
CLIP = {"attributes": {"encode_image": lambda *_: noise(1, 6, 8)}}
ANIMATION = Tiny("AnimateDiffPipeline", animate_diff, arguments(num_frames=2, **TEXT), "sd1", (4, 2, 16, 24), **FRAMES)
TEXT_TO_VIDEO = Tiny(
    "TextToVideoSDPipeline",
    text_to_video,
    arguments(num_frames=2, **TEXT),
    "sd1",
    (4, 2, 16, 24),
    **FRAMES,
    **UNSTOPPABLE,
)
EASY = Tiny(
    "EasyAnimatePipeline",
    easy_animate(),
    arguments(num_frames=5, prompt_attention_mask=ones(1, 6), **TEXT),
    "easyanimate",
    (16, 2, 4, 6),
    **FRAMES,
)
MASKED = {"prompt_attention_mask": ones(1, 6)}
COSMOS = Tiny(
    "Cosmos2TextToImagePipeline",
    cosmos2(16),
    arguments(negative_prompt_embeds=(1, 6, 8), **TEXT),
    "wan21",
    (16, 1, 4, 6),
    decodes_x0=False,  # there is noise of the lowest level in the result
)
HUNYUAN15 = arguments(
    num_frames=9, prompt_embeds_mask=ones(1, 6), prompt_embeds_2=(1, 6, 8), prompt_embeds_mask_2=ones(1, 6)
)
ENCODED_BY_LTX = {"attributes": {"encode_prompt": lambda *_, **__: (noise(1, 6, 8), ones(1, 6), None, None)}}
SECTIONS = "the pipeline samples its video in sections"
NINE = {"num_frames": 9}
ROWS = (
    ANIMATION,
    ANIMATION.like("AnimateDiffControlNetPipeline", {"conditioning_frames": video(2)}, controlnet),
    ANIMATION.like("AnimateDiffPAGPipeline", {"pag_scale": 0.0}, **UNSTOPPABLE),
    ANIMATION.like(
        "AnimateDiffSparseControlNetPipeline", {"conditioning_frames": video(1)}, sparse_controlnet, **UNSTOPPABLE
    ),
    ANIMATION.like("AnimateDiffVideoToVideoPipeline", {"video": video(2), **HALF}, **TWO),
    ANIMATION.like(
        "AnimateDiffVideoToVideoControlNetPipeline",
        {"video": video(2), "conditioning_frames": video(2), **HALF},
        controlnet,
        **TWO,
    ),
    ANIMATION.like("PIAPipeline", IMAGE, pia, **UNSTOPPABLE),
    Tiny(
        "AnimateDiffSDXLPipeline",
        animate_sdxl,
        arguments(num_frames=2, pooled_prompt_embeds=(1, 8), **TEXT),
        "sdxl",
        (4, 2, 16, 24),
        **FRAMES,
    ),
    TEXT_TO_VIDEO,
    TEXT_TO_VIDEO.like("VideoToVideoSDPipeline", {"video": video(2), **HALF}, **TWO),
    Tiny(
        "I2VGenXLPipeline",
        i2vgen,
        arguments(num_frames=2, decode_chunk_size=2, **TEXT),
        "sd1",
        (4, 2, 16, 24),
        more=IMAGE,
        attributes={
            "_encode_image": lambda *_: noise(1, 1, 8),
            "feature_extractor": SimpleNamespace(crop_size={"width": 32, "height": 32}),
        },
        can_stop=False,
        **FRAMES,
    ),
    Tiny(
        "StableVideoDiffusionPipeline",
        svd,
        arguments(num_frames=2, max_guidance_scale=1.0),
        "sd1",
        (4, 2, 16, 24),
        more=IMAGE,
        attributes={"_encode_image": lambda *_: noise(1, 1, 8)},
        can_stop=False,
        **FRAMES,
    ),
    Tiny("AllegroPipeline", allegro, arguments(num_frames=8, **MASKED, **TEXT), "allegro", (4, 2, 4, 6), **FRAMES),
    EASY,
    Tiny("MotifVideoPipeline", motif, arguments(**NINE, **MASKED), "wan21", (16, 3, 4, 6), **FRAMES),
    Tiny(
        "MotifVideoImage2VideoPipeline",
        motif,
        arguments(**NINE, **MASKED),
        "wan21",
        (16, 3, 4, 6),
        more={**IMAGE, "prompt": None},
        **FRAMES,
    ),
    Tiny(
        "SanaVideoPipeline",
        sana_video,
        arguments(32, 64, frames=9, use_resolution_binning=False, **MASKED, **TEXT),
        "wan21",
        (16, 3, 4, 8),
        **FRAMES,
    ),
    Tiny(
        "SanaImageToVideoPipeline",
        sana_video,
        arguments(32, 64, frames=9, use_resolution_binning=False, **MASKED, **TEXT),
        "wan21",
        (16, 3, 4, 8),
        more={"image": picture(32, 64)},
        **FRAMES,
    ),
    # Cosmos
    COSMOS,
    COSMOS.like(
        "Cosmos2VideoToWorldPipeline", {**IMAGE, **NINE}, transformer(in_channels=17), latents=(16, 3, 4, 6), **FRAMES
    ),
    COSMOS.like("Cosmos2_5_PredictBasePipeline", NINE, cosmos25, latents=(16, 3, 4, 6), **FRAMES),
    COSMOS.like(
        "CosmosVideoToWorldPipeline",
        {**IMAGE, **NINE},
        lambda _: cosmos1(),
        space="cosmos1",
        latents=(16, 3, 4, 6),
        **FRAMES,
    ),
    Tiny(
        "LattePipeline",
        latte,
        arguments(video_length=2, mask_feature=False, clean_caption=False, **TEXT),
        "sd1",
        (4, 2, 16, 24),
        **FRAMES,
    ),
    # Wan 2.1
    WAN.like("WanVideoToVideoPipeline", {"video": video(9), **HALF}, **TWO),
    WAN.like("WanImageToVideoPipeline", IMAGE, transformer(in_channels=36)),
    WAN.like("LucyEditPipeline", {"video": video(9)}, transformer(in_channels=32)),
    WAN.like(
        "ChronoEditPipeline",
        IMAGE,
        wan_model("ChronoEditTransformer3DModel", in_channels=36, image_dim=8, added_kv_proj_dim=12),
        **CLIP,
        latents=(16, 2, 4, 6),
    ),
    WAN.like("AnyFlowPipeline", parts=anyflow),
    WAN.like("SkyReelsV2Pipeline"),
    WAN.like(
        "SkyReelsV2ImageToVideoPipeline", IMAGE, wan_model(in_channels=36, image_dim=8, added_kv_proj_dim=12), **CLIP
    ),
    WAN.like(
        "WanVACEPipeline",
        parts=lambda _: {
            "transformer": models.wan_transformer("WanVACETransformer3DModel", vace_layers=[0], vace_in_channels=96)
        },
    ),
    WAN.like(
        "WanAnimatePipeline",
        {
            **IMAGE,
            "pose_video": video(9),
            "face_video": video(9, 16, 16),
            "segment_frame_length": 9,
            "prev_segment_conditioning_frames": 1,
        },
        wan_animate,
        notes=(SECTIONS,),
        decodes_x0=False,
        **CLIP,
        latents=(16, 4, 4, 6),
    ),
    WAN.like(
        "HeliosPipeline", parts=lambda _: modular.helios()(), notes=(SECTIONS,), more={"num_latent_frames_per_chunk": 3}
    ),
    WAN.like("SkyReelsV2DiffusionForcingImageToVideoPipeline", IMAGE, sky_reels),
    WAN.like(
        "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
        {"video": video(5), "overlap_history": 5, "base_num_frames": 9},
        sky_reels,
    ),
    Tiny(
        "Cosmos3OmniPipeline",
        cosmos3,
        arguments(**NINE, **TEXT, prompt="x"),
        "wan22",
        (48, 3, 2, 3),
        "video",
        attributes={"tokenize_prompt": lambda *_, **__: ([1, 2, 3], [1, 2])},
    ),
    # Hunyuan
    HUNYUAN.like(
        "HunyuanVideoImageToVideoPipeline", IMAGE, hunyuan(in_channels=33, image_condition_type="latent_concat")
    ),
    HUNYUAN.like("HunyuanSkyreelsImageToVideoPipeline", {**IMAGE, "true_cfg_scale": 1.0}, transformer(in_channels=32)),
    HUNYUAN.like(
        "HunyuanVideoFramepackPipeline",
        {**IMAGE, "latent_window_size": 3},
        framepack,
        notes=(SECTIONS,),
        attributes={"encode_image": lambda *_, **__: noise(1, 6, 8)},
        decodes_x0=False,
    ),
    Tiny("HunyuanVideo15Pipeline", modular.hunyuan15, HUNYUAN15, "hunyuan_video15", (32, 3, 2, 3), **FRAMES),
    Tiny(
        "HunyuanVideo15ImageToVideoPipeline",
        hunyuan15,
        HUNYUAN15,
        "hunyuan_video15",
        (32, 3, 3, 4),
        more=IMAGE,
        attributes={"encode_image": lambda *_, **__: noise(1, 6, 8)},
        **FRAMES,
    ),
    # Kandinsky 5
    KANDINSKY5.like(
        "Kandinsky5I2VPipeline",
        {**IMAGE, **NINE},
        kandinsky5,
        space="hunyuan_video",
        latents=(16, 3, 4, 6),
        **FRAMES,
        decodes_x0=False,
    ),
    # LTX
    LTX.like("LTXImageToVideoPipeline", {"image": picture(64, 96)}),
    LTX.like("LTXConditionPipeline", {"image": picture(64, 96), "frame_index": 8}),
    LTX.like(
        "LTXI2VLongMultiPromptPipeline",
        {"cond_image": picture(64, 96), "prompt": "x"},
        notes=(SECTIONS,),
        **ENCODED_BY_LTX,
        steps=(3,),
        decodes_x0=False,
    ),
    # CogVideoX
    COGVIDEOX.like("CogVideoXImageToVideoPipeline", IMAGE, transformer(in_channels=32)),
    COGVIDEOX.like("CogVideoXFunControlPipeline", {"control_video": video(9)}, transformer(in_channels=32)),
    COGVIDEOX.like("CogVideoXVideoToVideoPipeline", {"video": video(9), **HALF}, **TWO),
)
