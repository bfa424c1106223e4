"""Decodes finished latents to images without a VAE."""

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
from ...decoders.later_frames import as_first_frames
from ...errors import LatentsError, SafelightError, SpaceError
from ...preview.images.encode import RESAMPLING, Enlarge
from .decoder_folders import catalogue
from .latent_dict import FROM_MODEL, fitting_spaces, origin, picture_of

log = logging.getLogger("safelight.comfyui")


@dataclass(frozen=True, kw_only=True)
class QuickDecodeOptions:
    """The user's options on the node; its tooltips describe them."""

    decoder: str = AUTO
    space: str = FROM_MODEL
    enlarge: Enlarge = "off"


def space_names() -> list[str]:
    """Valid values of `space`: the known spaces, and those that the user's decoder files add."""
    return [FROM_MODEL, *(space.name for space in catalogue().spaces())]


def quick_decode(latent: Mapping[str, Any], model: Any | None, options: QuickDecodeOptions) -> Tensor:
    """Decodes a LATENT to images `[B*T, H, W, 3]` in 0..1.

    Args:
        latent: ComfyUI's LATENT, in the VAE's units.
        model: ModelPatcher that sampled the latents; None if none is connected.
        options: the user's options.

    Raises:
        SafelightError: there is no such space or decoder, or the latents do not fit the space.
    """
    samples, installed = picture_of(latent), catalogue()
    spaces = installed.spaces()
    try:
        source = origin(model, options.space, spaces)
        plain = source.plain(samples)
    except (LatentsError, SpaceError) as error:
        fitting = ", ".join(fitting_spaces(samples, spaces)) or "no known space"
        raise type(error)(f"{error} Spaces that latents {list(samples.shape)} fit: {fitting}.") from None
    candidates = installed.candidates(
        source.space, options.decoder, accelerated=source.accelerated, evidence=source.evidence
    )
    if options.decoder != AUTO:
        candidates = candidates[:1]
    return _decode(candidates, plain, source.space, source.device, options.enlarge)


def _decode(
    candidates: Sequence[Candidate], plain: Tensor, space: LatentSpace, device: torch.device, enlarge: Enlarge
) -> Tensor:
    """Decodes with the first of `candidates` that works."""
    *others, last = candidates
    for candidate in others:
        try:
            return _pictures(candidate, plain, space, device, enlarge)
        except (SafelightError, RuntimeError) as error:
            log.warning("%s cannot decode these latents, the next decoder is tried: %s", candidate.name, error)
    return _pictures(last, plain, space, device, enlarge)


def _pictures(
    candidate: Candidate, plain: Tensor, space: LatentSpace, device: torch.device, enlarge: Enlarge
) -> Tensor:
    """Decodes frame by frame, so that the memory on `device` does not grow with the length of a video."""
    items, _, frames, height, width = plain.shape
    size = (width * space.downscale, height * space.downscale)
    progress = comfy.utils.ProgressBar(items * frames)  # a decoder of videos outputs more frames: it stays full
    pictures: list[Tensor] = []
    for item in plain:
        # Opened for each item: decoders without weights adapt to their first input.
        decoder, latents = candidate.open().to(device), item[None].to(device)
        if decoder.stride == 1:
            latents = as_first_frames(latents, space)
        for rgb in decoder.frames(latents):
            throw_exception_if_processing_interrupted()
            picture = rgb[0].cpu()
            if enlarge != "off" and space.dims != AUDIO:
                picture = enlarged(picture, size, enlarge)
            pictures.append(picture.movedim(0, -1).to(intermediate_device()))
            progress.update(1)
    log.info("latents of %s decoded by %s", space.title, candidate.name)
    return torch.stack(pictures)


def enlarged(rgb: Tensor, size: tuple[int, int], method: Enlarge) -> Tensor:
    """Resizes `rgb` `[3, H, W]` to `size`, width and height, as preview files are, but without rounding to bytes."""
    if (rgb.shape[2], rgb.shape[1]) == size:
        return rgb
    planes = (Image.fromarray(plane.numpy()).resize(size, RESAMPLING[method]) for plane in rgb)
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes])).clamp_(0, 1)
