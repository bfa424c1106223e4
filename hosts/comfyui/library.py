"""The decoders at hand in ComfyUI, in the folders that it has for them."""

from pathlib import Path

import folder_paths

from ...decoders.catalogue import Catalogue


def own_folder() -> Path:
    """Where decoders go that were made here. The folders are asked for anew: a host may change them at any time."""
    return Path(folder_paths.models_dir) / "safelight"


def catalogue() -> Catalogue:
    """The decoders that ship, and those in the user's folders."""
    return Catalogue([own_folder(), *map(Path, folder_paths.get_folder_paths("vae_approx"))])
