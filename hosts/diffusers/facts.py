"""Reads facts about a pipeline: its latent space, its sampler, its version."""

import inspect
from dataclasses import replace
from importlib import metadata
from typing import Any

from ...decoders.latents.identify import UNKNOWN, Evidence, contradictions, identify, unknown
from ...decoders.latents.space import LatentSpace, Spaces
from ...errors import ContradictionError
from ..noise_levels import name_of
from .call_arguments import CallArguments
from .modular_blocks import component_class
from .own_loop import OwnLoop, name_of_pipeline
from .pipeline_families import PipelineFamily

AUTOENCODER_NAMES = ("vae", "movq", "vqgan", "vqvae")  # attributes of pipelines
CHANNEL_NAMES = ("latent_channels", "z_dim")  # config entries of autoencoders
SD1_WIDTHS = (128, 256, 512, 512)  # of the VAE's blocks; source: stable-diffusion-v1-5, vae/config.json
PIXEL_CHANNELS = 3
PIXELS = "pixels"
SD1 = "sd1"
SD1_TEXT = (768, 1024)  # width of the text embeddings: Stable Diffusion 1, and 2
SD1_CHANNELS = (4, 5, 8, 9)  # of the UNet's input: latents, and with a depth map, an image, or an image and its mask


def evidence_of(pipeline: Any, spaces: Spaces, channels: int | None = None, dims: int | None = None) -> Evidence:
    """Returns what the autoencoder of `pipeline` reveals about its latents, or its class if it is not loaded.

    A scale or shift that is only the default of the autoencoder's class is left out, unless the table of spaces has a
    row for this class. Kandinsky's VQModel has the default 0.18215 of Stable Diffusion 1, for example.

    Args:
        pipeline: pipeline of diffusers.
        spaces: known latent spaces.
        channels: channels of the latents, used if the autoencoder does not state them; None if unknown.
        dims: spatial and temporal dimensions of the latents; None if unknown.
    """
    vae = autoencoder_of(pipeline)
    if vae is None:
        expected = component_class(pipeline, AUTOENCODER_NAMES)
        name = None if expected is None else format_of(expected, type(pipeline).__name__, spaces)
        return Evidence(host="diffusers", format_name=name, channels=channels, dims=dims)
    config = getattr(vae, "config", {})
    names = class_names(vae)
    known = next((name for name in names if any(name in _names(space) for space in spaces)), None)
    defaults = {} if known else _defaults(vae)
    scale, shift = (
        None if config.get(name) == defaults.get(name) else _number(config.get(name))
        for name in ("scaling_factor", "shift_factor")
    )
    return Evidence(
        host="diffusers",
        format_name=format_of(known or names[0], type(pipeline).__name__, spaces),
        channels=next((config[name] for name in CHANNEL_NAMES if isinstance(config.get(name), int)), channels),
        dims=dims,
        scale=scale,
        shift=shift,
        model_type=type(pipeline).__name__,
    )


def class_names(model: Any) -> list[str]:
    """Returns the names of a model's class and of its base classes; of the original class if it is compiled."""
    original = getattr(model, "_orig_mod", model)  # torch.compile wraps a model
    return [base.__name__ for base in type(original).__mro__]


def _names(space: LatentSpace) -> set[str]:
    return {name.partition(":")[0] for name in space.hosts.get("diffusers", ())}


def _defaults(vae: Any) -> dict[str, Any]:
    """Default arguments of an autoencoder's class."""
    parameters = inspect.signature(type(getattr(vae, "_orig_mod", vae)).__init__).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def space_of(pipeline: Any, family: PipelineFamily, evidence: Evidence, spaces: Spaces) -> LatentSpace:
    """Returns the latent space of `pipeline`. If no row matches, it is built from the evidence.

    Raises:
        ContradictionError: the autoencoder has a known name but other numbers; or it has the default scale of its
            class, which is no evidence, and neither the pipeline's class nor its denoiser confirms it.
    """
    vae = autoencoder_of(pipeline)
    if vae is None and family.space is None and evidence.channels == PIXEL_CHANNELS:
        return spaces[PIXELS]
    if vae is None and isinstance(pipeline, OwnLoop):
        return _only_space_of_shape(evidence, spaces)
    if _has_shared_default(vae, evidence, spaces):
        return _confirmed(pipeline, family, evidence, spaces)
    found = identify(evidence, spaces)
    if family.space is None or found.name == family.space or found.name != UNKNOWN:
        return found
    row = spaces[family.space]
    # Tiny autoencoders state the scale 1 and the shift 0: they decode latents as the model has them.
    scale = None if evidence.scale == 1.0 else evidence.scale
    return found if contradictions(replace(evidence, scale=scale, shift=evidence.shift or None), row) else row


def _only_space_of_shape(evidence: Evidence, spaces: Spaces) -> LatentSpace:
    """Returns the only space whose latents have these channels and dimensions.

    Raises:
        ContradictionError: there are several.
    """
    fitting = [
        space
        for space in spaces
        if space.dims == evidence.dims and evidence.channels in (space.channels, space.packed_channels)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        return unknown(evidence)
    names = ", ".join(space.name for space in fitting)
    raise ContradictionError(
        f"several latent spaces have latents with {evidence.channels} channels ({names}), and no VAE says which one it "
        "is"
    )


def _has_shared_default(vae: Any, evidence: Evidence, spaces: Spaces) -> bool:
    """Whether a VAE has the default scale of its class, and several spaces have this class with different scales."""
    named = [space for space in spaces if evidence.format_name in space.hosts.get("diffusers", ())]
    if evidence.scale is None or len({space.scale for space in named}) < 2:
        return False
    return evidence.scale == _defaults(vae).get("scaling_factor")


def _confirmed(pipeline: Any, family: PipelineFamily, evidence: Evidence, spaces: Spaces) -> LatentSpace:
    """Returns the space of a default scale, if the pipeline's class has this space or its denoiser is made for it."""
    named = [space for space in spaces if evidence.format_name in space.hosts.get("diffusers", ())]
    found = next((space for space in named if not contradictions(evidence, space)), None)
    name = name_of_pipeline(pipeline)
    default = f"{evidence.format_name} has the scale {evidence.scale:g}"
    if family.space is not None:
        if found is not None and found.name == family.space:
            return found
        other = "" if found is None else f" of {found.title}"
        also = "also " if other else ""
        raise ContradictionError(
            f"{name} samples latents of {spaces[family.space].title}, but its {default}{other}, which is {also}the "
            "default of this class"
        )
    if found is not None and found.name == SD1 and (_is_denoiser_of_sd1(pipeline) or _is_vae_of_sd1(pipeline)):
        return found
    raise ContradictionError(
        f"the latents of {name} are of an unknown space: its {default}, which is the default of this class and says "
        "nothing, and neither the pipeline's class nor its denoiser is known"
    )


def _is_denoiser_of_sd1(pipeline: Any) -> bool:
    """Whether the UNet has the text and the channels of Stable Diffusion 1 or 2."""
    config = getattr(getattr(pipeline, "unet", None), "config", {})
    return config.get("cross_attention_dim") in SD1_TEXT and config.get("in_channels") in SD1_CHANNELS


def _is_vae_of_sd1(pipeline: Any) -> bool:
    """Whether the VAE of a loop of the user, which has no denoiser, has the widths of Stable Diffusion's."""
    config = getattr(autoencoder_of(pipeline), "config", {})
    return isinstance(pipeline, OwnLoop) and tuple(config.get("block_out_channels", ())) == SD1_WIDTHS


def space_or_unknown(
    pipeline: Any, family: PipelineFamily, evidence: Evidence, spaces: Spaces
) -> tuple[LatentSpace, str | None]:
    """Returns `space_of` and no message, or the unknown space and a message for the user."""
    try:
        found = space_of(pipeline, family, evidence, spaces)
        if found.name != UNKNOWN:
            return found, None
        vae = autoencoder_of(pipeline)
        without_vae = f": none has {evidence.channels} channels" if isinstance(pipeline, OwnLoop) else ""
        reason = f"the latents of {name_of_pipeline(pipeline)} are of an unknown space" + (
            without_vae
            if vae is None
            else f": its VAE is a {class_names(vae)[0]}, and no known space has its class and numbers"
        )
    except ContradictionError as error:
        found, reason = unknown(evidence), str(error)
    return found, f"{reason}. The colors of the pictures are not those of the image; if you know the space, pass space="


def autoencoder_of(pipeline: Any) -> Any:
    """Returns the autoencoder of `pipeline`, or None."""
    return next((vae for name in AUTOENCODER_NAMES if (vae := getattr(pipeline, name, None)) is not None), None)


def format_of(autoencoder: str, pipeline: str, spaces: Spaces) -> str:
    """Returns the name by which the table of spaces knows an autoencoder.

    This is its class name. Where several spaces share a class, the beginning of the pipeline's class name follows it.
    """
    combined = {name for space in spaces for name in space.hosts.get("diffusers", ()) if ":" in name}
    for name in combined:
        vae_class, _, prefix = name.partition(":")
        if vae_class == autoencoder and pipeline.startswith(prefix):
            return name
    return autoencoder


def host_facts(pipeline: Any) -> dict[str, Any]:
    """Returns facts about the host for `run.json`."""
    try:
        version = metadata.version("diffusers")
    except metadata.PackageNotFoundError:
        version = None
    name = None if isinstance(pipeline, OwnLoop) else name_of_pipeline(pipeline)
    return {"name": "diffusers", "version": version, "pipeline": name}


def sampler_facts(scheduler: Any, call: CallArguments, total: int | None) -> dict[str, Any]:
    """Returns facts about the sampler for `run.json`, without its noise levels."""
    return {
        "steps": total,
        "sigmas": None,
        "seed": call.seed,
        "cfg": call.cfg,
        "name": None if scheduler is None else name_of(scheduler),
        "scheduler": None,
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
