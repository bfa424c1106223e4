"""Ends a denoise node early, with the model's estimate of a step as its latents."""

from typing import Any, final

from torch import Tensor

from ...decoders.latents.space import LatentSpace
from .load_run import SPACES_WITH_NORM

WITH_FRAMES = {"qwen-image", "krea-2"}  # base models whose nodes output `[B, C, 1, H, W]`
PLAIN_OUTPUT = "LatentsOutput"  # InvokeAI's class; outputs with metadata are built by the nodes themselves


@final
class EndedByRule(Exception):  # noqa: N818 - not an error; InvokeAI's loops pass it on like that of a canceled node
    """Ends the loop of a denoise node, from its step callback.

    Args:
        latents: estimate of the finished latents, as the node outputs its latents.
    """

    def __init__(self, latents: Tensor) -> None:
        super().__init__("the run ends with the estimate of a step")
        self.latents = latents


def why_not_kept(node: Any, output_type: Any, space: LatentSpace, *, middle_frame: bool) -> str | None:
    """The reason why no estimate can be the output of a node, in words; None if it can.

    Args:
        node: the invocation.
        output_type: class of its output; None if unknown.
        space: latent space of its latents.
        middle_frame: whether it reports only one frame of a video.
    """
    if getattr(output_type, "__name__", None) != PLAIN_OUTPUT:
        return "this node outputs more than latents"
    if middle_frame:
        return "InvokeAI reports only one frame of the latents"
    if space.name in SPACES_WITH_NORM:
        return f"InvokeAI's nodes decode latents of {space.title} in another form than they are sampled in"
    if getattr(node, "denoise_mask", None) is not None:
        return "with a denoise mask, the result needs all steps"
    if getattr(node, "denoising_end", 1) != 1:
        return "another node continues this run (denoising_end)"
    return None


def as_output(latents: Tensor, like: Tensor, base: str) -> Tensor:
    """An estimate as a denoise node outputs its latents.

    Args:
        latents: `[B, C, H, W]`.
        like: latents of the sampler, for their type.
        base: base model.
    """
    latents = latents.to(like.dtype)
    return latents.unsqueeze(2) if base in WITH_FRAMES else latents


def output_of(output_type: Any, context: Any, latents: Tensor) -> Any:
    """The output of a denoise node with these latents, built as the core nodes build it.

    Source: InvokeAI 6.14 `denoise_latents.py`, `flux_denoise.py`.
    """
    latents = latents.detach().to("cpu")
    name = context.tensors.save(tensor=latents)
    return output_type.build(latents_name=name, latents=latents, seed=None)
