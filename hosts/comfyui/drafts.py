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
from ...decoders.errors import LatentsError, SafelightError
from ...decoders.identify import Evidence, identify
from ...decoders.spaces import AUDIO, LatentSpace
from ...preview.encode import ENLARGING, Enlarge
from .facts import latent_evidence
from .library import catalogue

FROM_MODEL = "from model"

log = logging.getLogger("safelight.comfyui")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the user chose on the node; see its tooltips."""

    decoder: str = AUTO
    space: str = FROM_MODEL
    enlarge: Enlarge = "off"


def space_names() -> list[str]:
    """What one may choose as the space: those that Safelight knows, and those of the user's decoder files."""
    return [FROM_MODEL, *(space.name for space in catalogue().spaces())]


def draft(latent: Mapping[str, Any], model: Any | None, settings: Settings) -> Tensor:
    """Pictures `[B*T, H, W, 3]`, 0..1, of a LATENT, which holds what the VAE takes.

    Args:
        latent: the host's.
        model: the ModelPatcher whose latents they are; None if nobody said.
        settings: the user's.

    Raises:
        SafelightError: no such space or decoder, or the latents are not of that space.
    """
    samples = latent["samples"]
    if getattr(samples, "is_nested", False):  # picture and sound: the picture comes first
        samples = samples.unbind()[0]
    space, plain, evidence = _plain(samples, model, settings.space)
    device = torch.device("cpu") if model is None else model.load_device
    candidates = catalogue().candidates(space, settings.decoder, accelerated=device.type != "cpu", evidence=evidence)
    if settings.decoder != AUTO:
        candidates = candidates[:1]
    return _decode(candidates, plain, space, device, settings.enlarge)


def _plain(samples: Tensor, model: Any | None, name: str) -> tuple[LatentSpace, Tensor, Evidence | None]:
    """The space, the latents as model space `[B, C, T, H, W]`, and what the model says of them if it was asked."""
    try:
        if name != FROM_MODEL:
            space = catalogue().spaces()[name]
            return space, space.to_model(space.unpack(samples.float())), None
        if model is None:
            raise LatentsError("space is `from model`, but no model is connected: connect one, or choose the space")
        evidence = latent_evidence(model)
        space = identify(evidence, catalogue().spaces())
        return space, space.unpack(_process_in(model, samples)), evidence
    except LatentsError as error:
        raise LatentsError(f"{error} {_advice(samples)}") from None


def _process_in(model: Any, samples: Tensor) -> Tensor:
    """The host's own way from the VAE's values to the sampler's.

    Its formats for video take pictures as videos of one frame. Source: ComfyUI 0.33 `comfy/sample.py`,
    `fix_empty_latent_channels`.
    """
    latent_format = model.get_model_object("latent_format")
    if latent_format.latent_dimensions == 3 and samples.ndim == 4:
        samples = samples.unsqueeze(2)
    try:
        return latent_format.process_in(samples)
    except RuntimeError as error:  # channels that its means do not have
        name = type(latent_format).__name__
        raise LatentsError(f"{name} does not take latents {list(samples.shape)}: {error}.") from None


def _advice(samples: Tensor) -> str:
    shape = torch.empty(tuple(samples.shape), device="meta")
    fitting = []
    for space in catalogue().spaces():
        try:
            space.unpack(shape)
        except SafelightError:
            continue
        fitting.append(space.name)
    return f"Spaces that latents {list(samples.shape)} could be of: {', '.join(fitting) or 'none that is known'}."


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
