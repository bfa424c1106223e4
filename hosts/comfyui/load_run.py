"""Runs that were written into the host's output folder, read back."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.latent_formats
import folder_paths
import torch
from torch import Tensor

from ...errors import GoneError, LatentsError, ManifestError, SafelightError
from ...preview.images.thumbnails import StepImage
from ...preview.manifest import MANIFEST_NAME
from ...preview.output_folder import existing_folder
from ...preview.saved_run import SavedRun
from ...preview.sinks.latent_files import SavedLatents
from .decoder_folders import catalogue
from .latent_dict import unpacked

MOST_LISTED, MOST_SEEN, DEEPEST = 200, 20_000, 6
NO_RUN = "none"


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedRun:
    """A run from its folder.

    Args:
        pictures: of its steps; none where it has none.
        latent: LATENT of one of them, as the VAE takes it; None where there is none,
        why_not: and why.
        summary: for people.
    """

    pictures: list[StepImage]
    latent: dict[str, Any] | None
    why_not: str
    summary: str


def list_runs() -> list[str]:
    """The folders of runs in the host's output folder, the newest first, as paths in it."""
    output = Path(folder_paths.get_output_directory())
    runs: list[tuple[float, str]] = []
    for seen, (place, folders, files) in enumerate(os.walk(output)):  # follows no links
        here = Path(place).relative_to(output)
        if MANIFEST_NAME in files:
            runs.append((_changed_s(Path(place) / MANIFEST_NAME), here.as_posix()))
            folders.clear()
        if len(here.parts) >= DEEPEST or seen >= MOST_SEEN:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    return [run for _, run in sorted(runs, reverse=True)[:MOST_LISTED]]


def folder_of(run: str, folder: str) -> Path:
    """The folder that the user means: the one typed, or else the one chosen; in the output folder in any case.

    Raises:
        GoneError: it is not there, or leads out.
    """
    wanted = folder.strip() or run
    if not wanted or (wanted == NO_RUN and not folder.strip()):
        raise GoneError("no run to load: choose one, or type the path of its folder in the output folder")
    return existing_folder(Path(folder_paths.get_output_directory()), wanted)


def load(folder: Path, step: int, most: int) -> LoadedRun:
    """The run in `folder`, with at most `most` pictures, and the latents of `step`; of the last one if that is 0.

    Raises:
        SafelightError: there is no run, it was edited, or the chosen step has no latents.
    """
    saved = SavedRun.open(folder)
    pictures = saved.pictures(most)
    latent, why_not = None, ""
    try:
        latent = {"samples": _for_vae(saved.latents(step or None))}
    except GoneError as error:
        if any(entry.latent for entry in saved.steps):
            raise
        why_not = str(error)
    return LoadedRun(pictures=pictures, latent=latent, why_not=why_not, summary=saved.summary())


def fingerprint(folder: Path) -> str:
    """Another one when the run has changed."""
    return f"{folder} {_changed_s(folder / NAME)}"


def _for_vae(saved: SavedLatents) -> Any:
    """The latents as a sampler would have given them: what the model believed, in the VAE's units."""
    latents = saved.denoised
    if latents is None:
        raise LatentsError(f"step {saved.index}: the sampler did not say what the model believed")
    name = saved.facts.get("format_name")
    format_class = getattr(comfy.latent_formats, name or "", None)
    if not (isinstance(format_class, type) and issubclass(format_class, comfy.latent_formats.LatentFormat)):
        return _by_space(saved, latents)
    _expect_space(saved, latents)
    try:
        processed = format_class().process_out(latents.float())
    except (RuntimeError, TypeError, ValueError) as error:
        raise LatentsError(f"step {saved.index}: {name} does not take latents {list(latents.shape)}: {error}") from None
    return _unpacked(saved, processed)


def _by_space(saved: SavedLatents, latents: Tensor) -> Tensor:
    """The same for a format that this host does not have, by the row of its space."""
    spaces = catalogue().spaces()
    name = saved.facts.get("space") or ""
    if name not in spaces:
        raise LatentsError(
            f"latents of the format {saved.facts.get('format_name')!r} and the space {name!r}: this host knows "
            "neither; install what the run was made with"
        )
    return spaces[name].to_vae(spaces[name].unpack(latents.float()))


def _expect_space(saved: SavedLatents, latents: Tensor) -> None:
    """Raises where the tensor cannot be of the space that the file says it is of."""
    spaces, name = catalogue().spaces(), saved.facts.get("space") or ""
    shapes = _shapes(saved)
    if name in spaces and len(shapes) < 2:
        try:
            spaces[name].unpack(torch.empty(tuple(latents.shape), device="meta"))
        except SafelightError as error:
            raise LatentsError(f"step {saved.index}: {error}") from None


def _unpacked(saved: SavedLatents, latents: Tensor) -> Any:
    shapes = _shapes(saved)
    if len(shapes) > 1 and (latents.ndim != 3 or latents.shape[2] != sum(math.prod(shape[1:]) for shape in shapes)):
        raise LatentsError(f"step {saved.index}: expected latents packed of {shapes}, found {list(latents.shape)}")
    return unpacked(latents, shapes)


def _shapes(saved: SavedLatents) -> list[list[int]]:
    try:
        shapes = json.loads(saved.facts.get("shapes") or "[]")
        if all(type(side) is int and side > 0 for shape in shapes for side in shape):
            return shapes
    except (ValueError, TypeError, RecursionError):
        pass
    raise ManifestError(f"step {saved.index}: expected the shapes of its latents, found {saved.facts.get('shapes')!r}")


def _changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
