"""Converts the tensor of a sampler to plain latents `[B, C, T, H, W]`.

Each function takes the sampler's tensor and the channels of the space. It returns a view where possible, and never
writes to its input. `LAYOUTS` maps names to functions, so that a latent space can store its layout as data.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import LatentsError

PATCH_SIDE = 2


def plain(latents: Tensor, channels: int) -> Tensor:
    """Most samplers: `[B, C, H, W]` or `[B, C, T, H, W]`."""
    _expect("[B, C, H, W] or [B, C, T, H, W]", latents, channels, ndims=(4, 5))
    return latents if latents.ndim == 5 else latents.unsqueeze(2)


def patched(latents: Tensor, channels: int) -> Tensor:
    """FLUX.2: `[B, C*4, h, w]` holds 2x2 patches, channel = c*4 + py*2 + px. Also accepts unpacked `[B, C, H, W]`.

    Source: ComfyUI 0.33 `comfy/latent_formats.py`, `Flux2.latent_rgb_factors_reshape`.
    """
    if latents.ndim == 4 and latents.shape[1] == channels * PATCH_SIDE**2 and latents.numel():
        return torch.pixel_shuffle(latents, PATCH_SIDE).unsqueeze(2)
    _expect("[B, C*4, h, w], [B, C, H, W] or [B, C, T, H, W]", latents, channels, ndims=(4, 5))
    return plain(latents, channels)


def frame_pairs(latents: Tensor, channels: int) -> Tensor:
    """HunyuanImage 2.1's refiner: `[B, C*2, T, H, W]` holds two frames as channels, and the first frame twice.

    Source: ComfyUI 0.33 `comfy/latent_formats.py`, `HunyuanImage21Refiner.process_out`.
    """
    if latents.ndim == 5 and latents.shape[1] == channels * 2 and latents.numel():
        first, second = latents.chunk(2, dim=1)
        return torch.stack((first, second), dim=3).flatten(2, 3)[:, :, 1:]
    _expect("[B, C*2, T, H, W] or [B, C, T, H, W]", latents, channels, ndims=(5,))
    return latents


def sequence(latents: Tensor, channels: int) -> Tensor:
    """Audio and token sequences: `[B, C, L]` becomes `[B, C, 1, 1, L]`."""
    _expect("[B, C, L]", latents, channels, ndims=(3,))
    return latents[:, :, None, None, :]


def bands(latents: Tensor, channels: int) -> Tensor:
    """ACE-Step audio: `[B, C, F, L]` becomes `[B, C*F, 1, 1, L]`, one row per channel and frequency band."""
    _expect("[B, C, F, L]", latents, channels, ndims=(4,))
    return latents.flatten(1, 2)[:, :, None, None, :]


def tokens(latents: Tensor, channels: int) -> Tensor:
    """Point sets: `[B, N, C]` or `[N, C]` becomes `[B, C, 1, 1, N]`.

    Also accepts `[B, C, N, 1]` and the coarse grid `[B, C, D, H, W]`: ComfyUI samples the later stages and the first
    stage of TRELLIS.2 so. Source: ComfyUI 0.33 `comfy_extras/nodes_trellis2.py` and `nodes_triposplat.py`.
    """
    last = latents.ndim in (2, 3)
    _expect(
        "[B, N, C], [N, C], [B, C, N, 1] or [B, C, D, H, W]",
        latents,
        channels,
        ndims=(2, 3, 4, 5),
        axis=-1 if last else 1,
    )
    if latents.ndim == 2:
        latents = latents.unsqueeze(0)
    rows = latents.movedim(-1, 1) if last else latents.flatten(2)
    return rows[:, :, None, None, :]


LAYOUTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "plain": plain,
    "patched": patched,
    "frame_pairs": frame_pairs,
    "sequence": sequence,
    "bands": bands,
    "tokens": tokens,
}


def _expect(form: str, latents: Tensor, channels: int, *, ndims: tuple[int, ...], axis: int = 1) -> None:
    """Raises `LatentsError` unless `latents` has `ndims` axes, `channels` along `axis` and at least one value."""
    if latents.ndim in ndims and latents.shape[axis] == channels and latents.numel():
        return
    raise LatentsError(f"expected {form} with C = {channels}, got {list(latents.shape)}")
