"""Pictures by the pipeline's own autoencoder, made on the sampler's thread where that moves no weights about."""

import traceback
from collections.abc import Callable
from time import perf_counter
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor

from ...decoders.latents.space import AUDIO, LatentSpace
from ...errors import SafelightError, describe
from ...preview.snapshot import Selection
from ...preview.step import Step
from ...preview.vae_picture import DecodedPicture, PendingPicture, ready_picture

VIDEO_NDIM = 5
PATCH = 2  # of FLUX.2, whose norm is over patches


class PipelineVaeNotUsableError(SafelightError):
    """This run is not for the autoencoder; the words say why."""


@final
class PipelineVaePreview:
    """A run's pictures by the autoencoder: the last step's, and one of every few others.

    Args:
        vae: of the pipeline; None where it has none.
        shifts: whether the pipeline gives it the shift that it states.
        space: of the latents.
        every: of how many pictures the autoencoder makes one; 0 for the last step alone.
        select: what is looked at of latents.
        note: is told what was refused.
        fps: frames a second of the run's video, where it is known.
    """

    def __init__(
        self,
        vae: Any,
        shifts: bool,
        space: LatentSpace,
        every: int,
        select: Selection,
        note: Callable[[str], None],
        fps: float | None,
    ) -> None:
        self._vae, self._shifts = vae, shifts
        self._space, self._every, self._select = space, every, select
        self._note, self._fps = note, fps
        self._pictures = 0
        self._given_up = False

    def promise(self, step: Step) -> PendingPicture | None:
        """A picture of a step that will have one, where the autoencoder is to make it; on the sampler's thread."""
        self._pictures += 1
        is_its_turn = step.index == step.total or (self._every and self._pictures % self._every == 0)
        if self._given_up or step.denoised is None or not is_its_turn:
            return None
        try:
            return ready_picture(self._made(step.denoised))
        except PipelineVaeNotUsableError as error:
            self._note(str(error))
        except Exception as error:
            self._note(f"step {step.index}: the VAE was given up: {describe(error)}")
            # Its frames refer to the error, and it to them and to the sampler's.
            traceback.clear_frames(error.__traceback__)
        self._given_up = True
        return None

    def picture_bytes(self, latents: Tensor) -> int:
        """What a picture takes of latents of this shape."""
        items, _, frames, height, width = self._space.unpack(self._select(latents.to("meta"))).shape
        frames = 1 + (frames - 1) * self._space.frame_stride
        return 3 * items * frames * height * width * self._space.downscale**2

    def _made(self, denoised: Tensor) -> DecodedPicture:
        began = perf_counter()
        self._check(denoised)
        latents = self._space.unpack(self._select(denoised.detach()))
        devices = [latents.device] if latents.is_cuda else []
        # Some VAEs draw random numbers: those the sampler is about to draw must not change.
        with torch.no_grad(), torch.random.fork_rng(devices):
            frames = torch.cat([self._decode(one) for one in latents.split(1)])
        return DecodedPicture.by_vae(frames / 2 + 0.5, self._space, "the pipeline's VAE", self._fps, began)

    def _decode(self, latents: Tensor) -> Tensor:
        """One item `[1, C, T, H, W]` as frames `[1, 3, T, H, W]` in -1..1."""
        vae = self._vae
        given = to_vae(vae, latents, shifts=self._shifts).to(vae.dtype)
        if any(isinstance(module, torch.nn.Conv3d) for module in vae.modules()):
            return vae.decode(given, return_dict=False)[0].float()
        return torch.stack([vae.decode(one, return_dict=False)[0].float() for one in given.unbind(2)], 2)

    def _check(self, denoised: Tensor) -> None:
        """Refuses what could only be had by moving weights, or would be no picture."""
        vae = self._vae
        if vae is None:
            raise PipelineVaeNotUsableError("decoder full needs the pipeline's VAE, and it has none")
        if self._space.dims == AUDIO:
            raise PipelineVaeNotUsableError("the VAE was left out: of sound it makes sound, no picture")
        if denoised.ndim == VIDEO_NDIM and denoised.shape[2] > 1 and self._select.frames == "middle":
            raise PipelineVaeNotUsableError(
                "the VAE was left out: it decodes no frame in the middle; set frames to first or animated"
            )
        if hasattr(vae, "_hf_hook"):
            raise PipelineVaeNotUsableError(
                "the VAE was left out: the pipeline offloads its models, and would move this one's"
            )
        if vae.device != denoised.device:
            raise PipelineVaeNotUsableError(
                f"the VAE was left out: it is on {vae.device}, the latents are on {denoised.device}"
            )
        if vae.dtype == torch.float16 and vae.config.get("force_upcast"):
            raise PipelineVaeNotUsableError(
                "the VAE was left out: in float16 it makes black pictures, as its force_upcast says; give the pipeline "
                "a VAE in float32, or one made for float16"
            )
        if vae.config.get("timestep_conditioning"):
            raise PipelineVaeNotUsableError(
                "the VAE was left out: it denoises as it decodes, at a time that the pipeline chooses"
            )


def to_vae(vae: Any, latents: Tensor, *, shifts: bool = True) -> Tensor:
    """Model space `[B, C, T, H, W]` to what `vae` decodes; `shifts`: see `Family`.

    Source: diffusers 0.42, each pipeline before its `vae.decode`.
    """
    latents, config = latents.float(), vae.config
    if (norm := getattr(vae, "bn", None)) is not None:
        patches = F.pixel_unshuffle(latents[:, :, 0], PATCH)
        spread = (norm.running_var + config["batch_norm_eps"]).sqrt()
        return F.pixel_shuffle(patches * _along(spread, 4) + _along(norm.running_mean, 4), PATCH)[:, :, None]
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
