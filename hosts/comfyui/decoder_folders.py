"""The decoders at hand in ComfyUI, in the folders that it has for them."""

from collections.abc import Callable
from pathlib import Path

import folder_paths

from ...decoders.catalogue import AUTO, Candidate, Catalogue
from ...decoders.latents.identify import Evidence
from ...decoders.latents.space import LatentSpace
from .preferences import ComfyPreferences


def own_folder() -> Path:
    """Where decoders go that were made here. The folders are asked for anew: a host may change them at any time."""
    return Path(folder_paths.models_dir) / "safelight"


def catalogue() -> Catalogue:
    """The decoders that ship, and those in the user's folders."""
    return Catalogue([own_folder(), *map(Path, folder_paths.get_folder_paths("vae_approx"))])


def candidates(
    space: LatentSpace,
    evidence: Evidence,
    accelerated: bool,
    wanted: str = AUTO,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Candidate]:
    """Decoders of `space` as `Catalogue.candidates` has them; what the settings say of `auto` is heeded.

    Args:
        space: of the latents.
        evidence: what the model says of them.
        accelerated: whether they are on something faster than a CPU.
        wanted: what the user chose.
        tell: is told why it cannot be had; the best at hand takes its place. So it is where what ships is damaged.
    """
    return catalogue().candidates_or_auto(
        space,
        wanted,
        preferred=ComfyPreferences.current().decoder,
        accelerated=accelerated,
        evidence=evidence,
        notify=tell,
    )
