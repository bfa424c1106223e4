"""Decodes model space latents with VAE modules of diffusers and of hosts that are built on it."""

from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoders.nets.checkerboard import RGBA_CHANNELS, over_checkerboard
from ..preview.snapshot import VIDEO_NDIM

FLUX2_PATCH = 2  # FLUX.2's VAE normalizes patches of 2x2

_previewing: ContextVar[bool] = ContextVar("safelight_previewing", default=False)


def is_preview() -> bool:
    """Whether the VAE decodes for a preview of Safelight, in this thread."""
    return _previewing.get()


def decode_with_vae(vae: Any, latents: Tensor, *, shifts: bool = True) -> Tensor:
    """Decodes model space `[B, C, T, H, W]` to frames `[B, 3, T, H, W]` float32 in -1..1.

    Transparent pictures are shown over a checkerboard.

    Args:
        vae: autoencoder of diffusers, on the device of the latents.
        latents: model space latents.
        shifts: as for `to_vae`.
    """
    scaled = to_vae(vae, latents, shifts=shifts).to(next(vae.parameters()).dtype)
    token = _previewing.set(True)
    try:
        if any(map(_is_of_videos, vae.modules())):
            return _opaque(vae.decode(scaled, return_dict=False)[0].float())
        frames = [vae.decode(frame, return_dict=False)[0].float() for frame in scaled.unbind(2)]
        return _opaque(torch.stack(frames, 2))
    finally:
        _previewing.reset(token)


def _is_of_videos(module: torch.nn.Module) -> bool:
    """Whether a module of a VAE takes videos. Qwen-Image 2.1 has one that is called so and computes a `Conv2d`."""
    return isinstance(module, torch.nn.Conv3d) or "Conv3d" in type(module).__name__


def _opaque(frames: Tensor) -> Tensor:
    if frames.shape[1] != RGBA_CHANNELS:
        return frames
    rgb = over_checkerboard(frames.movedim(2, 1).flatten(0, 1) / 2 + 0.5)
    return (rgb * 2 - 1).unflatten(0, (frames.shape[0], frames.shape[2])).movedim(1, 2)


def to_vae(vae: Any, latents: Tensor, *, shifts: bool = True) -> Tensor:
    """Converts model space `[B, C, T, H, W]` to what `vae` decodes.

    Source: diffusers 0.42, each pipeline before its `vae.decode`.

    Args:
        vae: autoencoder of diffusers.
        latents: model space latents.
        shifts: whether the shift that the autoencoder states is applied; some pipelines do not.
    """
    latents = latents.float()
    if hasattr(vae, "bn"):
        mean, std = _norm(vae, latents)
        return F.pixel_shuffle(F.pixel_unshuffle(latents[:, :, 0], FLUX2_PATCH) * std + mean, FLUX2_PATCH)[:, :, None]
    scale, std, offset = _scaling(vae, latents, shifts)
    return latents * std / scale + offset


def from_vae(vae: Any, latents: Tensor, *, shifts: bool = True) -> Tensor:
    """Converts what `vae` decodes to model space `[B, C, T, H, W]`: the inverse of `to_vae`.

    Args:
        vae: autoencoder of diffusers.
        latents: latents that it decodes.
        shifts: as for `to_vae`.
    """
    latents = latents.float()
    if hasattr(vae, "bn"):
        mean, std = _norm(vae, latents)
        return F.pixel_shuffle((F.pixel_unshuffle(latents[:, :, 0], FLUX2_PATCH) - mean) / std, FLUX2_PATCH)[:, :, None]
    scale, std, offset = _scaling(vae, latents, shifts)
    return (latents - offset) * scale / std


def _norm(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of FLUX.2's batch norm, for patches."""
    std = (vae.bn.running_var + vae.config["batch_norm_eps"]).sqrt()
    return _along(vae.bn.running_mean.to(like.device), 4), _along(std.to(like.device), 4)


def _scaling(vae: Any, like: Tensor, shifts: bool) -> tuple[float, Tensor | float, Tensor | float]:
    """Factor, deviation and offset of the values of a VAE."""
    scale = vae.config.get("scaling_factor") or 1.0
    mean, std = (_stated(vae, name) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return scale, 1.0, (shifts and vae.config.get("shift_factor")) or 0.0
    mean, std = (torch.as_tensor(each, device=like.device, dtype=torch.float32) for each in (mean, std))
    return scale, _along(std, VIDEO_NDIM), _along(mean, VIDEO_NDIM)


def _stated(vae: Any, name: str) -> Any:
    """A number for each channel. Most VAEs have it in their config, LTX's has it among its weights."""
    stated = vae.config.get(name)
    return dict(vae.named_buffers(recurse=False)).get(name) if stated is None else stated


def _along(channels: Tensor, ndim: int) -> Tensor:
    """Numbers of the channels in a shape that broadcasts with latents of `ndim` axes."""
    return channels.reshape(1, -1, *[1] * (ndim - 2))
