"""Pipelines for images that are related to a family: with an image, a mask, a control picture or other guidance."""

import diffusers
import tiny_models as models
import torch
from changed_parts import config_of, controlnet, controlnet_of, scheduler, transformer, unet
from pictures import CONTROL, HALF, HEIGHT, IMAGE, MASK, WIDTH, mask, picture
from tiny_models import noise
from tiny_pipelines import FAMILIES

SD1, SDXL, SD3 = (FAMILIES[name] for name in ("StableDiffusion", "StableDiffusionXL", "StableDiffusion3"))
FLUX, FLUX2, CHROMA, QWEN = (FAMILIES[name] for name in ("Flux", "Flux2", "Chroma", "QwenImage"))
ZIMAGE, PIXART, COGVIEW4 = (FAMILIES[name] for name in ("ZImage", "PixArtSigma", "CogView4"))
HUNYUANDIT, SANA = FAMILIES["HunyuanDiT"], FAMILIES["Sana"]


def unet_of_sdxl(**config):
    """The UNet of Stable Diffusion XL with another configuration."""
    return lambda parts: {"unet": models.unet(**{**config_of(parts["unet"]), **config})}


def lcm(_):
    return {"unet": models.unet(time_cond_proj_dim=8), "scheduler": diffusers.LCMScheduler(**models.OLD)}


def depth():
    return torch.rand(1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def tokens(_):
    return {"tokenizer": models.Tokenizer(), "text_encoder": models.TextEncoder()}


union = controlnet_of(
    "ControlNetUnionModel",
    "unet",
    conditioning_embedding_out_channels=(4, 8),
    num_trans_channel=4,
    num_trans_head=1,
    num_proj_channel=4,
)


def hunyuan_controlnet(parts):
    deeper = transformer(num_layers=4)(parts)
    return {**deeper, **controlnet_of("HunyuanDiT2DControlNetModel", transformer_num_layers=4)(deeper)}


def unclip(_):
    return {
        "unet": models.unet(class_embed_type="projection", projection_class_embeddings_input_dim=16),
        "image_noising_scheduler": diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        "image_normalizer": image_normalizer(),
    }


def image_normalizer():
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer

    return StableUnCLIPImageNormalizer(embedding_dim=8)


def unclip_prior(parts):
    config = {
        "num_attention_heads": 1,
        "attention_head_dim": 8,
        "num_layers": 1,
        "num_embeddings": 6,
        "embedding_dim": 8,
    }
    prior = diffusers.PriorTransformer(additional_embeddings=4, **config)
    return {**unclip(parts), "prior": prior, "prior_scheduler": diffusers.UnCLIPScheduler(prediction_type="sample")}


def rgb_and_depth(_):
    return {"vae": models.kl(4, 0.18215, in_channels=6, out_channels=6)}


def diff_edit(_):
    return {
        "scheduler": diffusers.DDIMScheduler(**models.OLD, clip_sample=False),
        "inverse_scheduler": diffusers.DDIMInverseScheduler(),
    }


def gligen(_):
    return {**tokens(_), "unet": models.unet(attention_type="gated")}


def gligen_of_images(_):
    return {**tokens(_), "unet": models.unet(attention_type="gated-text-image")}


def latent_upscaler(_):
    return {"unet": models.unet(in_channels=8, out_channels=5, time_cond_proj_dim=128 + 8)}


def controlnet_xs(parts):
    unet = models.unet(**{**config_of(parts["unet"]), "layers_per_block": 2})  # it is made for two
    config = {"size_ratio": 0.5, "conditioning_embedding_out_channels": (4, 8)}
    return {"unet": unet, "controlnet": diffusers.ControlNetXSAdapter.from_unet(unet, **config)}


def with_guidance(parts):
    parts["transformer"].register_to_config(guidance_embeds=False)
    return {}


def sprint(parts):
    return {**transformer(guidance_embeds=True)(parts), "scheduler": diffusers.SCMScheduler()}


def zimage_controlnet(channels):
    places = {"control_layers_places": [0], "control_refiner_layers_places": [0]}
    return controlnet_of("ZImageControlNetModel", control_in_dim=channels, **places)


def adapter(kind):
    """An adapter with the size of the first block's result, which the UNet halves."""
    config = {"in_channels": 3, "channels": [4, 8], "num_res_blocks": 1, "adapter_type": kind}
    if kind == "full_adapter_xl":
        return lambda _: {"adapter": diffusers.T2IAdapter(downscale_factor=4, **config)}
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    return lambda _: {"adapter": diffusers.T2IAdapter(downscale_factor=2, **config), "unet": models.unet(**blocks)}


def upscaler(_):
    """It decodes to four times the size of the given picture, whose noise level it gets as a class."""
    return {
        "unet": models.unet(in_channels=7, num_class_embeds=1000),
        "vae": models.kl(4, 0.08333, blocks=3),
        "low_res_scheduler": diffusers.DDPMScheduler(),
    }


class Preprocessor:
    """Stands for the processor of the pictures of a subject."""

    def preprocess(self, image, **_):
        return {"pixel_values": torch.zeros(1, 3, HEIGHT, WIDTH)}

    def postprocess(self, images, **_):
        return images.detach().numpy()


def versatile(parts):
    return {"image_unet": parts["unet"]}


ENCODED_BY_VERSATILE = {"attributes": {"_encode_prompt": lambda *_: models.noise(1, 6, 8)}}
SUBJECTS = {
    "prompt": ["x"],
    "reference_image": picture(),
    "source_subject_category": ["x"],
    "target_subject_category": ["x"],
}
ENCODED_BY_BLIP = {
    "attributes": {
        "image_processor": Preprocessor(),
        "get_query_embeddings": lambda *_: None,
        "encode_prompt": lambda *_: models.noise(1, 6, 8),
    }
}
TWO = {"steps": (2,)}  # of four, with half of the strength
AROUND_MASK = {"decodes_x0": False}  # the result has the given image around the mask
PROMPT = {"prompt": "x"}
BOX = {"gligen_phrases": ["x"], "gligen_boxes": [[0.1, 0.2, 0.5, 0.6]]}
ENCODED_BY_QWEN = {"attributes": {"encode_prompt": lambda *_, **__: (noise(1, 6, 8), torch.zeros(1, 6, 4))}}
SMALL_OF_QWEN = {"variables": {"calculate_dimensions": lambda *_: (WIDTH, HEIGHT, None)}}
WIDE = {"image": picture(64, 96)}
ENCODED = {"attributes": {"encode_prompt": lambda *_, **__: (noise(1, 6, 8), noise(1, 6, 8, seed=6))}}
UNION = {**CONTROL, "control_mode": 0}
UNSTOPPABLE = {"can_stop": False}  # the loop reads no flag
ROWS = (
    # Stable Diffusion 1
    SD1.like("StableDiffusionImg2ImgPipeline", {**IMAGE, **HALF}, **TWO),
    SD1.like("StableDiffusionInpaintPipeline", {**IMAGE, **MASK}, **AROUND_MASK),
    SD1.like("StableDiffusionInpaintPipeline", {**IMAGE, **MASK}, unet(in_channels=9)),
    SD1.like("StableDiffusionInstructPix2PixPipeline", IMAGE, unet(in_channels=8), **UNSTOPPABLE),
    SD1.like("StableDiffusionControlNetPipeline", IMAGE, controlnet),
    SD1.like("StableDiffusionControlNetImg2ImgPipeline", {**IMAGE, **CONTROL, **HALF}, controlnet, **TWO),
    SD1.like("StableDiffusionControlNetInpaintPipeline", {**IMAGE, **CONTROL, **MASK}, controlnet, **AROUND_MASK),
    SD1.like("StableDiffusionPAGPipeline", {"pag_scale": 0.0}),
    SD1.like("StableDiffusionSAGPipeline", {"sag_scale": 0.0}, scheduler("DDIMScheduler"), **UNSTOPPABLE),
    SD1.like(
        "LatentConsistencyModelPipeline",
        parts=lcm,
        **UNSTOPPABLE,
    ),
    SD1.like("LatentConsistencyModelImg2ImgPipeline", {**IMAGE, **HALF}, lcm, **UNSTOPPABLE),
    SD1.like("StableDiffusionPAGImg2ImgPipeline", {**IMAGE, **HALF, "pag_scale": 0.0}, **TWO),
    SD1.like("StableDiffusionPAGInpaintPipeline", {**IMAGE, **MASK, "pag_scale": 0.0, "strength": 1.0}, **AROUND_MASK),
    SD1.like("StableDiffusionControlNetPAGPipeline", {**IMAGE, "pag_scale": 0.0}, controlnet, **UNSTOPPABLE),
    SD1.like(
        "StableDiffusionControlNetPAGInpaintPipeline",
        {**IMAGE, **CONTROL, **MASK, "pag_scale": 0.0},
        controlnet,
        **AROUND_MASK,
        **UNSTOPPABLE,
    ),
    SD1.like("StableDiffusionAdapterPipeline", IMAGE, adapter("full_adapter"), **UNSTOPPABLE),
    SD1.like(
        "StableDiffusionDepth2ImgPipeline",
        {**IMAGE, **HALF, "depth_map": depth()},
        unet(in_channels=5),
        **TWO,
        **UNSTOPPABLE,
    ),
    SD1.like("StableDiffusionLDM3DPipeline", parts=rgb_and_depth, output="rgb"),
    SD1.like("AltDiffusionPipeline", **UNSTOPPABLE),
    SD1.like("AltDiffusionImg2ImgPipeline", {**IMAGE, **HALF}, **TWO, **UNSTOPPABLE),
    SD1.like(
        "CycleDiffusionPipeline",
        {**IMAGE, **HALF, **PROMPT, "source_prompt": "x", "prompt_embeds": None},
        scheduler("DDIMScheduler", clip_sample=False, set_alpha_to_one=False),
        decodes_x0=False,
        attributes={"encode_prompt": lambda *_, **__: (noise(1, 6, 8), None)},
        **TWO,
        **UNSTOPPABLE,
    ),
    SD1.like("StableDiffusionInpaintPipelineLegacy", {**IMAGE, **MASK, **HALF}, **TWO, **AROUND_MASK, **UNSTOPPABLE),
    SD1.like("StableDiffusionModelEditingPipeline", **UNSTOPPABLE),
    SD1.like(
        "StableDiffusionParadigmsPipeline",
        parts=scheduler("DDIMParallelScheduler", clip_sample=False),
        **UNSTOPPABLE,
        show="noisy",
        notes=("StableDiffusionParadigmsPipeline does not call its own scheduler",),
        decodes_x0=False,
    ),
    SD1.like(
        "StableDiffusionPix2PixZeroPipeline",
        {"source_embeds": noise(1, 6, 8), "target_embeds": noise(1, 6, 8, seed=6)},
        scheduler("DDIMScheduler"),
        **UNSTOPPABLE,
        steps=(4, 4),
    ),
    SD1.like(
        "StableDiffusionPipelineSafe", PROMPT, **UNSTOPPABLE, attributes={"_encode_prompt": lambda *_: noise(1, 6, 8)}
    ),
    SD1.like("SemanticStableDiffusionPipeline", PROMPT, tokens),
    SD1.like(
        "StableDiffusionAttendAndExcitePipeline",
        {"prompt": None, "token_indices": [1], "attn_res": (8, 12)},
        **UNSTOPPABLE,
    ),
    SD1.like(
        "StableDiffusionDiffEditPipeline",
        {"mask_image": torch.ones(1, 1, 16, 24), "image_latents": noise(4, 4, 16, 24), "inpaint_strength": 1.0},
        diff_edit,
        **UNSTOPPABLE,
    ),
    SD1.like("StableDiffusionGLIGENPipeline", BOX, gligen, **UNSTOPPABLE),
    SD1.like("StableDiffusionGLIGENTextImagePipeline", BOX, gligen_of_images, **UNSTOPPABLE),
    SD1.like(
        "StableDiffusionImageVariationPipeline",
        IMAGE,
        **UNSTOPPABLE,
        attributes={"_encode_image": lambda *_: noise(1, 1, 8)},
    ),
    SD1.like(
        "StableDiffusionLatentUpscalePipeline",
        {**IMAGE, "pooled_prompt_embeds": noise(1, 8)},
        latent_upscaler,
        latents=(4, 1, 32, 48),
        **UNSTOPPABLE,
    ),
    SD1.like("StableDiffusionControlNetXSPipeline", IMAGE, controlnet_xs, **UNSTOPPABLE),
    SD1.like(
        "StableUnCLIPPipeline",
        {**PROMPT, "prompt_embeds": None, "prior_num_inference_steps": 2, "prior_guidance_scale": 1.0},
        unclip_prior,
        attributes={**ENCODED["attributes"], "_encode_prior_prompt": lambda **_: (noise(1, 8), noise(1, 6, 8), None)},
    ),
    SD1.like(
        "StableUnCLIPImg2ImgPipeline",
        {"image_embeds": noise(1, 8)},
        unclip,
        attributes={"_encode_image": lambda **_: noise(1, 16)},
    ),
    SD1.like(
        "PaintByExamplePipeline",
        {**IMAGE, **MASK, "example_image": picture()},
        unet(in_channels=9),
        **UNSTOPPABLE,
        attributes={"_encode_image": lambda *_: noise(1, 1, 8)},
    ),
    SD1.like(
        "StableDiffusionUpscalePipeline",
        {**IMAGE, "noise_level": 0},
        upscaler,
        space="sd_x4",
        latents=(4, 1, 32, 48),
        **UNSTOPPABLE,
    ),
    SDXL.like(
        "TextToVideoZeroSDXLPipeline",
        {"prompt": None, "video_length": 2, "t0": 0, "t1": 1},
        scheduler("DDIMScheduler", clip_sample=False),
        notes=("the pipeline samples the first frame in two loops",),
        steps=(2, 1, 2),
        latents=(4, 2, 16, 24),
        **UNSTOPPABLE,
    ),
    SD1.like("BlipDiffusionPipeline", SUBJECTS, **ENCODED_BY_BLIP),
    SD1.like(
        "BlipDiffusionControlNetPipeline", {**SUBJECTS, "condtioning_image": picture()}, controlnet, **ENCODED_BY_BLIP
    ),
    SD1.like("VersatileDiffusionTextToImagePipeline", {"prompt": "x"}, versatile, **ENCODED_BY_VERSATILE),
    SD1.like("VersatileDiffusionImageVariationPipeline", IMAGE, versatile, **ENCODED_BY_VERSATILE),
    # Stable Diffusion XL
    SDXL.like("StableDiffusionXLImg2ImgPipeline", {**IMAGE, **HALF}, **TWO),
    SDXL.like("StableDiffusionXLInstructPix2PixPipeline", IMAGE, unet_of_sdxl(in_channels=8), **UNSTOPPABLE),
    SDXL.like("StableDiffusionXLAdapterPipeline", IMAGE, adapter("full_adapter_xl"), **UNSTOPPABLE),
    SDXL.like("StableDiffusionXLPAGImg2ImgPipeline", {**IMAGE, **HALF, "pag_scale": 0.0}, **TWO),
    SDXL.like("StableDiffusionXLPAGInpaintPipeline", {**IMAGE, **MASK, **HALF, "pag_scale": 0.0}, **TWO, **AROUND_MASK),
    SDXL.like("StableDiffusionXLControlNetPAGPipeline", {**IMAGE, "pag_scale": 0.0}, controlnet, **UNSTOPPABLE),
    SDXL.like(
        "StableDiffusionXLControlNetPAGImg2ImgPipeline",
        {**IMAGE, **CONTROL, **HALF, "pag_scale": 0.0},
        controlnet,
        **TWO,
        **UNSTOPPABLE,
    ),
    SDXL.like("StableDiffusionXLControlNetUnionPipeline", {**UNION}, union),
    SDXL.like("StableDiffusionXLControlNetUnionImg2ImgPipeline", {**IMAGE, **UNION, **HALF}, union, **TWO),
    SDXL.like(
        "StableDiffusionXLControlNetUnionInpaintPipeline",
        {**IMAGE, **MASK, **UNION, **HALF},
        union,
        **TWO,
        **AROUND_MASK,
    ),
    SDXL.like("StableDiffusionXLControlNetXSPipeline", IMAGE, controlnet_xs, **UNSTOPPABLE),
    SDXL.like("StableDiffusionXLInpaintPipeline", {**IMAGE, **MASK, **HALF}, **TWO, **AROUND_MASK),
    SDXL.like("StableDiffusionXLControlNetPipeline", IMAGE, controlnet),
    SDXL.like("StableDiffusionXLControlNetImg2ImgPipeline", {**IMAGE, **CONTROL, **HALF}, controlnet, **TWO),
    SDXL.like(
        "StableDiffusionXLControlNetInpaintPipeline",
        {**IMAGE, **CONTROL, **MASK, **HALF},
        controlnet,
        **TWO,
        **AROUND_MASK,
    ),
    SDXL.like("StableDiffusionXLPAGPipeline", {"pag_scale": 0.0}),
    PIXART.like("PixArtAlphaPipeline", **UNSTOPPABLE),
    # Stable Diffusion 3
    SD3.like("StableDiffusion3Img2ImgPipeline", {**IMAGE, **HALF}, **TWO),
    SD3.like("StableDiffusion3InpaintPipeline", {**IMAGE, **MASK, **HALF}, **TWO, **AROUND_MASK),
    SD3.like("StableDiffusion3ControlNetPipeline", CONTROL, controlnet_of("SD3ControlNetModel")),
    SD3.like("StableDiffusion3PAGPipeline", {"pag_scale": 0.0}),
    SD3.like("StableDiffusion3PAGImg2ImgPipeline", {**IMAGE, **HALF, "pag_scale": 0.0}, **TWO),
    SD3.like(
        "StableDiffusion3ControlNetInpaintingPipeline",
        {**CONTROL, "control_mask": mask()},
        controlnet_of("SD3ControlNetModel", extra_conditioning_channels=1),
    ),
    # FLUX.1
    FLUX.like("FluxImg2ImgPipeline", {**IMAGE, **HALF}, **TWO),
    FLUX.like("FluxInpaintPipeline", {**IMAGE, **MASK, **HALF}, **TWO, **AROUND_MASK),
    FLUX.like("FluxKontextPipeline", {**IMAGE, "max_area": HEIGHT * WIDTH, "_auto_resize": False}),
    FLUX.like("FluxControlPipeline", CONTROL, transformer(in_channels=128, out_channels=64)),
    FLUX.like(
        "FluxControlImg2ImgPipeline",
        {**IMAGE, **CONTROL, **HALF},
        transformer(in_channels=128, out_channels=64),
        **TWO,
    ),
    FLUX.like("FluxFillPipeline", {**IMAGE, **MASK}, transformer(in_channels=2 * 64 + 16, out_channels=64)),
    FLUX.like("FluxControlNetPipeline", CONTROL, controlnet_of("FluxControlNetModel")),
    FLUX.like(
        "FluxControlInpaintPipeline",
        {**IMAGE, **MASK, **CONTROL, **HALF},
        transformer(in_channels=128, out_channels=64),
        **TWO,
        **AROUND_MASK,
    ),
    FLUX.like(
        "FluxControlNetImg2ImgPipeline",
        {**IMAGE, **CONTROL, **HALF},
        controlnet_of("FluxControlNetModel"),
        **TWO,
    ),
    FLUX.like(
        "FluxControlNetInpaintPipeline",
        {**IMAGE, **MASK, **CONTROL, **HALF},
        controlnet_of("FluxControlNetModel"),
        **TWO,
        **AROUND_MASK,
    ),
    FLUX.like(
        "FluxKontextInpaintPipeline",
        {**IMAGE, **MASK, **HALF, "max_area": HEIGHT * WIDTH, "_auto_resize": False},
        **TWO,
        **AROUND_MASK,
    ),
    FLUX2.like("Flux2KleinPipeline", **ENCODED_BY_QWEN),
    FLUX2.like(
        "Flux2KleinInpaintPipeline",
        {**WIDE, **MASK, **HALF},
        **TWO,
        **AROUND_MASK,
        **ENCODED_BY_QWEN,
        latents=(32, 1, 32, 48),
    ),
    FLUX2.like("Flux2KleinKVPipeline", {"image": picture(64, 96)}),
    CHROMA.like("ChromaInpaintPipeline", {**IMAGE, **MASK, **HALF}, with_guidance, **TWO, **AROUND_MASK),
    CHROMA.like("ChromaImg2ImgPipeline", {**IMAGE, **HALF}, **TWO),
    ZIMAGE.like("ZImageImg2ImgPipeline", {**IMAGE, **HALF}, **TWO),
    ZIMAGE.like("ZImageInpaintPipeline", {**IMAGE, **MASK}, **AROUND_MASK),
    ZIMAGE.like("ZImageControlNetPipeline", CONTROL, zimage_controlnet(16)),
    ZIMAGE.like("ZImageControlNetInpaintPipeline", {**IMAGE, **MASK, **CONTROL}, zimage_controlnet(33)),
    ZIMAGE.like("ZImageOmniPipeline", {"prompt_embeds": [[noise(6, 8)]]}, transformer(siglip_feat_dim=8)),
    # Others
    QWEN.like(
        "QwenImageControlNetInpaintPipeline",
        {**CONTROL, "control_mask": mask()},
        controlnet_of("QwenImageControlNetModel", extra_condition_channels=4),
    ),
    QWEN.like("QwenImageEditPipeline", IMAGE, **SMALL_OF_QWEN),
    QWEN.like("QwenImageEditInpaintPipeline", {**IMAGE, **MASK, **HALF}, **TWO, **AROUND_MASK, **SMALL_OF_QWEN),
    QWEN.like("QwenImageEditPlusPipeline", IMAGE, variables={"calculate_dimensions": lambda *_: (WIDTH, HEIGHT)}),
    QWEN.like(
        "QwenImageLayeredPipeline",
        {**IMAGE, "layers": 2},
        tokens,
        latents=(16, 3, 4, 6),
        attributes={"get_image_caption": lambda *_, **__: "x"},
        decodes_x0=False,
        variables={"calculate_dimensions": lambda *_: (WIDTH, HEIGHT)},
    ),
    PIXART.like("PixArtSigmaPAGPipeline", {"pag_scale": 0.0}, **UNSTOPPABLE),
    HUNYUANDIT.like("HunyuanDiTPAGPipeline", {"pag_scale": 0.0}),
    HUNYUANDIT.like("HunyuanDiTControlNetPipeline", CONTROL, hunyuan_controlnet),
    SANA.like("SanaPAGPipeline", {"pag_scale": 0.0}),
    SANA.like("SanaControlNetPipeline", {"control_image": picture(32, 64)}, controlnet_of("SanaControlNetModel")),
    SANA.like("SanaSprintPipeline", {"intermediate_timesteps": None}, sprint),
    SANA.like(
        "SanaSprintImg2ImgPipeline", {"image": picture(32, 64), "intermediate_timesteps": None, **HALF}, sprint, **TWO
    ),
    QWEN.like("QwenImageImg2ImgPipeline", {**IMAGE, **HALF}, **TWO),
    QWEN.like("QwenImageInpaintPipeline", {**IMAGE, **MASK, **HALF}, **TWO, **AROUND_MASK),
    QWEN.like("QwenImageControlNetPipeline", CONTROL, controlnet_of("QwenImageControlNetModel")),
    COGVIEW4.like("CogView4ControlPipeline", CONTROL, transformer(in_channels=32)),
)
