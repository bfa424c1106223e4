"""Finished latents become pictures without a VAE."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.utils
import numpy as np
import torch
from comfy.model_management import intermediate_device, throw_exception_if_processing_interrupted
from PIL import Image
from torch import Tensor

from ...decoders.catalogue import AUTO, Candidate
from ...decoders.latents.space import AUDIO, LatentSpace
from ...errors import LatentsError, SafelightError, SpaceError
from ...preview.images.encode import ENLARGING, Enlarge
from .decoder_folders import catalogue
from .latent_dict import FROM_MODEL, fitting_spaces, origin, picture_of

log = logging.getLogger("safelight.comfyui")


@dataclass(frozen=True, kw_only=True)
class QuickDecodeOptions:
    """What the user chose on the node; see its tooltips."""

    decoder: str = AUTO
    space: str = FROM_MODEL
    enlarge: Enlarge = "off"


def space_names() -> list[str]:
    """What one may choose as the space: those that Safelight knows, and those of the user's decoder files."""
    return [FROM_MODEL, *(space.name for space in catalogue().spaces())]


def quick_decode(latent: Mapping[str, Any], model: Any | None, settings: QuickDecodeOptions) -> Tensor:
    """Pictures `[B*T, H, W, 3]`, 0..1, of a LATENT, which holds what the VAE takes.

    Args:
        latent: the host's.
        model: the ModelPatcher whose latents they are; None if nobody said.
        settings: the user's.

    Raises:
        SafelightError: no such space or decoder, or the latents are not of that space.
    """
    samples, spaces = picture_of(latent), catalogue().spaces()
    try:
        source = origin(model, settings.space, spaces)
        plain = source.plain(samples)
    except (LatentsError, SpaceError) as error:
        fitting = ", ".join(fitting_spaces(samples, spaces)) or "none that is known"
        raise type(error)(f"{error} Spaces that latents {list(samples.shape)} could be of: {fitting}.") from None
    candidates = catalogue().candidates(
        source.space, settings.decoder, accelerated=source.accelerated, evidence=source.evidence
    )
    if settings.decoder != AUTO:
        candidates = candidates[:1]
    return _decode(candidates, plain, source.space, source.device, settings.enlarge)


def _decode(
    candidates: Sequence[Candidate], plain: Tensor, space: LatentSpace, device: torch.device, enlarge: Enlarge
) -> Tensor:
    """The pictures that the first of `candidates` makes that can."""
    *others, last = candidates
    for candidate in others:
        try:
            return _pictures(candidate, plain, space, device, enlarge)
        except (SafelightError, RuntimeError) as error:
            log.warning("%s cannot decode these latents, another one will: %s", candidate.name, error)
    return _pictures(last, plain, space, device, enlarge)


def _pictures(
    candidate: Candidate, plain: Tensor, space: LatentSpace, device: torch.device, enlarge: Enlarge
) -> Tensor:
    """What is on `device` is bounded, however long a video is."""
    items, _, frames, height, width = plain.shape
    size = (width * space.downscale, height * space.downscale)
    progress = comfy.utils.ProgressBar(items * frames)  # a decoder that knows time makes more: it stays at the end
    pictures: list[Tensor] = []
    for item in plain:
        decoder = candidate.open().to(device)  # anew for each: one without weights remembers what it saw
        for rgb in decoder.frames(item[None].to(device)):
            throw_exception_if_processing_interrupted()
            picture = rgb[0].cpu()
            if enlarge != "off" and space.dims != AUDIO:
                picture = enlarged(picture, size, enlarge)
            pictures.append(picture.movedim(0, -1).to(intermediate_device()))
            progress.update(1)
    log.info("latents of %s decoded by %s", space.title, candidate.name)
    return torch.stack(pictures)


def enlarged(rgb: Tensor, size: tuple[int, int], method: Enlarge) -> Tensor:
    """`rgb` `[3, H, W]` at `size`, width and height, as the files of a preview are enlarged, but never rounded."""
    if (rgb.shape[2], rgb.shape[1]) == size:
        return rgb
    planes = (Image.fromarray(plane.numpy()).resize(size, ENLARGING[method]) for plane in rgb)
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes])).clamp_(0, 1)
