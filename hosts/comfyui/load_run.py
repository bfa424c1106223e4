"""Runs in the host's output folder, for the node that loads one."""

import json
import math
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
from ...preview.run_library import find_runs
from ...preview.saved_run import SavedRun
from ...preview.sinks.latent_files import SavedLatents
from ..background_listing import BackgroundListing
from .decoder_folders import catalogue
from .latent_dict import unpacked

MAX_LISTED_RUNS = 200
NO_RUN = "none"


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedRun:
    """A run that was read from its folder.

    Args:
        pictures: of its steps; may be empty.
        latent: LATENT of one step, in the VAE's units; None if the run has no latents.
        latent_problem: the reason why `latent` is None; else empty.
        summary: text for people.
    """

    pictures: list[StepImage]
    latent: dict[str, Any] | None
    latent_problem: str
    summary: str


def list_runs() -> list[str]:
    """The folders of runs in the output folder, as paths in it, newest first.

    ComfyUI asks for them on its server's thread, so a large folder is searched in the background.
    """
    return LISTING.get()


def _search() -> list[str]:
    output = Path(folder_paths.get_output_directory())
    found = (
        (_modified_s(folder / MANIFEST_NAME), folder.relative_to(output).as_posix())
        for folder in find_runs(output, newest_first=True)
    )
    return [path for _, path in sorted(found, reverse=True)[:MAX_LISTED_RUNS]]


LISTING = BackgroundListing(_search, list[str]())


def selected_folder(run: str, folder: str) -> Path:
    """The folder in the output folder that the user typed, else the one that was chosen from the list.

    Args:
        run: chosen path, or `NO_RUN`.
        folder: typed path; may be empty.

    Raises:
        GoneError: neither is given, or the folder does not exist or is outside the output folder.
    """
    typed = folder.strip()
    if not typed and run in ("", NO_RUN):
        raise GoneError("no run to load: choose one, or type the path of its folder in the output folder")
    return existing_folder(Path(folder_paths.get_output_directory()), typed or run)


def load(folder: Path, step: int, most: int) -> LoadedRun:
    """Reads the run in `folder`.

    Args:
        folder: of the run.
        step: whose latents are read; 0 for the last step that has latents.
        most: maximum number of pictures.

    Raises:
        SafelightError: there is no run, a file was edited, or other steps have latents but this one has none.
    """
    saved = SavedRun.open(folder, Path(folder_paths.get_output_directory()).resolve())
    pictures = saved.pictures(most)
    latent, latent_problem = None, ""
    try:
        latent = {"samples": _for_vae(saved.latents(step or None))}
    except GoneError as error:
        if any(entry.latent for entry in saved.steps):
            raise
        latent_problem = str(error)
    return LoadedRun(pictures=pictures, latent=latent, latent_problem=latent_problem, summary=saved.summary())


def fingerprint(folder: Path) -> str:
    """A text that changes when the run changes."""
    return f"{folder} {_modified_s(folder / MANIFEST_NAME)}"


def _for_vae(saved: SavedLatents) -> Any:
    """The denoised latents in the VAE's units, as a sampler returns them."""
    latents = saved.denoised
    if latents is None:
        raise LatentsError(
            f"step {saved.index}: no denoised latents are saved, because the sampler reported none; choose another step"
        )
    name = saved.facts.get("format_name")
    format_class = getattr(comfy.latent_formats, name or "", None)
    if not (isinstance(format_class, type) and issubclass(format_class, comfy.latent_formats.LatentFormat)):
        return _by_space(saved, latents)
    _expect_space(saved, latents)
    try:
        processed = format_class().process_out(latents.float())
    except (RuntimeError, TypeError, ValueError) as error:
        raise LatentsError(
            f"step {saved.index}: {name} does not accept latents {list(latents.shape)}: {error}"
        ) from None
    return _unpacked(saved, processed)


def _by_space(saved: SavedLatents, latents: Tensor) -> Tensor:
    """The same for a latent format that this ComfyUI does not have, by the latent space in our table."""
    spaces = catalogue().spaces()
    name = saved.facts.get("space") or ""
    if name not in spaces:
        raise LatentsError(
            f"this ComfyUI knows neither the run's latent format {saved.facts.get('format_name')!r} nor its latent "
            f"space {name!r}; install the custom node or decoder that the run was sampled with"
        )
    return spaces[name].to_vae(spaces[name].unpack(latents.float()))


def _expect_space(saved: SavedLatents, latents: Tensor) -> None:
    """Raises LatentsError if the shape does not fit the latent space that the file names."""
    spaces, name = catalogue().spaces(), saved.facts.get("space") or ""
    if name in spaces and len(shapes_of(saved)) < 2:
        try:
            spaces[name].unpack(torch.empty(tuple(latents.shape), device="meta"))
        except SafelightError as error:
            raise LatentsError(f"step {saved.index}: {error}") from None


def _unpacked(saved: SavedLatents, latents: Tensor) -> Any:
    shapes = shapes_of(saved)
    if len(shapes) > 1 and (latents.ndim != 3 or latents.shape[2] != sum(math.prod(shape[1:]) for shape in shapes)):
        raise LatentsError(f"step {saved.index}: expected latents packed of {shapes}, found {list(latents.shape)}")
    return unpacked(latents, shapes)


def shapes_of(saved: SavedLatents) -> list[list[int]]:
    """The shapes of a step's latents; several if they are packed into one tensor.

    Raises:
        ManifestError: the file names no shapes.
    """
    try:
        shapes = json.loads(saved.facts.get("shapes") or "[]")
        if all(type(side) is int and side > 0 for shape in shapes for side in shape):
            return shapes
    except (ValueError, TypeError, RecursionError):
        pass
    raise ManifestError(f"step {saved.index}: expected the shapes of its latents, found {saved.facts.get('shapes')!r}")


def _modified_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
