"""Pictures as model space latents, by the VAEs of diffusers and of hosts that are made of it.

Told by the names of their classes: a host has copies of its own, and none is imported here.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor

from ..decoders.latents.space import LatentSpace
from ..errors import FitError

AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")  # of diffusers, that can be opened from a folder


class VaeEncoding(NamedTuple):
    """How a VAE is asked.

    Args:
        plain: rgb `[B, 3, H, W]` in -1..1 to what it makes of it, `[B, C, h, w]`.
        model: that, to model space.
    """

    plain: Callable[[Any, Tensor], Tensor]
    model: Callable[[Any, LatentSpace, Tensor], Tensor]


def encode(vae: Any, space: LatentSpace, rgb: Tensor) -> Tensor:
    """Model space latents `[B, C, h, w]` float32 of rgb `[B, 3, H, W]` in 0..1, on the VAE's device and of its type.

    Raises:
        FitError: nobody knows this VAE.
    """
    encoding = encoding_of(vae)
    return encoding.model(vae, space, encoding.plain(vae, rgb * 2 - 1).float())


def encoding_of(vae: Any) -> VaeEncoding:
    """How this VAE is asked.

    Raises:
        FitError: nobody knows.
    """
    name = next((kind.__name__ for kind in type(vae).__mro__ if kind.__name__ in ENCODINGS), None)
    if name is None:
        raise FitError(f"expected a VAE of {', '.join(ENCODINGS)}, got one of {type(vae).__name__}")
    return ENCODINGS[name]


def _mode(vae: Any, rgb: Tensor) -> Tensor:
    return vae.encode(rgb).latent_dist.mode()


def _mode_of_one_frame(vae: Any, rgb: Tensor) -> Tensor:
    return vae.encode(rgb.unsqueeze(2)).latent_dist.mode()[:, :, 0]


def _by_row(_vae: Any, space: LatentSpace, latents: Tensor) -> Tensor:
    return space.to_model(latents)


def _normed(vae: Any, _space: LatentSpace, latents: Tensor) -> Tensor:
    """FLUX.2's go in patches of 2x2 through a batch norm, whose numbers only the VAE has.

    Source: diffusers 0.40 `pipelines/flux2/pipeline_flux2.py`, `_encode_vae_image`.
    """
    mean, variance = (values.to(latents).view(1, -1, 1, 1) for values in (vae.bn.running_mean, vae.bn.running_var))
    return F.pixel_shuffle((F.pixel_unshuffle(latents, 2) - mean) / (variance + vae.bn.eps).sqrt(), 2)


ENCODINGS: Mapping[str, VaeEncoding] = {
    "AutoencoderKL": VaeEncoding(_mode, _by_row),
    # Its latents are model space already.
    "AutoencoderTiny": VaeEncoding(
        lambda vae, rgb: vae.encode(rgb).latents, lambda vae, _, latents: latents * vae.config.scaling_factor
    ),
    # InvokeAI's own of FLUX.1, which scales and shifts by itself.
    "AutoEncoder": VaeEncoding(lambda vae, rgb: vae.encode(rgb, sample=False), lambda _vae, _space, latents: latents),
    "AutoencoderKLFlux2": VaeEncoding(_mode, _normed),
    "AutoencoderKLWan": VaeEncoding(_mode_of_one_frame, _by_row),
    "AutoencoderKLQwenImage": VaeEncoding(_mode_of_one_frame, _by_row),
}


def open_autoencoder(folder: Path) -> Any:
    """A diffusers autoencoder from a folder with its `config.json` and weights, on the CPU.

    Raises:
        FitError: diffusers is not installed, or the folder holds no autoencoder of `AUTOENCODERS`.
    """
    try:
        import diffusers
    except ImportError:
        raise FitError("a folder as --encoder needs diffusers: pip install diffusers") from None
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
        kind = {known: getattr(diffusers, known) for known in AUTOENCODERS}[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FitError(
            f"{folder}: expected a folder with diffusers' {' or '.join(AUTOENCODERS)}, told by its config.json; "
            f"got {error!r}"
        ) from None
    return kind.from_pretrained(folder, local_files_only=True).eval()
