"""Reads facts about a pipeline: its latent space, its sampler, its version."""

from importlib import metadata
from typing import Any

from ...decoders.latents.identify import UNKNOWN, Evidence, identify, unknown
from ...decoders.latents.space import LatentSpace, Spaces
from ...errors import ContradictionError
from ..x0 import SCHEDULER_FORMS, Sigmas, name_of
from .call_arguments import CallArguments
from .pipeline_families import PipelineFamily

AUTOENCODER_NAMES = ("vae", "movq", "vqgan", "vqvae")  # attributes of pipelines
CHANNEL_NAMES = ("latent_channels", "z_dim")  # config entries of autoencoders
PIXEL_CHANNELS = 3
PIXELS = "pixels"


def evidence_of(pipeline: Any, spaces: Spaces, channels: int | None = None, dims: int | None = None) -> Evidence:
    """Returns what the autoencoder of `pipeline` reveals about its latents.

    Args:
        pipeline: pipeline of diffusers.
        spaces: known latent spaces.
        channels: channels of the latents, used if the autoencoder does not state them; None if unknown.
        dims: spatial and temporal dimensions of the latents; None if unknown.
    """
    vae = autoencoder_of(pipeline)
    if vae is None:
        return Evidence(host="diffusers", channels=channels, dims=dims)
    config = getattr(vae, "config", {})
    return Evidence(
        host="diffusers",
        format_name=format_of(type(vae).__name__, type(pipeline).__name__, spaces),
        channels=next((config[name] for name in CHANNEL_NAMES if isinstance(config.get(name), int)), channels),
        dims=dims,
        scale=_number(config.get("scaling_factor")),
        shift=_number(config.get("shift_factor")),
        model_type=type(pipeline).__name__,
    )


def space_of(pipeline: Any, family: PipelineFamily, evidence: Evidence, spaces: Spaces) -> LatentSpace:
    """Returns the latent space of `pipeline`. If no row matches, it is built from the evidence.

    Raises:
        ContradictionError: the autoencoder has a known name but other numbers.
    """
    if autoencoder_of(pipeline) is None and family.space is None and evidence.channels == PIXEL_CHANNELS:
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
    """Returns `space_of`, or the unknown space and a message for the user if the evidence contradicts itself."""
    try:
        return space_of(pipeline, family, evidence, spaces), None
    except ContradictionError as error:
        return unknown(evidence), str(error)


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
    return {"name": "diffusers", "version": version, "pipeline": type(pipeline).__name__}


def sampler_facts(scheduler: Any, call: CallArguments, total: int | None, sigmas: Sigmas) -> dict[str, Any]:
    """Returns facts about the sampler for `run.json`. The sigmas begin with the loop's first step."""
    return {
        "steps": total,
        "sigmas": sigmas_of_steps(scheduler, total, sigmas),
        "seed": call.seed,
        "cfg": call.cfg,
        "name": name_of(scheduler),
        "scheduler": None,
    }


def sigmas_of_steps(scheduler: Any, total: int | None, sigmas: Sigmas) -> list[float] | None:
    """Returns the `total + 1` sigmas of the last `total` steps of a schedule; None if the scheduler has none."""
    if total is None or name_of(scheduler) not in SCHEDULER_FORMS or getattr(scheduler, "sigmas", None) is None:
        return None
    all_sigmas = sigmas.of(scheduler)
    if getattr(scheduler.config, "invert_sigmas", False):
        all_sigmas = [1 - sigma for sigma in all_sigmas]
    order, model_calls = order_of(scheduler), len(scheduler.timesteps)
    step_sigmas = [*all_sigmas[:model_calls:order], all_sigmas[-1]]
    return step_sigmas[-total - 1 :] if len(step_sigmas) > total else None


def order_of(scheduler: Any) -> int:
    """Returns the number of model calls in a step of `scheduler`."""
    order = getattr(scheduler, "order", 1)
    return order if isinstance(order, int) and order > 0 else 1


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
