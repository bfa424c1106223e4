"""What a pipeline says of itself."""

from importlib import metadata
from typing import Any

from ...decoders.latents.identify import UNKNOWN, Evidence, identify, unknown
from ...decoders.latents.space import LatentSpace, Spaces
from ...errors import ContradictionError
from ..x0 import FORMS, Sigmas, name_of
from .call_arguments import CallArguments
from .pipeline_families import PipelineFamily

AUTOENCODERS = ("vae", "movq", "vqgan", "vqvae")  # what pipelines call theirs
CHANNELS = ("latent_channels", "z_dim")  # and what these call the channels of their latents
RGB = 3
PIXELS = "pixels"


def evidence_of(pipeline: Any, spaces: Spaces, channels: int | None = None, dims: int | None = None) -> Evidence:
    """What the autoencoder of `pipeline` tells; `channels` and `dims` are those of its latents, if known."""
    vae = autoencoder_of(pipeline)
    if vae is None:
        return Evidence(host="diffusers", channels=channels, dims=dims)
    config = getattr(vae, "config", {})
    told = next((config[name] for name in CHANNELS if isinstance(config.get(name), int)), channels)
    return Evidence(
        host="diffusers",
        format_name=format_of(type(vae).__name__, type(pipeline).__name__, spaces),
        channels=told,
        dims=dims,
        scale=_number(config.get("scaling_factor")),
        shift=_number(config.get("shift_factor")),
        model_type=type(pipeline).__name__,
    )


def space_of(pipeline: Any, family: PipelineFamily, evidence: Evidence, spaces: Spaces) -> LatentSpace:
    """The latent space of `pipeline`; one made of what it says, where no row is meant.

    Raises:
        ContradictionError: the autoencoder has a known name and other numbers.
    """
    if autoencoder_of(pipeline) is None and family.space is None and evidence.channels == RGB:
        return spaces[PIXELS]
    found = identify(evidence, spaces)
    if found.name == UNKNOWN and family.space is not None:
        row = spaces[family.space]
        if evidence.channels in (None, row.channels, row.packed_channels):
            return row
    return found


def space_or_unknown(
    pipeline: Any, family: PipelineFamily, evidence: Evidence, spaces: Spaces
) -> tuple[LatentSpace, str | None]:
    """The same, with what the user should be told where it is not as it seems."""
    try:
        return space_of(pipeline, family, evidence, spaces), None
    except ContradictionError as error:
        return unknown(evidence), str(error)


def autoencoder_of(pipeline: Any) -> Any:
    """Its autoencoder, or None."""
    return next((vae for name in AUTOENCODERS if (vae := getattr(pipeline, name, None)) is not None), None)


def format_of(autoencoder: str, pipeline: str, spaces: Spaces) -> str:
    """The class of an autoencoder; with the beginning of the pipeline's, where only both together tell."""
    named = {name for space in spaces for name in space.hosts.get("diffusers", ()) if ":" in name}
    for name in named:
        kind, _, prefix = name.partition(":")
        if kind == autoencoder and pipeline.startswith(prefix):
            return name
    return autoencoder


def host_facts(pipeline: Any) -> dict[str, Any]:
    """The host's facts for `run.json`."""
    try:
        version = metadata.version("diffusers")
    except metadata.PackageNotFoundError:
        version = None
    return {"name": "diffusers", "version": version, "pipeline": type(pipeline).__name__}


def sampler_facts(scheduler: Any, call: CallArguments, total: int | None, sigmas: Sigmas) -> dict[str, Any]:
    """The sampler's facts for `run.json`; its noise levels begin where the loop begins."""
    return {
        "steps": total,
        "sigmas": levels_of(scheduler, total, sigmas),
        "seed": call.seed,
        "cfg": call.cfg,
        "name": name_of(scheduler),
        "scheduler": None,
    }


def levels_of(scheduler: Any, total: int | None, sigmas: Sigmas) -> list[float] | None:
    """The `total + 1` noise levels of the last `total` steps of a schedule; None where it has none."""
    if total is None or name_of(scheduler) not in FORMS or getattr(scheduler, "sigmas", None) is None:
        return None
    every = sigmas.of(scheduler)
    if getattr(scheduler.config, "invert_sigmas", False):
        every = [1 - sigma for sigma in every]
    order, looks = order_of(scheduler), len(scheduler.timesteps)
    levels = [*every[:looks:order], every[-1]]
    return levels[-total - 1 :] if len(levels) > total else None


def order_of(scheduler: Any) -> int:
    """Looks at the model for each step of `scheduler`."""
    order = getattr(scheduler, "order", 1)
    return order if isinstance(order, int) and order > 0 else 1


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
