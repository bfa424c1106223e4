"""Converts ComfyUI's LATENT, which is in the VAE's units, to model space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...decoders.latents.identify import Evidence, identify, unknown
from ...decoders.latents.space import VIDEO, LatentSpace, Spaces
from ...errors import ContradictionError, LatentsError, SafelightError, SpaceError
from .facts import format_evidence

FROM_MODEL = "from model"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The model or the latent space that latents come from.

    Args:
        space: latent space; one of `Catalogue.spaces()`, or one built from the facts of an unknown latent format.
        evidence: facts from the model; None if only the name of the space is known.
        latent_format: latent format of the model; None if there is no model.
        device: device of the model.
    """

    space: LatentSpace
    evidence: Evidence | None = None
    latent_format: Any = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def accelerated(self) -> bool:
        """Whether the model runs on a device faster than a CPU."""
        return self.device.type != "cpu"

    def plain(self, samples: Tensor) -> Tensor:
        """Converts the samples of a LATENT to model space `[B, C, T, H, W]`.

        Raises:
            LatentsError: they do not fit the space.
        """
        if self.latent_format is None:
            return self.space.to_model(self.space.unpack(samples.float()))
        if self.latent_format.latent_dimensions == VIDEO and samples.ndim == 4:
            # For these models an image is a video with one frame. Source: ComfyUI 0.33 `comfy/sample.py`,
            # `fix_empty_latent_channels`.
            samples = samples.unsqueeze(2)
        try:
            return self.space.unpack(self.latent_format.process_in(samples))
        except RuntimeError as error:  # another number of channels
            name = type(self.latent_format).__name__
            raise LatentsError(f"{name} does not accept latents {list(samples.shape)}: {error}.") from None


def picture_of(latent: Mapping[str, Any]) -> Tensor:
    """The samples of a LATENT; of video and audio, the video."""
    samples = latent["samples"]
    return samples.unbind()[0] if getattr(samples, "is_nested", False) else samples


def unpacked(latents: Tensor, shapes: Sequence[Sequence[int]]) -> Any:
    """Converts a sampler's tensor to the samples of a LATENT, which are nested if the tensor is a pack of several.

    Raises:
        LatentsError: this version of ComfyUI has no nested latents.
    """
    if len(shapes) < 2:
        return latents
    try:
        from comfy.nested_tensor import NestedTensor
        from comfy.utils import unpack_latents
    except ImportError:
        raise LatentsError("this version of ComfyUI has no latents with video and audio: update ComfyUI") from None
    return NestedTensor(unpack_latents(latents, shapes))


def origin(model: Any, name: str, spaces: Spaces) -> Origin:
    """Finds the latent space by its `name`, or from the ModelPatcher `model` if the name is `FROM_MODEL`.

    If the model's latent format has a known name but other numbers, the space is built from its numbers.

    Raises:
        SpaceError: no model is connected, or there is no space of this name.
    """
    if name != FROM_MODEL:
        return Origin(space=spaces[name])
    if model is None:
        raise SpaceError(f"space is `{FROM_MODEL}`, but no model is connected: connect the model, or choose a space.")
    return origin_of_format(model.get_model_object("latent_format"), spaces, torch.device(model.load_device))


def origin_of_format(latent_format: Any, spaces: Spaces, device: torch.device | None = None) -> Origin:
    """The origin of latents of a latent format.

    Args:
        latent_format: ComfyUI's latent format.
        spaces: known spaces. If one has its name but other numbers, the space is built from its numbers.
        device: device of the model; None for the CPU.
    """
    evidence = format_evidence(latent_format)
    try:
        space = identify(evidence, spaces)
    except ContradictionError:
        space = unknown(evidence)
    return Origin(space=space, evidence=evidence, latent_format=latent_format, device=device or torch.device("cpu"))


def fitting_spaces(samples: Tensor, spaces: Spaces) -> list[str]:
    """Names of the spaces that samples of this shape fit."""
    shape = torch.empty(tuple(samples.shape), device="meta")
    found = []
    for space in spaces:
        try:
            space.unpack(shape)
        except SafelightError:
            continue
        found.append(space.name)
    return found
