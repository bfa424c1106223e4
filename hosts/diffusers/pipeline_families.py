"""How the pipelines of diffusers lay out their latents, a row for each family that has its own way.

Source of every row: diffusers 0.42.1, the pipelines of that name.
"""

from dataclasses import dataclass
from typing import Literal

# Axes of what a scheduler steps, by how many it has: a group in brackets is one axis. p and q are the rows and columns
# of a patch, 1 is an axis of that length.
PLAIN = ("B (T H W) (C p q)", "B C H W", "B C T H W")
FRAMES_FIRST = ("B T C H W",)
CHANNELS_LAST = ("B T H W C",)


@dataclass(frozen=True, kw_only=True)
class PipelineFamily:
    """Pipelines whose class names begin alike.

    Args:
        pipelines: how the names begin; the longest that fits counts.
        axes: of their latents, one for each number of axes that differs from `PLAIN`.
        guests: where tokens stand that are no part of the picture or video: before or after it.
        space: the latent space, for a pipeline whose VAE does not tell, or that has none.
        shifts: whether they give their VAE the shift that it states.
    """

    pipelines: tuple[str, ...]
    axes: tuple[str, ...] = ()
    guests: Literal["before", "after"] = "after"
    space: str | None = None
    shifts: bool = True


ANY = PipelineFamily(pipelines=("",))
FAMILIES = (
    ANY,
    PipelineFamily(pipelines=("StableDiffusion", "LatentConsistencyModel", "AnimateDiff", "PixArtAlpha"), space="sd1"),
    PipelineFamily(pipelines=("StableDiffusionXL", "AnimateDiffSDXL", "PixArtSigma", "Kolors"), space="sdxl"),
    PipelineFamily(pipelines=("AuraFlow", "HunyuanDiT", "LuminaPipeline", "OmniGen"), space="sdxl"),
    PipelineFamily(pipelines=("StableDiffusion3",), space="sd3"),
    PipelineFamily(pipelines=("Flux", "Chroma", "ZImage", "HiDream", "Lumina2", "LongCatImage"), space="flux1"),
    PipelineFamily(pipelines=("Flux2", "ErnieImage"), space="flux2"),
    PipelineFamily(pipelines=("Ideogram4",), axes=("B (T H W) (p q C)",), space="flux2"),
    PipelineFamily(pipelines=("Sana",), space="sana"),
    PipelineFamily(pipelines=("SanaVideo",)),
    PipelineFamily(pipelines=("CogView4",), space="cogview4"),
    PipelineFamily(pipelines=("QwenImage", "Krea2", "Wan"), space="wan21"),
    PipelineFamily(pipelines=("QwenImage21",), space="qwen_image21"),
    PipelineFamily(pipelines=("HunyuanImage",), space="hunyuan_image21"),
    PipelineFamily(pipelines=("HunyuanVideo",), space="hunyuan_video"),
    PipelineFamily(pipelines=("HunyuanVideo15",), space="hunyuan_video15"),
    PipelineFamily(pipelines=("LTX",), guests="before", space="ltxv"),
    PipelineFamily(pipelines=("LTX2",), guests="after", space="ltx2"),
    PipelineFamily(pipelines=("Mochi",), space="mochi"),
    PipelineFamily(pipelines=("Allegro",), space="allegro"),
    PipelineFamily(pipelines=("CogVideoX", "ConsisID"), axes=FRAMES_FIRST, space="cogvideox"),
    PipelineFamily(pipelines=("StableVideoDiffusion",), axes=FRAMES_FIRST, space="sd1"),
    PipelineFamily(pipelines=("Kandinsky5", "Kandinsky6"), axes=CHANNELS_LAST, shifts=False),
    PipelineFamily(pipelines=("JoyImageEdit",), axes=("B 1 C T H W",)),
)


def family_of(pipeline: str) -> PipelineFamily:
    """The family of a pipeline, by the name of its class."""
    fitting = [(len(name), row) for row in FAMILIES for name in row.pipelines if pipeline.startswith(name)]
    return max(fitting, key=lambda pair: pair[0])[1]
