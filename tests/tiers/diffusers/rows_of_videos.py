"""Pipelines for videos: relatives of the families, and further families."""

import diffusers
import tiny_models as models
from pictures import HALF, picture, video
from tiny_pipelines import FAMILIES, Tiny, arguments

WAN, LTX, COGVIDEOX, HUNYUAN = (FAMILIES[name] for name in ("Wan", "LTX", "CogVideoX", "HunyuanVideo"))


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


TWO = {"steps": (2,)}  # of four, with half of the strength
FRAMES = {"output": "frames"}
TEXT = {"guidance_scale": 1.0}
ROWS = (
    Tiny("AnimateDiffPipeline", animate_diff, arguments(num_frames=2, **TEXT), "sd1", (4, 2, 16, 24), **FRAMES),
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
    WAN.like("SkyReelsV2Pipeline"),
    WAN.like(
        "WanVACEPipeline",
        parts=lambda _: {
            "transformer": models.wan_transformer("WanVACETransformer3DModel", vace_layers=[0], vace_in_channels=96)
        },
    ),
    # LTX
    LTX.like("LTXImageToVideoPipeline", {"image": picture(64, 96)}),
    LTX.like("LTXConditionPipeline", {"image": picture(64, 96), "frame_index": 8}),
    # CogVideoX
    COGVIDEOX.like("CogVideoXVideoToVideoPipeline", {"video": video(9), **HALF}, **TWO),
)
