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
class Family:
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


ANY = Family(pipelines=("",))
FAMILIES = (
    ANY,
    Family(pipelines=("StableDiffusion", "LatentConsistencyModel", "AnimateDiff", "PixArtAlpha"), space="sd1"),
    Family(pipelines=("StableDiffusionXL", "AnimateDiffSDXL", "PixArtSigma", "Kolors"), space="sdxl"),
    Family(pipelines=("AuraFlow", "HunyuanDiT", "LuminaPipeline", "OmniGen"), space="sdxl"),
    Family(pipelines=("StableDiffusion3",), space="sd3"),
    Family(pipelines=("Flux", "Chroma", "ZImage", "HiDream", "Lumina2", "LongCatImage"), space="flux1"),
    Family(pipelines=("Flux2", "ErnieImage"), space="flux2"),
    Family(pipelines=("Ideogram4",), axes=("B (T H W) (p q C)",), space="flux2"),
    Family(pipelines=("Sana",), space="sana"),
    Family(pipelines=("SanaVideo",)),
    Family(pipelines=("CogView4",), space="cogview4"),
    Family(pipelines=("QwenImage", "Krea2", "Wan"), space="wan21"),
    Family(pipelines=("QwenImage21",), space="qwen_image21"),
    Family(pipelines=("HunyuanImage",), space="hunyuan_image21"),
    Family(pipelines=("HunyuanVideo",), space="hunyuan_video"),
    Family(pipelines=("HunyuanVideo15",), space="hunyuan_video15"),
    Family(pipelines=("LTX",), guests="before", space="ltxv"),
    Family(pipelines=("LTX2",), guests="after", space="ltx2"),
    Family(pipelines=("Mochi",), space="mochi"),
    Family(pipelines=("Allegro",), space="allegro"),
    Family(pipelines=("CogVideoX", "ConsisID"), axes=FRAMES_FIRST, space="cogvideox"),
    Family(pipelines=("StableVideoDiffusion",), axes=FRAMES_FIRST, space="sd1"),
    Family(pipelines=("Kandinsky5", "Kandinsky6"), axes=CHANNELS_LAST, shifts=False),
    Family(pipelines=("JoyImageEdit",), axes=("B 1 C T H W",)),
)


def family_of(pipeline: str) -> Family:
    """The family of a pipeline, by the name of its class."""
    fitting = [(len(name), row) for row in FAMILIES for name in row.pipelines if pipeline.startswith(name)]
    return max(fitting, key=lambda pair: pair[0])[1]
