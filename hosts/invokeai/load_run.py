"""Loads a saved run of InvokeAI: its pictures, the latents of a step, and a summary."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...decoders.latents.space import VIDEO, Spaces
from ...errors import GoneError, LatentsError, SafelightError
from ...preview.images.thumbnails import StepImage
from ...preview.output_folder import existing_folder
from ...preview.saved_run import SavedRun
from ...preview.sinks.latent_files import SavedLatents
from .graph import is_connected
from .output_paths import own_outputs
from .preferences import catalogue

LATENTS = "latents"  # name of the node's output
# Their decode nodes take other numbers than the sampler has: without the VAE's batch norm, or in another order.
# Source: InvokeAI 6.14 `flux2_denoise.py`, `ernie_image_denoise.py`, `ideogram4_denoise.py`.
SPACES_WITH_NORM = ("flux2",)


@dataclass(frozen=True, kw_only=True, eq=False)
class InvokeLoadedRun:
    """A run that was read from its folder.

    Args:
        pictures: of its steps; may be empty.
        latents: denoised latents `[B, C, H, W]` of a step, of a video's space `[B, C, 1, H, W]`, as InvokeAI's decode
            nodes take them; None if the run has none.
        seed: seed of the run; None if it is unknown.
        summary: text for people.
    """

    pictures: list[StepImage]
    latents: Tensor | None
    seed: int | None
    summary: str


def saved_run(context: Any, folder: str) -> SavedRun:
    """The run in a folder of the user's outputs folder.

    Args:
        context: InvokeAI's `InvocationContext`.
        folder: typed path, or the output `run_folder` of a denoise node.

    Raises:
        SafelightError: nothing was typed, there is no such run, or it is not the user's.
    """
    typed = folder.strip()
    if not typed:
        raise GoneError(
            "no run to load: type the path of its folder in the outputs folder, such as safelight/steps_00001, or "
            "connect run_folder of a Denoise (Safelight) that writes files"
        )
    root = own_outputs(context).resolve()
    return SavedRun.open(existing_folder(root, typed), root)


def load_run(context: Any, node: Any, folder: str, step: int, most: int) -> InvokeLoadedRun:
    """Reads a run from its folder.

    Args:
        context: InvokeAI's `InvocationContext`.
        node: the invocation that loads.
        folder: as for `saved_run`.
        step: step whose latents are read; 0 for the last one that has latents.
        most: maximum number of pictures.

    Raises:
        SafelightError: there is no such run, a file was edited, or there are no such latents and they are wanted:
            a step was named, or the output is connected.
    """
    saved = saved_run(context, folder)
    latents = None
    try:
        latents = _for_decode(saved.latents(step or None), catalogue(Path(context.config.get().root_path)).spaces())
    except (GoneError, LatentsError):
        if step or is_connected(context, node, LATENTS):
            raise
    seed = saved.manifest["sampler"]["seed"]
    return InvokeLoadedRun(
        pictures=saved.pictures(most),
        latents=latents,
        seed=seed if type(seed) is int else None,
        summary=saved.summary(),
    )


def _for_decode(saved: SavedLatents, spaces: Spaces) -> Tensor:
    """The denoised latents of a step as the decode nodes take them.

    Raises:
        LatentsError: there are none, they do not fit their latent space, or the decode nodes take other numbers.
    """
    latents, name = saved.denoised, saved.facts.get("space") or ""
    if latents is None:
        raise LatentsError(f"step {saved.index}: no denoised latents are saved; choose another step")
    if name not in spaces:
        return latents
    if name in SPACES_WITH_NORM:
        raise LatentsError(
            f"step {saved.index}: latents of {spaces[name].title} cannot be loaded: InvokeAI's nodes decode them in "
            "another form than they are sampled in. Use the pictures of the run"
        )
    try:
        spaces[name].unpack(torch.empty(tuple(latents.shape), device="meta"))
    except SafelightError as error:
        raise LatentsError(f"step {saved.index}: {error}; the folder was edited") from None
    # InvokeAI reports one frame of a video. Qwen-Image's and Krea 2's decode nodes expect the axis of frames.
    return latents.unsqueeze(2) if spaces[name].dims == VIDEO and latents.ndim == 4 else latents
