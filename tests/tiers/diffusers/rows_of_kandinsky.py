"""Pipelines with priors and with pixels in place of latents: Kandinsky, DeepFloyd IF, unCLIP, Wuerstchen."""

from dataclasses import replace

import diffusers
import tiny_models as models
import torch
from pictures import mask, picture
from rows_of_other_images import kandinsky, unet_of_images
from tiny_models import noise
from tiny_pipelines import FAMILIES, Tiny, arguments

KANDINSKY5 = FAMILIES["Kandinsky5"]


OF_TEXT = {"addition_embed_type": "text_image", "encoder_hid_dim": 8, "encoder_hid_dim_type": "text_image_proj"}


def kandinsky_of_text():
    """Kandinsky 2.1, whose UNet also gets the text."""
    unet = unet_of_images(
        out_channels=8,
        **OF_TEXT,
    )
    return {**kandinsky(), "unet": unet}


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


def with_condition(parts):
    """The transformer of Kandinsky 5 that also gets an image."""
    config = {name: value for name, value in parts["transformer"].config.items() if not name.startswith("_")}
    return {"transformer": type(parts["transformer"])(**{**config, "visual_cond": True})}


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
HINT = {"hint": torch.rand(1, 3, 128, 192)}
SQUARE_HINT = {"hint": torch.rand(1, 3, 128, 128)}
HALF = {"strength": 0.5}
UNKNOWN = {"notes": ("the latents of Kandinsky",), "decodes_x0": False}
IN_PIXELS = {"space": "pixels", "can_stop": False}
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
    KANDINSKY5.like("Kandinsky5I2IPipeline", {"image": picture()}, with_condition, decodes_x0=False),
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
