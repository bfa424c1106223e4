"""Pictures that ComfyUI's own VAE decodes, on the sampler's thread, where that moves no model."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, final

import comfy.model_management as management
import torch
from comfy.model_management import InterruptProcessingException
from torch import Tensor

from ...decoders.latents.space import LatentSpace
from ...preview.decode.memory_budget import MB
from ...preview.picture import PictureOf
from ...preview.snapshot import VIDEO_NDIM, Selection
from ...preview.step import Step
from ...preview.vae_picture import PendingPicture, VaeNotUsableError, VaeSchedule, ready_picture, vae_picture
from .video_batch import as_batch, as_video, video_shape

WEIGHTS_MARGIN = 1.1  # ComfyUI's own estimate of the memory for weights that it loads


@final
class ComfyVaePreview:
    """A run's pictures from the VAE: the last step's after sampling, others while the sampler waits.

    All of it happens on the sampler's thread. ComfyUI's layers look for the user's Cancel, and the thread that finds it
    removes it; so it is raised to the sampler.

    After sampling, the VAE decodes as VAE Decode does, if it fits next to the loaded models. Before, ComfyUI must load
    nothing, because it might unload the sampler's model: the VAE's own net is run, if it is on its device.

    Args:
        vae: ComfyUI's VAE.
        model: ModelPatcher that samples.
        space: latent space of the latents.
        every_n_steps: distance between pictures that the VAE decodes; 0 for the last step only.
        selection: part of the latents that is shown.
        shapes: shapes of the latents; several if they are packed into one tensor.
        note: function that receives a note if a picture cannot come from the VAE.
        fps: frames per second of the run's video; None if unknown.
        is_video_batch: whether the batch is one video.

    Attributes:
        finished: whether the last step has got its picture, or a note about it.
    """

    def __init__(
        self,
        vae: Any,
        model: Any,
        space: LatentSpace,
        every_n_steps: int,
        selection: Selection,
        shapes: Sequence[Sequence[int]],
        note: Callable[[str], None],
        fps: float | None,
        is_video_batch: bool,
    ) -> None:
        self._vae, self._model, self._space, self._shapes, self._fps = vae, model, space, shapes, fps
        self._is_video_batch = is_video_batch
        self._schedule = VaeSchedule(every_n_steps, space, selection, note)
        self._last: PendingPicture | None = None
        self.finished = False

    def picture(self, step: Step) -> PendingPicture | None:
        """The picture of a step if the VAE decodes it; None if the worker does. Call it once for each picture.

        Raises:
            InterruptProcessingException: the user cancels.
        """
        self.close()  # some samplers continue after the step that they report as the last
        if not self._schedule.is_due(step):
            return None
        if step.index == step.total:
            self._last = PendingPicture()
            return self._last
        denoised = step.denoised
        picture = None if denoised is None else self._attempt(step.index, lambda: self._decode_now(denoised))
        return picture and ready_picture(picture)

    def finish(self, samples: Tensor, index: int) -> PictureOf | None:
        """Decodes what the sampler returns, as the picture of the last step.

        Raises:
            InterruptProcessingException: the user cancels.
        """
        self.finished = True
        self._schedule.try_again()
        picture = self._attempt(index, lambda: self._decode_after_sampling(samples))
        if self._last is not None:
            self._last.set_result(picture)
            self._last = None
        return picture

    @property
    def is_pending(self) -> bool:
        """Whether the last step waits for its picture."""
        return self._last is not None

    def close(self) -> None:
        """Lets the worker decode the last step, if it waits for its picture."""
        if self._last is not None:
            self._last.set_result(None)
            self._last = None

    def picture_bytes(self) -> int:
        """Size of a picture that the VAE decodes."""
        shape = self._shapes[0]
        return self._schedule.picture_bytes(video_shape(shape) if self._is_video_batch else shape)

    def _attempt(self, index: int, decode: Callable[[], PictureOf]) -> PictureOf | None:
        with torch.inference_mode():
            return self._schedule.attempt(
                index,
                decode,
                device=getattr(self._vae, "device", None),
                interruption=InterruptProcessingException,
                advice=self._advice,
            )

    def _advice(self) -> str:
        """A possible reason for a failure. Not checked before: what ComfyUI's VAEs report is not always right."""
        expected, channels = getattr(self._vae, "latent_channels", None), self._shapes[0][1]
        if expected in (None, channels, self._space.channels):
            return ""
        return f"; it decodes latents of {expected} channels, this model's have {channels}: connect the model's own VAE"

    def _decode_after_sampling(self, samples: Tensor) -> PictureOf:
        latents = self._selected(samples)
        self._expect_room(latents, loads=True)
        began = perf_counter()
        return self._picture(self._vae.decode(latents), began)

    def _decode_now(self, denoised: Tensor) -> PictureOf:
        """Source: ComfyUI 0.33 `comfy/sd.py`, `VAE.decode`, without what loads models."""
        latents = _process_out(self._model, self._selected(denoised))
        self._expect_loaded()
        self._expect_room(latents[:1], loads=False)
        vae, began = self._vae, perf_counter()
        images = []
        for item in latents.split(1):
            rgb = vae.first_stage_model.decode(item.to(device=vae.device, dtype=vae.vae_dtype))
            images.append(vae.process_output(rgb.float().cpu()).movedim(1, -1))
        return self._picture(torch.cat(images), began)

    def _selected(self, latents: Tensor) -> Tensor:
        if len(self._shapes) > 1:
            raise VaeNotUsableError("VAE preview skipped: these latents hold a video and audio in one tensor")
        if self._is_video_batch:
            return as_batch(self._schedule.select(as_video(latents)))
        return self._schedule.select(latents)

    def _expect_loaded(self) -> None:
        """Refuses a VAE whose net cannot run without loading."""
        vae = self._vae
        net, patcher = getattr(vae, "first_stage_model", None), getattr(vae, "patcher", None)
        if net is None or patcher is None:
            raise VaeNotUsableError("the VAE decodes the last step only: it is not one of ComfyUI's own VAEs")
        if _is_dynamic(patcher) or getattr(net, "comfy_has_chunked_io", False) or patcher.patches:
            raise VaeNotUsableError("the VAE decodes the last step only: ComfyUI loads its weights while it decodes")
        elsewhere = {weight.device for weight in net.parameters()} - {vae.device}
        if elsewhere:
            raise VaeNotUsableError(
                f"the VAE decodes the last step only: it is on {elsewhere.pop()}, not on {vae.device}, and loading it "
                "might unload the model. It stays on its device after a decode with it, if both fit"
            )

    def _expect_room(self, latents: Tensor, *, loads: bool) -> None:
        """Refuses a decode for which ComfyUI would have to unload models.

        Source: ComfyUI 0.33 `comfy/model_management.py`, `load_models_gpu`.
        """
        vae = self._vae
        device, patcher = getattr(vae, "device", None), getattr(vae, "patcher", None)
        if device is None or patcher is None or not hasattr(vae, "memory_used_decode"):
            return  # the VAE of another package, which manages its own memory
        if loads and device.type != "cpu" and management.DISABLE_SMART_MEMORY:
            raise VaeNotUsableError("VAE preview skipped: with --disable-smart-memory ComfyUI would unload the model")
        need = vae.memory_used_decode(latents.shape, vae.vae_dtype)
        if loads and device.type != "cpu":
            need = max(need + management.extra_reserved_memory(), management.minimum_inference_memory())
            need += WEIGHTS_MARGIN * max(0, patcher.model_size() - patcher.loaded_size())
        free = (patcher if _is_dynamic(patcher) else management).get_free_memory(device)
        if need > free:
            # Without the number of free MB, which differs at each step: a note with the same text is reported once.
            raise VaeNotUsableError(
                f"VAE preview skipped: the VAE needs {need / MB:,.0f} MB on {device}, more than is free next to the "
                "model"
            )

    def _picture(self, images: Tensor, began: float) -> PictureOf:
        """The picture of `images` `[B, H, W, 3]`, of a video batch `[T, H, W, 3]`, or `[B, T, H, W, 3]` in 0..1."""
        if images.ndim == VIDEO_NDIM - 1:
            images = images[None] if self._is_video_batch else images[:, None]
        rgb = images[..., :3].movedim(-1, 1)
        return vae_picture(rgb, self._space, "the VAE connected to Preview Steps", self._fps, began)


def _is_dynamic(patcher: Any) -> bool:
    """Whether ComfyUI loads the weights layer by layer, as newer versions may."""
    return bool(getattr(patcher, "is_dynamic", bool)())


def _process_out(model: Any, denoised: Tensor) -> Tensor:
    """Model space to a VAE's. Source: ComfyUI 0.33 `comfy/samplers.py`, `CFGGuider.inner_sample`."""
    return model.model.process_latent_out(denoised.float())
