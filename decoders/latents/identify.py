"""Which latent space a host's latents are in, from what the host says of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...errors import ContradictionError, SpaceError
from .space import AUDIO, NAME, LatentSpace, Spaces

UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a host knows of its latents; None where it does not.

    Args:
        host: `comfyui`, `invokeai` or `diffusers`: whose names these are.
        format_name: the name of the host's own latent format, base model type or autoencoder class.
        channels: of the tensor that the sampler holds, packed as it is there.
        dims: 1 audio, 2 image, 3 video.
        scale: factor from the VAE's values to the sampler's.
        shift: subtracted from the VAE's values first.
        downscale: picture pixels per pixel of the sampler's tensor, along one side.
        model_type: the host's name for the model, when several share a format.
        factors: `[C][3]`, the host's own table to RGB in -1..1, if its format carries one.
        bias: `[3]`, its constant.
    """

    host: str
    format_name: str | None = None
    channels: int | None = None
    dims: int | None = None
    scale: float | None = None
    shift: float | None = None
    downscale: int | None = None
    model_type: str | None = None
    factors: Sequence[Sequence[float]] | None = None
    bias: Sequence[float] | None = None


def identify(evidence: Evidence, spaces: Spaces) -> LatentSpace:
    """The latent space that `evidence` tells of; one made from the evidence itself if no row is meant.

    A name the host uses decides, among rows that share it the numbers do. Where they do not, or without a known name,
    only a scale that a single row has decides: channel counts alone mean nothing, 16 is a dozen different spaces.

    Raises:
        ContradictionError: the name is known but the numbers are not those of its space.
    """
    named = [space for space in spaces if evidence.format_name in getattr(space, evidence.host)]
    fitting = [space for space in named if not contradictions(evidence, space)]
    if len(fitting) == 1:
        return fitting[0]
    if named and not fitting:
        told = "; ".join(f"{space.name}: {', '.join(contradictions(evidence, space))}" for space in named)
        raise ContradictionError(f"the latents are called {evidence.format_name!r} but are not ({told}). {evidence}")
    if evidence.scale not in (None, 1.0):
        alike = [space for space in spaces if not contradictions(evidence, space)]
        if len(alike) == 1:
            return alike[0]
    return unknown(evidence)


def contradictions(evidence: Evidence, space: LatentSpace) -> list[str]:
    """What `evidence` says that `space` does not, each as a phrase."""
    pairs = (
        ("channels", evidence.channels, {space.channels, space.packed_channels}),
        ("scale", evidence.scale, {space.scale}),
        ("shift", evidence.shift, {space.shift}),
    )
    return [
        f"{name} {came} instead of {' or '.join(map(str, sorted(expected)))}"
        for name, came, expected in pairs
        if came is not None and all(abs(came - value) > 1e-6 * max(1.0, abs(value)) for value in expected)
    ]


def unknown(evidence: Evidence) -> LatentSpace:
    """A space that no row describes, as far as the host describes it."""
    dims = evidence.dims or 2
    return LatentSpace(
        name=UNKNOWN,
        title=f"unknown ({evidence.format_name or 'unnamed'})",
        channels=evidence.channels or 4,
        dims=dims,
        downscale=evidence.downscale or 8,
        layout="sequence" if dims == AUDIO else "plain",
        scale=evidence.scale or 1.0,
        shift=evidence.shift or 0.0,
        source=f"what {evidence.host} says of it",
    )


def new_row(evidence: Evidence, spaces: Spaces, name: str = "", downscale: int | None = None) -> LatentSpace:
    """A row for latents that none of `spaces` describes, which `identify` finds again by the same evidence.

    Args:
        evidence: of the host, with the name it has for them.
        spaces: all that are known.
        name: for the row; if empty, the host's own in lower case.
        downscale: picture pixels per latent pixel, along one side, where that is known better than the host says it.

    Raises:
        SpaceError: there can be no such row, and why.
    """
    title = evidence.format_name or "unnamed latents"
    name = name.strip() or re.sub("[^a-z0-9]+", "_", title.lower()).strip("_")[:64]
    if not NAME.fullmatch(name):
        raise SpaceError(
            f"expected a name in lower case letters, digits and _ for the latents of {title}, got {name!r}"
        )
    if name == UNKNOWN or name in spaces:
        whose = f" ({spaces[name].title})" if name in spaces else ""
        raise SpaceError(
            f"the latents of {title} are none that is known, but {name!r} is the name of others{whose}; "
            "give them another name"
        )
    row = unknown(evidence)
    row = replace(
        row,
        name=name,
        title=title,
        downscale=downscale or row.downscale,
        source=f"what {evidence.host} says of its {title}",
        **{evidence.host: (title,)},
    )
    try:
        found = identify(evidence, Spaces((*spaces, row)))
    except ContradictionError:
        found = None
    if found != row:
        raise SpaceError(
            f"what {evidence.host} says of the latents of {title} fits several spaces, so a new one would not be found "
            "again: choose the space that they are of by its name"
        )
    return row
