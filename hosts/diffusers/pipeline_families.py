"""How the pipelines of diffusers lay out their latents: a row for each family that differs from the others.

Source of every row: diffusers 0.42.1, the pipelines of that name.
"""

from dataclasses import dataclass
from typing import Any, Literal

from .modular_blocks import is_modular, loop_blocks

# Axes of a scheduler's latents, one layout for each number of axes. A group in parentheses is one axis; p and q are the
# rows and columns of a patch; 1 is an axis whose last entry is the picture, after given ones. (B T) are the frames of a
# video, folded into the batch; (T C) are several pictures, side by side in the channels, which are shown as frames.
TOKENS = "B (T H W) (C p q)"
ROWS = "(T H W) (C p q)"  # the tokens of one item
COMMON_AXES = (TOKENS, "B C H W", "B C T H W")
FRAMES_FIRST = ("B T C H W",)
CHANNELS_LAST = ("B T H W C",)
FRAMES_IN_BATCH = ("(B T) C H W",)
SECTIONS = "the pipeline samples its video in sections, one after another: each of its runs shows one section"
FIRST_FRAME = (
    "the pipeline samples the first frame in two loops, then all frames in a third one: each of its runs shows one loop"
)


@dataclass(frozen=True, kw_only=True)
class PipelineFamily:
    """Pipelines whose class names begin with the same word.

    Args:
        pipelines: beginnings of the class names; the longest match wins.
        axes: layouts of their latents that differ from `COMMON_AXES`.
        extra_tokens: position of tokens that are not part of the picture or video: before or after it.
        space: name of the latent space, for a pipeline that has no VAE or whose VAE does not reveal it.
        token_sides: attributes of the pipelines whose product is the side of a token in pixels, if their call does not
            say the size of the latents.
        shifts: whether they apply the shift that their VAE states before they decode.
        shows_last_call: whether a step of the loop calls the scheduler several times, and only the last call is the
            step's.
        part: note for the user that a run is only a part of the image or video; empty if it is all of it.
    """

    pipelines: tuple[str, ...]
    axes: tuple[str, ...] = ()
    extra_tokens: Literal["before", "after"] = "after"
    space: str | None = None
    token_sides: tuple[str, ...] = ()
    shifts: bool = True
    shows_last_call: bool = False
    part: str = ""


SIDES_OF_LTX = ("vae_spatial_compression_ratio", "transformer_spatial_patch_size")
DEFAULT_FAMILY = PipelineFamily(pipelines=("",))
FAMILIES = (
    DEFAULT_FAMILY,
    PipelineFamily(pipelines=("StableDiffusion", "LatentConsistencyModel", "AnimateDiff", "PixArtAlpha"), space="sd1"),
    PipelineFamily(pipelines=("AltDiffusion", "BlipDiffusion", "CycleDiffusion", "PaintByExample", "PIA"), space="sd1"),
    PipelineFamily(pipelines=("LEditsPPPipelineStableDiffusion", "SemanticStableDiffusion"), space="sd1"),
    PipelineFamily(pipelines=("StableUnCLIP", "VersatileDiffusion", "DiT", "Latte", "Marigold"), space="sd1"),
    PipelineFamily(pipelines=("MarigoldIntrinsics",), axes=("B (T C) H W",), space="sd1"),
    PipelineFamily(pipelines=("StableDiffusionUpscale",), space="sd_x4"),
    PipelineFamily(pipelines=("StableDiffusionXL", "AnimateDiffSDXL", "PixArtSigma", "Kolors"), space="sdxl"),
    PipelineFamily(pipelines=("LEditsPPPipelineStableDiffusionXL",), space="sdxl"),
    PipelineFamily(pipelines=("AuraFlow", "HunyuanDiT", "LuminaPipeline", "OmniGen"), space="sdxl"),
    PipelineFamily(pipelines=("StableDiffusion3",), space="sd3"),
    PipelineFamily(pipelines=("StableCascadePrior",), space="cascade_prior"),
    PipelineFamily(pipelines=("StableCascadeDecoder",), space="cascade_b"),
    PipelineFamily(pipelines=("Flux", "Chroma", "ZImage", "HiDream", "Lumina2", "LongCatImage"), space="flux1"),
    PipelineFamily(pipelines=("Flux2", "ErnieImage"), space="flux2"),
    PipelineFamily(pipelines=("Ideogram4",), axes=("B (T H W) (p q C)",), space="flux2"),
    PipelineFamily(pipelines=("Sana",), space="sana"),
    PipelineFamily(pipelines=("SanaVideo",)),
    PipelineFamily(pipelines=("CogView4",), space="cogview4"),
    PipelineFamily(pipelines=("QwenImage", "Krea2", "Wan"), space="wan21"),
    PipelineFamily(pipelines=("WanAnimate",), space="wan21", part=SECTIONS),
    PipelineFamily(pipelines=("AnyFlow",), axes=FRAMES_FIRST, space="wan21"),
    PipelineFamily(pipelines=("AnyFlowFAR",), axes=FRAMES_FIRST, space="wan21", part=SECTIONS),
    PipelineFamily(pipelines=("Helios",), part=SECTIONS),
    PipelineFamily(pipelines=("QwenImage21",), space="qwen_image21"),
    PipelineFamily(pipelines=("HunyuanImage",), space="hunyuan_image21"),
    PipelineFamily(pipelines=("HunyuanVideo",), space="hunyuan_video"),
    PipelineFamily(pipelines=("HunyuanVideo15",), space="hunyuan_video15"),
    PipelineFamily(pipelines=("HunyuanVideoFramepack",), space="hunyuan_video", part=SECTIONS),
    PipelineFamily(pipelines=("LTX",), extra_tokens="before", space="ltxv"),
    PipelineFamily(pipelines=("LTXI2VLongMultiPrompt",), extra_tokens="before", space="ltxv", part=SECTIONS),
    PipelineFamily(pipelines=("LTX2",), extra_tokens="after", space="ltx2", token_sides=SIDES_OF_LTX),
    PipelineFamily(pipelines=("Mochi",), space="mochi"),
    PipelineFamily(pipelines=("Allegro",), space="allegro"),
    PipelineFamily(pipelines=("CogVideoX", "ConsisID"), axes=FRAMES_FIRST, space="cogvideox"),
    PipelineFamily(pipelines=("StableVideoDiffusion",), axes=FRAMES_FIRST, space="sd1"),
    PipelineFamily(pipelines=("TextToVideoSD", "VideoToVideoSD", "I2VGenXL"), axes=FRAMES_IN_BATCH, space="sd1"),
    PipelineFamily(pipelines=("TextToVideoZero",), axes=FRAMES_IN_BATCH, space="sd1", part=FIRST_FRAME),
    PipelineFamily(pipelines=("TextToVideoZeroSDXL",), axes=FRAMES_IN_BATCH, space="sdxl", part=FIRST_FRAME),
    PipelineFamily(pipelines=("Cosmos3",), axes=("1 B C T H W",), space="wan22"),
    PipelineFamily(pipelines=("MiniMaxH3",), axes=(ROWS,), space="minimax_h3"),
    PipelineFamily(pipelines=("MiniMaxMusic3",), space="minimax_music3"),
    PipelineFamily(pipelines=("Flux3",), space="flux2"),
    PipelineFamily(pipelines=("Anima",), space="wan21"),
    PipelineFamily(pipelines=("Echo",), extra_tokens="after", space="ltx2"),
    # Its first call of a step makes an estimate without guidance of the model's output, the second takes the step.
    PipelineFamily(pipelines=("CosmosTextToWorld", "CosmosVideoToWorld"), shows_last_call=True),
    PipelineFamily(pipelines=("Kandinsky5", "Kandinsky6"), axes=CHANNELS_LAST, shifts=False),
    PipelineFamily(pipelines=("JoyImageEdit",), axes=("B 1 C T H W",)),
    PipelineFamily(pipelines=("JoyImageEditPlus",), axes=("B (T H W) C 1 p q",)),
)


def family_of(pipeline: type) -> PipelineFamily:
    """Returns the family of a class of pipelines; that of its nearest base class if its own name has none."""
    # Not its mixins: those of Stable Diffusion's options are also those of pipelines for sound.
    bases = (base for base in pipeline.__mro__ if base is pipeline or hasattr(base, "progress_bar"))
    rows = (family_named(base.__name__) for base in bases)
    return next((row for row in rows if row is not DEFAULT_FAMILY), DEFAULT_FAMILY)


def family_of_pipeline(pipeline: Any) -> PipelineFamily:
    """Returns the family of a pipeline; of a modular pipeline without a class of its own, that of its blocks."""
    row = family_of(type(pipeline))
    if row is not DEFAULT_FAMILY or not is_modular(pipeline):
        return row
    rows = (family_named(type(block).__name__) for block in loop_blocks(pipeline))
    return next((row for row in rows if row is not DEFAULT_FAMILY), DEFAULT_FAMILY)


def family_named(pipeline: str) -> PipelineFamily:
    """Returns the family of the pipelines with this class name."""
    matches = [(len(name), row) for row in FAMILIES for name in row.pipelines if pipeline.startswith(name)]
    return max(matches, key=lambda match: match[0])[1]
