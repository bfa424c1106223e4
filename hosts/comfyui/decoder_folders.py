"""The decoders in ComfyUI's model folders."""

from collections.abc import Callable
from pathlib import Path

import folder_paths

from ...decoders.catalogue import AUTO, Candidate, Catalogue
from ...decoders.descriptions import Described, describe_decoders
from ...decoders.latents.identify import Evidence
from ...decoders.latents.space import LatentSpace
from .preferences import ComfyPreferences


def own_folder() -> Path:
    """Folder for decoders that Safelight fits. ComfyUI may change its folders at any time, so call this each time."""
    return Path(folder_paths.models_dir) / "safelight"


def catalogue() -> Catalogue:
    """The shipped decoders and those in the user's folders."""
    return Catalogue([own_folder(), *map(Path, folder_paths.get_folder_paths("vae_approx"))])


def candidates(
    space: LatentSpace,
    evidence: Evidence,
    accelerated: bool,
    wanted: str = AUTO,
    notify: Callable[[str], None] = lambda _: None,
    vae: str | None = None,
) -> list[Candidate]:
    """Decoders of a space, best first. If the user chose `auto`, Safelight's settings may prefer one.

    Args:
        space: latent space of the latents.
        evidence: facts from the model about its latents.
        accelerated: whether the latents are on a device faster than a CPU.
        wanted: decoder that the user chose.
        notify: receives a message if that decoder is unavailable or a shipped decoder is damaged; `auto` replaces it.
        vae: fingerprint of the VAE that will decode the latents; None if unknown.
    """
    return catalogue().candidates_or_auto(
        space,
        wanted,
        preferred=ComfyPreferences.current().decoder,
        accelerated=accelerated,
        evidence=evidence,
        vae=vae,
        notify=notify,
    )


def described(space: str) -> list[Described]:
    """The decoders of a latent space, by its name, with what they are in words; none for an unknown space."""
    found = catalogue()
    spaces = found.spaces()
    return describe_decoders(found, spaces[space]) if space in spaces else []
