"""Encodes images to model space latents with the VAEs of diffusers and of hosts built on it.

VAEs are recognized by class name: a host has its own copies of the classes, and none of them is imported here.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ..decoders.latents.space import LatentSpace
from ..errors import FitError
from .vae_decode import from_vae

AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")  # diffusers classes that can be opened from a folder


class VaeEncoding(NamedTuple):
    """The encoding functions of a VAE class.

    Args:
        to_vae_latents: function from the VAE and rgb `[B, 3, H, W]` in -1..1 to the VAE's own latents `[B, C, h, w]`.
        to_model_space: function from the VAE, the space and these latents to model space latents.
    """

    to_vae_latents: Callable[[Any, Tensor], Tensor]
    to_model_space: Callable[[Any, LatentSpace, Tensor], Tensor]


def encode_with_vae(vae: Any, space: LatentSpace, rgb: Tensor) -> Tensor:
    """Encodes rgb to model space latents `[B, C, h, w]` float32.

    Args:
        vae: VAE module.
        space: latent space of the VAE.
        rgb: images `[B, 3, H, W]` in 0..1, with the device and dtype of the VAE.

    Raises:
        FitError: the VAE class is not supported.
    """
    encoding = vae_encoding(vae)
    return encoding.to_model_space(vae, space, encoding.to_vae_latents(vae, rgb * 2 - 1).float())


def vae_encoding(vae: Any) -> VaeEncoding:
    """Finds the encoding functions of a VAE.

    Raises:
        FitError: the VAE class is not supported.
    """
    name = next((kind.__name__ for kind in type(vae).__mro__ if kind.__name__ in ENCODINGS), None)
    if name is None:
        raise FitError(f"expected a VAE of {', '.join(ENCODINGS)}, got one of {type(vae).__name__}")
    return ENCODINGS[name]


def _mode(vae: Any, rgb: Tensor) -> Tensor:
    return vae.encode(rgb).latent_dist.mode()


def _mode_of_one_frame(vae: Any, rgb: Tensor) -> Tensor:
    return vae.encode(rgb.unsqueeze(2)).latent_dist.mode()[:, :, 0]


def _scale_by_space(_vae: Any, space: LatentSpace, latents: Tensor) -> Tensor:
    return space.to_model(latents)


def _batch_norm(vae: Any, _space: LatentSpace, latents: Tensor) -> Tensor:
    """Applies FLUX.2's batch norm; only the VAE has its statistics."""
    return from_vae(vae, latents.unsqueeze(2)).squeeze(2)


ENCODINGS: Mapping[str, VaeEncoding] = {
    "AutoencoderKL": VaeEncoding(_mode, _scale_by_space),
    # Its latents are in model space already.
    "AutoencoderTiny": VaeEncoding(
        lambda vae, rgb: vae.encode(rgb).latents, lambda vae, _, latents: latents * vae.config.scaling_factor
    ),
    # InvokeAI's class for FLUX.1, which scales and shifts its latents itself.
    "AutoEncoder": VaeEncoding(lambda vae, rgb: vae.encode(rgb, sample=False), lambda _vae, _space, latents: latents),
    "AutoencoderKLFlux2": VaeEncoding(_mode, _batch_norm),
    "AutoencoderKLWan": VaeEncoding(_mode_of_one_frame, _scale_by_space),
    "AutoencoderKLQwenImage": VaeEncoding(_mode_of_one_frame, _scale_by_space),
}


def open_autoencoder(folder: Path) -> Any:
    """Opens a diffusers autoencoder from a folder with `config.json` and weights, on the CPU.

    Raises:
        FitError: diffusers is not installed, or the folder holds no autoencoder of `AUTOENCODERS`.
    """
    try:
        import diffusers
    except ImportError:
        raise FitError(f"{folder}: diffusers opens this folder, and is not installed: pip install diffusers") from None
    try:
        name = json.loads((folder / "config.json").read_text(encoding="utf-8"))["_class_name"]
        kind = {known: getattr(diffusers, known) for known in AUTOENCODERS}[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FitError(
            f"{folder}: expected a folder with diffusers' {' or '.join(AUTOENCODERS)} in its config.json; got {error!r}"
        ) from None
    return kind.from_pretrained(folder, local_files_only=True).eval()
