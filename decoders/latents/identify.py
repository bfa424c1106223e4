"""Identifies the latent space of a host's latents from the facts that the host gives."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ...errors import ContradictionError, SpaceError
from .space import AUDIO, HOSTS, SPACE_NAME, VIDEO, LatentSpace, Spaces

UNKNOWN = "unknown"
# Hosts whose latent formats always give a scale, and a shift unless it is 0. The evidence of other hosts may lack both.
HOSTS_WITH_SCALE = frozenset({"comfyui"})


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The facts that a host gives about its latents; None for an unknown fact.

    Args:
        host: host that uses these names, a key of `LatentSpace.hosts`.
        format_name: the host's name for its latent format, base model type or autoencoder class.
        channels: channels of the sampler's tensor, packed if that is packed.
        dims: 1 for audio, 2 for images, 3 for videos.
        scale: factor from the VAE's values to the sampler's.
        shift: offset that is subtracted from the VAE's values before.
        downscale: image pixels per pixel of the sampler's tensor, along one side.
        model_type: the host's name for the model, if several models share a format.
        factors: `[C][3]`, the host's own table to RGB in -1..1, if its format has one.
        bias: `[3]`, constant of that table.
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

    def __str__(self) -> str:
        """The facts in words, such as `comfyui gives: 4 channels, scale 0.13025`."""
        values = (("channels", self.channels), ("dimensions", self.dims))
        facts = [f"{value} {name}" for name, value in values if value is not None]
        values = (("scale", self.scale), ("shift", self.shift), ("downscale", self.downscale))
        facts += [f"{name} {value:g}" for name, value in values if value is not None]
        if self.model_type is not None:
            facts.append(f"model {self.model_type}")
        if self.factors is not None:
            facts.append(f"factors to RGB for {len(self.factors)} channels")
        return f"{self.host} gives: {', '.join(facts) or 'no numbers'}"


def identify(evidence: Evidence, spaces: Spaces) -> LatentSpace:
    """Returns the latent space that `evidence` describes, or `unknown(evidence)` if no row matches.

    The host's name for the space decides. Among rows that share this name, the numbers decide. If they do not, or if no
    row has the name, only a scale that a single row has decides. Channels alone decide nothing: a dozen spaces have 16.

    Raises:
        ContradictionError: rows have this name, but none of them has these numbers.
    """
    named = [space for space in spaces if evidence.format_name in space.hosts.get(evidence.host, ())]
    fitting = [space for space in named if not contradictions(evidence, space)]
    if len(fitting) == 1:
        return fitting[0]
    if named and not fitting:
        reasons = "; ".join(f"{space.name}: {', '.join(contradictions(evidence, space))}" for space in named)
        raise ContradictionError(
            f"the latents are called {evidence.format_name!r}, but do not match it ({reasons}); {evidence}"
        )
    if evidence.scale not in (None, 1.0):
        alike = [space for space in spaces if not contradictions(evidence, space)]
        if len(alike) == 1:
            return alike[0]
    return unknown(evidence)


def identify_or_unknown(evidence: Evidence, spaces: Spaces, notify: Callable[[str], None]) -> LatentSpace:
    """Returns the same as `identify`. If the facts contradict each other, the user gets a note and no row is used."""
    try:
        return identify(evidence, spaces)
    except ContradictionError as error:
        notify(str(error))
        return unknown(evidence)


def contradictions(evidence: Evidence, space: LatentSpace) -> list[str]:
    """Returns one phrase for each fact in `evidence` that differs from `space`."""
    pairs = (
        ("channels", evidence.channels, {space.channels, space.packed_channels}),
        ("scale", evidence.scale, {space.scale}),
        ("shift", evidence.shift, {space.shift}),
    )
    return [
        f"{name} {given} instead of {' or '.join(map(str, sorted(expected)))}"
        for name, given, expected in pairs
        if given is not None and all(abs(given - value) > 1e-6 * max(1.0, abs(value)) for value in expected)
    ]


def could_mean(known: LatentSpace, row: LatentSpace) -> bool:
    """Returns whether evidence for `known` could also match `row`: they share a host's name, and the numbers agree."""
    for host in HOSTS:
        if not set(row.hosts.get(host, ())) & set(known.hosts.get(host, ())):
            continue
        for channels in {known.channels, known.packed_channels}:
            evidence = Evidence(host=host, channels=channels)
            if host in HOSTS_WITH_SCALE:
                evidence = replace(evidence, scale=known.scale, shift=known.shift or None)
            if not contradictions(evidence, row):
                return True
    return False


def unknown(evidence: Evidence) -> LatentSpace:
    """Creates a row for latents that no row describes, from the host's facts and defaults."""
    dims = evidence.dims or 2
    return LatentSpace(
        name=UNKNOWN,
        title=f"unknown ({evidence.format_name or 'unnamed'})",
        channels=evidence.channels or 4,
        dims=dims,
        downscale=evidence.downscale or 8,
        causal=dims == VIDEO,  # as almost all are; latents whose later frames have no wider values stay as they are
        layout="sequence" if dims == AUDIO else "plain",
        scale=evidence.scale or 1.0,
        shift=evidence.shift or 0.0,
        source=f"facts from {evidence.host}",
    )


def new_row(evidence: Evidence, spaces: Spaces, name: str = "", downscale: int | None = None) -> LatentSpace:
    """Creates a row for latents that none of `spaces` describes. `identify` finds it by the same evidence.

    Args:
        evidence: facts from the host, with the host's name for the latents.
        spaces: all known spaces.
        name: name of the row; if empty, the host's name in lower case.
        downscale: image pixels per latent pixel, along one side, if known better than from the host.

    Raises:
        SpaceError: such a row is not possible; the message says why.
    """
    title = evidence.format_name or "unnamed latents"
    name = name.strip() or re.sub("[^a-z0-9]+", "_", title.lower()).strip("_")[:64]
    if not SPACE_NAME.fullmatch(name):
        raise SpaceError(
            f"expected a name in lower case letters, digits and _ for the latents of {title}, got {name!r}"
        )
    if name == UNKNOWN or name in spaces:
        owner = f" ({spaces[name].title})" if name in spaces else ""
        raise SpaceError(
            f"the latents of {title} are of an unknown space, but the name {name!r} is in use{owner}; "
            "choose another name"
        )
    row = unknown(evidence)
    row = replace(
        row,
        name=name,
        title=title,
        downscale=downscale or row.downscale,
        source=f"facts from {evidence.host} about {title}",
        hosts={evidence.host: (title,)},
    )
    try:
        found = identify(evidence, Spaces((*spaces, row)))
    except ContradictionError:
        found = None
    # A decoder's file stores the row, and `Catalogue.spaces` leaves out a row that an earlier one could mean.
    if found != row or any(could_mean(known, row) for known in spaces):
        raise SpaceError(
            f"the facts that {evidence.host} gives about the latents of {title} match several spaces, so a new space "
            "could not be identified later; choose one of the known spaces by its name"
        )
    return row
