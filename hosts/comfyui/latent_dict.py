"""What a LATENT holds, which is what the VAE takes, as what a sampler holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...decoders.latents.identify import Evidence, identify, unknown
from ...decoders.latents.space import VIDEO, LatentSpace, Spaces
from ...errors import ContradictionError, LatentsError, SafelightError, SpaceError
from .facts import latent_evidence

FROM_MODEL = "from model"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where latents come from.

    Args:
        space: of them; one of `Catalogue.spaces()`, or what the host says of a format that has none there.
        evidence: of the model; None where only the name of the space is known.
        latent_format: the host's, of the model.
        device: that the model runs on.
    """

    space: LatentSpace
    evidence: Evidence | None = None
    latent_format: Any = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def accelerated(self) -> bool:
        """Whether the model runs on something faster than a CPU."""
        return self.device.type != "cpu"

    def plain(self, samples: Tensor) -> Tensor:
        """The samples of a LATENT as model space `[B, C, T, H, W]`.

        Raises:
            LatentsError: they are not of the space.
        """
        if self.latent_format is None:
            return self.space.to_model(self.space.unpack(samples.float()))
        if self.latent_format.latent_dimensions == VIDEO and samples.ndim == 4:
            # To them a picture is a video of one frame. Source: ComfyUI 0.33 `comfy/sample.py`,
            # `fix_empty_latent_channels`.
            samples = samples.unsqueeze(2)
        try:
            return self.space.unpack(self.latent_format.process_in(samples))
        except RuntimeError as error:  # channels that its means do not have
            name = type(self.latent_format).__name__
            raise LatentsError(f"{name} does not take latents {list(samples.shape)}: {error}.") from None


def picture_of(latent: Mapping[str, Any]) -> Tensor:
    """The samples of a LATENT; of picture and sound, the picture."""
    samples = latent["samples"]
    return samples.unbind()[0] if getattr(samples, "is_nested", False) else samples


def unpacked(latents: Tensor, shapes: Sequence[Sequence[int]]) -> Any:
    """Latents as the LATENT of a sampler holds them: several in one, where the sampler had them flat in one pack.

    Raises:
        LatentsError: this version of ComfyUI has no such latents.
    """
    if len(shapes) < 2:
        return latents
    try:
        from comfy.nested_tensor import NestedTensor
        from comfy.utils import unpack_latents
    except ImportError:
        raise LatentsError("picture and sound in one: this version of ComfyUI does not know such latents") from None
    return NestedTensor(unpack_latents(latents, shapes))


def origin(model: Any, name: str, spaces: Spaces) -> Origin:
    """Where latents come from: a space by its `name`, or what the ModelPatcher `model` says if that is `FROM_MODEL`.

    A model that calls its latents by a known name but has numbers of its own has a space of its own.

    Raises:
        SpaceError: nobody said, or there is no such space.
    """
    if name != FROM_MODEL:
        return Origin(space=spaces[name])
    if model is None:
        raise SpaceError(f"space is `{FROM_MODEL}`, but no model is connected: connect the model, or choose the space.")
    evidence = latent_evidence(model)
    try:
        space = identify(evidence, spaces)
    except ContradictionError:
        space = unknown(evidence)
    return Origin(
        space=space,
        evidence=evidence,
        latent_format=model.get_model_object("latent_format"),
        device=torch.device(model.load_device),
    )


def fitting_spaces(samples: Tensor, spaces: Spaces) -> list[str]:
    """The names of spaces that samples of this shape could be of."""
    shape = torch.empty(tuple(samples.shape), device="meta")
    found = []
    for space in spaces:
        try:
            space.unpack(shape)
        except SafelightError:
            continue
        found.append(space.name)
    return found
