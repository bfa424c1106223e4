"""Pictures that the pipeline's own autoencoder decodes, on the sampler's thread, if that moves no weights."""

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ...decoders.latents.space import LatentSpace
from ...preview.picture import PictureOf
from ...preview.snapshot import VIDEO_NDIM, Selection
from ...preview.step import Step
from ...preview.vae_picture import PendingPicture, VaeNotUsableError, VaeSchedule, ready_picture, vae_picture

FLUX2_PATCH = 2  # FLUX.2's VAE normalizes patches of 2x2


@final
class PipelineVaePreview:
    """Decodes the last step, and some others, with the pipeline's autoencoder.

    Args:
        vae: autoencoder of the pipeline; None if it has none.
        shifts: whether the pipeline passes latents with the shift that the autoencoder states.
        space: latent space of the run.
        every_n_steps: distance between pictures that the autoencoder decodes; 0: the last only.
        selection: part of a step's latents that is shown.
        note: function that receives a note if the autoencoder cannot be used.
        fps: frames per second of the run's video; None if unknown.
    """

    def __init__(
        self,
        vae: Any,
        shifts: bool,
        space: LatentSpace,
        every_n_steps: int,
        selection: Selection,
        note: Callable[[str], None],
        fps: float | None,
    ) -> None:
        self._vae, self._shifts, self._space, self._fps = vae, shifts, space, fps
        self._schedule = VaeSchedule(every_n_steps, space, selection, note)

    def picture(self, step: Step) -> PendingPicture | None:
        """The picture of a step, if it is the autoencoder's turn. Called on the sampler's thread."""
        if not self._schedule.is_due(step) or step.denoised is None:
            return None
        picture = self._schedule.attempt(step.index, partial(self._decode, step.denoised), device=step.denoised.device)
        return picture and ready_picture(picture)

    def picture_bytes(self, shape: Sequence[int]) -> int:
        """Size of a picture of latents of this shape."""
        return self._schedule.picture_bytes(shape)

    def _decode(self, denoised: Tensor) -> PictureOf:
        began = perf_counter()
        selected = self._schedule.select(denoised.detach())
        self._check(denoised)
        latents = self._space.unpack(selected)
        with torch.no_grad():
            frames = torch.cat([self._decode_item(item) for item in latents.split(1)])
        return vae_picture(frames / 2 + 0.5, self._space, "the pipeline's VAE", self._fps, began)

    def _decode_item(self, latents: Tensor) -> Tensor:
        """Decodes one item `[1, C, T, H, W]` to frames `[1, 3, T, H, W]` in -1..1."""
        vae = self._vae
        scaled = to_vae(vae, latents, shifts=self._shifts).to(vae.dtype)
        if any(isinstance(module, torch.nn.Conv3d) for module in vae.modules()):
            return vae.decode(scaled, return_dict=False)[0].float()
        return torch.stack([vae.decode(frame, return_dict=False)[0].float() for frame in scaled.unbind(2)], 2)

    def _check(self, denoised: Tensor) -> None:
        """Raises `VaeNotUsableError` if a decode would move weights, or would give no picture."""
        vae = self._vae
        if vae is None:
            raise VaeNotUsableError("decoder full needs the pipeline's VAE, and this pipeline has none")
        if hasattr(vae, "_hf_hook"):
            raise VaeNotUsableError(
                "VAE preview skipped: the pipeline offloads its models, so a decode would move the VAE's weights"
            )
        if vae.device != denoised.device:
            raise VaeNotUsableError(
                f"VAE preview skipped: the VAE is on {vae.device}, the latents are on {denoised.device}"
            )
        if vae.dtype == torch.float16 and vae.config.get("force_upcast"):
            raise VaeNotUsableError(
                "VAE preview skipped: this VAE decodes to black in float16 (force_upcast); give the pipeline a VAE in "
                "float32, or one for float16"
            )
        if vae.config.get("timestep_conditioning"):
            raise VaeNotUsableError(
                "VAE preview skipped: this VAE denoises while it decodes, at a timestep that the pipeline chooses"
            )


def to_vae(vae: Any, latents: Tensor, *, shifts: bool = True) -> Tensor:
    """Converts model space `[B, C, T, H, W]` to what `vae` decodes; `shifts`: see `PipelineFamily`.

    Source: diffusers 0.42, each pipeline before its `vae.decode`.
    """
    latents, config = latents.float(), vae.config
    if (norm := getattr(vae, "bn", None)) is not None:
        patches = F.pixel_unshuffle(latents[:, :, 0], FLUX2_PATCH)
        spread = (norm.running_var + config["batch_norm_eps"]).sqrt()
        return F.pixel_shuffle(patches * _along(spread, 4) + _along(norm.running_mean, 4), FLUX2_PATCH)[:, :, None]
    scale, shift = config.get("scaling_factor") or 1.0, (shifts and config.get("shift_factor")) or 0.0
    mean, spread = (_stated(vae, name) for name in ("latents_mean", "latents_std"))
    if mean is None or spread is None:
        return latents / scale + shift
    mean, spread = (torch.as_tensor(each, device=latents.device, dtype=torch.float32) for each in (mean, spread))
    return latents * _along(spread, VIDEO_NDIM) / scale + _along(mean, VIDEO_NDIM)


def _stated(vae: Any, name: str) -> Any:
    """A number for each channel: some state it in their settings, LTX keeps it with its weights."""
    stated = vae.config.get(name)
    return getattr(vae, name, None) if stated is None else stated


def _along(each: Tensor, ndim: int) -> Tensor:
    """A number for each channel, however it is laid out, beside latents of `ndim` axes."""
    return each.reshape(1, -1, *[1] * (ndim - 2))
