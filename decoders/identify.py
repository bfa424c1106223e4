"""Which latent space a host's latents are in, from what the host says of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .errors import ContradictionError
from .spaces import LatentSpace, Spaces


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a host knows of its latents; None where it does not.

    Args:
        host: `comfyui`, `invokeai` or `diffusers`: whose names these are.
        format_name: the name of the host's own latent format, base model type or autoencoder class.
        channels: of the tensor that the sampler holds, packed as it is there.
        dims: 1 audio, 2 image, 3 video.
        scale: factor from the VAE's values to the sampler's.
        shift: subtracted from the VAE's values first.
        downscale: picture pixels per pixel of the sampler's tensor, along one side.
        model_type: the host's name for the model, when several share a format.
        factors: `[C][3]`, the host's own table to RGB in -1..1, if its format carries one.
        bias: `[3]`, its constant.
    """

    host: str
    format_name: str | None = None
    channels: int | None = None
    dims: int | None = None
    scale: float | None = None
    shift: float | None = None
    downscale: int | None = None
    model_type: str | None = None
    factors: Sequence[Sequence[float]] | None = None
    bias: Sequence[float] | None = None
