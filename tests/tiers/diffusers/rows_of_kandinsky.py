"""Pipelines with priors and with pixels in place of latents: Kandinsky, DeepFloyd IF, unCLIP, Wuerstchen."""

from dataclasses import replace

import diffusers
import tiny_models as models
import torch
from changed_parts import transformer
from pictures import mask, picture
from rows_of_other_images import kandinsky, unet_of_images
from tiny_models import noise
from tiny_pipelines import FAMILIES, Tiny, arguments

KANDINSKY5 = FAMILIES["Kandinsky5"]


OF_TEXT = {"addition_embed_type": "text_image", "encoder_hid_dim": 8, "encoder_hid_dim_type": "text_image_proj"}


def kandinsky_of_text():
    """Kandinsky 2.1, whose UNet also gets the text."""
    return {**kandinsky(), "unet": unet_of_images(out_channels=8, **OF_TEXT)}


def kandinsky_unet(channels, **config):
    """Another UNet of Kandinsky 2.2."""
    given = {"addition_embed_type": "image", "encoder_hid_dim": 8, "encoder_hid_dim_type": "image_proj", **config}
    return lambda _: {"unet": unet_of_images(in_channels=channels, out_channels=8, **given)}


def kandinsky3():
    unet = diffusers.Kandinsky3UNet(
        in_channels=4,
        time_embedding_dim=4,
        groups=2,
        attention_head_dim=4,
        layers_per_block=3,
        block_out_channels=(32, 64),
        cross_attention_dim=4,
        encoder_hid_dim=8,
    )
    return {**kandinsky(), "unet": unet, "scheduler": diffusers.DDPMScheduler(**models.OLD)}


def prior():
    """The prior of Kandinsky, which samples embeddings."""
    config = {"num_attention_heads": 1, "attention_head_dim": 8, "num_layers": 1, "num_embeddings": 6}
    return {
        "prior_prior": diffusers.PriorTransformer(embedding_dim=8, **config),
        "prior_scheduler": diffusers.UnCLIPScheduler(prediction_type="sample"),
    }


def super_resolution(channels):
    def parts(own):
        unet = unet_of_images(
            in_channels=channels, out_channels=6, class_embed_type="timestep", encoder_hid_dim=8, act_fn="gelu"
        )
        return {"unet": unet, "image_noising_scheduler": diffusers.DDPMScheduler()}

    return parts


def deep_floyd():
    unet = unet_of_images(in_channels=3, out_channels=6, encoder_hid_dim=8)
    return {"unet": unet, "scheduler": diffusers.DDPMScheduler(variance_type="learned_range")}


IMAGE, MASK = {"image": picture()}, {"mask_image": mask()}
SQUARE = {"image": picture(32, 32), "height": 32, "width": 32}  # for others, diffusers swaps height and width
EMBEDS = {"image_embeds": noise(1, 8), "negative_image_embeds": noise(1, 8)}
HINT = {"hint": noise(1, 3, 128, 192)}
SQUARE_HINT = {"hint": noise(1, 3, 128, 128)}
HALF = {"strength": 0.5}
UNKNOWN = {"notes": ("the latents of Kandinsky",), "decodes_x0": False}
TWO = {"steps": (2,)}
TEXT = {"guidance_scale": 1.0}
V22 = Tiny("KandinskyV22Pipeline", kandinsky, arguments(**TEXT, **EMBEDS), "unknown", (4, 1, 16, 24), **UNKNOWN)
V21 = Tiny(
    "KandinskyPipeline",
    kandinsky_of_text,
    arguments(**TEXT, prompt="x"),
    "unknown",
    (4, 1, 16, 24),
    more=EMBEDS,
    attributes={"_encode_prompt": lambda *_, **__: (noise(1, 8), noise(1, 6, 8), None)},
    **UNKNOWN,
)
IF = Tiny(
    "IFImg2ImgPipeline",
    deep_floyd,
    arguments(**TEXT, clean_caption=False),
    "pixels",
    (3, 1, 16, 24),
    more=IMAGE,
    can_stop=False,
    steps=(2,),
)
PRIOR = {"prior_num_inference_steps": 2, "prior_guidance_scale": 1.0}
WITH_PRIOR = {
    "prior_pipe._encode_prompt": lambda *_, **__: (noise(1, 8), noise(1, 6, 8), torch.ones(1, 6).bool()),
    "prior_pipe.get_zero_embed": lambda *_, **__: noise(1, 8),
}


def with_prior(row, kind, **fields):
    """The row of a pipeline that consists of a prior and the pipeline of a row."""
    more = {name: value for name, value in row.more.items() if name not in EMBEDS}
    attributes = {f"decoder_pipe.{name}": value for name, value in row.attributes.items()} | WITH_PRIOR
    return replace(
        row,
        kind=kind,
        parts=lambda: {**row.parts(), **prior()},
        call=arguments(guidance_scale=1.0, prompt="x", prompt_embeds=None),
        more={**more, **PRIOR},
        attributes=attributes,
        can_stop=True,
        **fields,
    )


def cascade_decoder():
    decoder = diffusers.StableCascadeUNet(
        in_channels=4,
        out_channels=4,
        conditioning_dim=16,
        block_out_channels=(16, 16),
        num_attention_heads=(-1, 2),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        down_blocks_repeat_mappers=(1, 1),
        up_blocks_repeat_mappers=(1, 1),
        block_types_per_layer=(
            ("SDCascadeResBlock", "SDCascadeTimestepBlock"),
            ("SDCascadeResBlock", "SDCascadeTimestepBlock", "SDCascadeAttnBlock"),
        ),
        switch_level=None,
        clip_text_pooled_in_channels=8,
        effnet_in_channels=16,
        dropout=(0.0, 0.0),
        patch_size=2,
    )
    return {
        "decoder": decoder,
        **vqgan(),
        "text_encoder": models.TextEncoder(),
        "scheduler": diffusers.DDPMWuerstchenScheduler(),
    }


def vqgan():
    from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel

    return {"vqgan": PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2, embed_dim=8)}


def wuerstchen_decoder():
    from diffusers.pipelines.deprecated.wuerstchen import WuerstchenDiffNeXt

    decoder = WuerstchenDiffNeXt(
        c_cond=4,
        c_hidden=[8, 8],
        nhead=[-1, 2],
        blocks=[1, 1],
        level_config=["CT", "CTA"],
        inject_effnet=[False, True],
        clip_embd=8,
        dropout=0.0,
    )
    return {**cascade_decoder(), "decoder": decoder}


def wuerstchen_prior():
    from diffusers.pipelines.deprecated.wuerstchen import WuerstchenPrior

    return {
        "prior": WuerstchenPrior(c=16, c_cond=8, depth=1, nhead=2),
        "text_encoder": models.TextEncoder(),
        "scheduler": diffusers.DDPMWuerstchenScheduler(),
    }


def wuerstchen():
    return {
        **wuerstchen_decoder(),
        **{f"prior_{name}": part for name, part in wuerstchen_prior().items()},
        "tokenizer": models.Tokenizer(),
        "prior_tokenizer": models.Tokenizer(),
    }


def unclip():
    from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel

    config = {"num_attention_heads": 1, "attention_head_dim": 8, "num_layers": 1, "num_embeddings": 6}
    fixed, learned = {"variance_type": "fixed_small_log"}, {"variance_type": "learned_range"}
    schedulers = {
        "prior_scheduler": diffusers.UnCLIPScheduler(**fixed, prediction_type="sample"),
        "decoder_scheduler": diffusers.UnCLIPScheduler(**learned),
        "super_res_scheduler": diffusers.UnCLIPScheduler(**fixed),
    }
    super_res = diffusers.UNet2DModel(
        sample_size=32,
        in_channels=6,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(4, 8),
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
        norm_num_groups=2,
    )
    return {
        "prior": diffusers.PriorTransformer(embedding_dim=8, **config),
        "decoder": unet_of_images(
            sample_size=16, in_channels=3, out_channels=6, class_embed_type="identity", encoder_hid_dim=None
        ),
        "text_proj": UnCLIPTextProjModel(
            clip_embeddings_dim=8, time_embed_dim=16, cross_attention_dim=8, clip_extra_context_tokens=1
        ),
        "super_res_first": super_res,
        "super_res_last": super_res,
        **schedulers,
    }


OF_DECODERS = {"decoder_num_inference_steps": 3, "super_res_num_inference_steps": 4, "decoder_guidance_scale": 1.0}
UNCLIP = Tiny(
    "UnCLIPPipeline",
    unclip,
    arguments(prompt="x", prompt_embeds=None),
    "pixels",
    (3, 1, 32, 32),
    more={"prior_num_inference_steps": 2, "prior_guidance_scale": 1.0, **OF_DECODERS},
    steps=(3, 4),
    attributes={"_encode_prompt": lambda *_, **__: (noise(1, 8), noise(1, 6, 8), torch.ones(1, 6).bool())},
)
CASCADE = Tiny(
    "StableCascadeDecoderPipeline",
    cascade_decoder,
    arguments(guidance_scale=1.0, prompt_embeds_pooled=(1, 1, 8)),
    "cascade_b",
    (4, 1, 32, 64),
    more={"image_embeddings": noise(1, 16, 3, 6)},
    decodes_x0=False,
)
WUERSTCHEN = CASCADE.like(
    "WuerstchenDecoderPipeline",
    {"prompt": "x"},
    lambda _: wuerstchen_decoder(),
    attributes={"encode_prompt": lambda *_: (noise(1, 6, 8), None)},
    space="unknown",
    notes=("the latents of Wuerstchen",),
)
SMALL = {"image": picture(16, 24), "noise_level": 0}
OF_V22 = (
    V22.like("KandinskyV22Img2ImgPipeline", {**SQUARE, **HALF}, latents=(4, 1, 16, 16), **TWO),
    V22.like("KandinskyV22InpaintPipeline", {**IMAGE, **MASK}, kandinsky_unet(9)),
)
OF_V21 = (
    V21.like("KandinskyImg2ImgPipeline", {**SQUARE, **HALF}, latents=(4, 1, 16, 16), **TWO),
    V21.like("KandinskyInpaintPipeline", {**IMAGE, **MASK}, kandinsky_unet(9, **OF_TEXT)),
)
ROWS = (
    *OF_V22,
    *OF_V21,
    CASCADE,
    WUERSTCHEN,
    Tiny(
        "WuerstchenPriorPipeline",
        wuerstchen_prior,
        arguments(512, 768, **TEXT),
        "unknown",
        (16, 1, 12, 18),
        output="image_embeddings",
        notes=("the latents of Wuerstchen",),
    ),
    Tiny(
        "WuerstchenCombinedPipeline",
        wuerstchen,
        arguments(512, 768, prompt="x", prompt_embeds=None),
        "unknown",
        (4, 1, 128, 192),
        more={"prior_num_inference_steps": 2, "prior_guidance_scale": 1.0, "decoder_guidance_scale": 1.0},
        steps=(2, 4),
        notes=("the latents of Wuerstchen",),
        decodes_x0=False,
    ),
    UNCLIP,
    replace(
        UNCLIP,
        kind="UnCLIPImageVariationPipeline",
        more={"image": picture(), **OF_DECODERS},
        attributes={**UNCLIP.attributes, "_encode_image": lambda *_: noise(1, 8)},
    ),
    with_prior(V22, "KandinskyV22CombinedPipeline"),
    with_prior(OF_V22[0], "KandinskyV22Img2ImgCombinedPipeline"),
    with_prior(OF_V22[1], "KandinskyV22InpaintCombinedPipeline"),
    with_prior(V21, "KandinskyCombinedPipeline"),
    with_prior(OF_V21[0], "KandinskyImg2ImgCombinedPipeline"),
    with_prior(OF_V21[1], "KandinskyInpaintCombinedPipeline"),
    V22.like("KandinskyV22ControlnetPipeline", HINT, kandinsky_unet(8, addition_embed_type="image_hint")),
    V22.like(
        "KandinskyV22ControlnetImg2ImgPipeline",
        {**SQUARE_HINT, **SQUARE, **HALF},
        kandinsky_unet(8, addition_embed_type="image_hint"),
        **TWO,
        latents=(4, 1, 16, 16),
    ),
    V21,
    Tiny(
        "Kandinsky3Pipeline",
        kandinsky3,
        arguments(**TEXT, attention_mask=torch.ones(1, 6)),
        "unknown",
        (4, 1, 8, 8),
        **UNKNOWN,
        can_stop=False,
    ),
    Tiny(
        "Kandinsky3Img2ImgPipeline",
        kandinsky3,
        arguments(**TEXT, attention_mask=torch.ones(1, 6)),
        "unknown",
        (4, 1, 16, 24),
        more={"image": picture(), **HALF},
        **TWO,
        **UNKNOWN,
        can_stop=False,
    ),
    KANDINSKY5.like("Kandinsky5I2IPipeline", {"image": picture()}, transformer(visual_cond=True), decodes_x0=False),
    IF.like("IFImg2ImgPipeline", HALF),
    IF.like("IFInpaintingPipeline", {**MASK, **HALF}),
    IF.like("IFSuperResolutionPipeline", SMALL, super_resolution(6), steps=(4,), latents=(3, 1, 32, 48)),
    IF.like("IFImg2ImgSuperResolutionPipeline", {**SMALL, **HALF, "original_image": picture()}, super_resolution(6)),
    IF.like(
        "IFInpaintingSuperResolutionPipeline",
        {**SMALL, **HALF, **MASK, "original_image": picture()},
        super_resolution(6),
    ),
)
