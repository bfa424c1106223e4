"""Pictures by ComfyUI's own VAE, made on the sampler's thread where that moves no model about."""

import traceback
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, final

import comfy.model_management as management
import torch
from comfy.model_management import InterruptProcessingException
from torch import Tensor

from ...decoders.latents.space import AUDIO, LatentSpace
from ...errors import SafelightError, UnknownDecoderError, describe
from ...preview.snapshot import Selection
from ...preview.step import Show, Step
from ...preview.vae_picture import DecodedPicture, PendingPicture, ready_picture

MB = 1_000_000
SPARE = 1.1  # of the weights, as the host reckons when it loads them
VIDEO_NDIM = 5


class VaeNotUsableError(SafelightError):
    """This step is not for the VAE; the words say why."""


def check(vae: Any, show: Show) -> None:
    """Refuses in words what could never be done.

    Raises:
        UnknownDecoderError: there is no VAE, or it would be given noise.
    """
    if vae is None:
        raise UnknownDecoderError("decoder full decodes with a VAE: connect one to the input vae, or choose auto")
    if show != "denoised":
        raise UnknownDecoderError(
            "decoder full decodes what the model believes, a VAE makes nothing of noise: set show to denoised"
        )


@final
class ComfyVaePreview:
    """A run's pictures by the VAE: the last step's when the sampler is done, others while it waits.

    Nothing of this is done on another thread: the host's layers look for the user's Cancel, and whoever finds it takes
    it away. So nothing here catches it either.

    After the sampler the VAE decodes as the host's VAE Decode does, if it fits beside what is loaded. Before, the host
    must not be asked to load anything, it might unload the sampler's model: then the VAE's own net is run, if it
    happens to be where it computes.

    Args:
        vae: the host's.
        model: the ModelPatcher that samples.
        space: of its latents.
        every: of how many pictures the VAE makes one; 0 for the last step alone.
        select: what is looked at of latents
        shapes: of these shapes; several, where they are packed.
        note: is told what was refused.
        fps: frames a second of the run's video, where it is known.
    """

    def __init__(
        self,
        vae: Any,
        model: Any,
        space: LatentSpace,
        every: int,
        select: Selection,
        shapes: Sequence[Sequence[int]],
        note: Callable[[str], None],
        fps: float | None,
    ) -> None:
        self._vae, self._model, self._space, self._every, self._select = vae, model, space, every, select
        self._shapes, self._note, self._fps = shapes, note, fps
        self._pictures = 0
        self._last: PendingPicture | None = None
        self._given_up = False
        self.answered = False  # whether there was a last step for it

    def promise(self, step: Step) -> PendingPicture | None:
        """A picture of a step that will have one, where the VAE is to make it.

        Raises:
            InterruptProcessingException: the user cancels.
        """
        self.close()  # some samplers go on after the step they call the last
        self._pictures += 1
        if step.index == step.total:
            self._last = PendingPicture()
            return self._last
        if not self._every or self._pictures % self._every or step.denoised is None:
            return None
        made = self._attempt(step.index, lambda: self._beside(step.denoised))
        return made and ready_picture(made)

    def finish(self, samples: Tensor, index: int) -> DecodedPicture | None:
        """The picture of what the sampler returns, as the one of the last step that was promised, or for whoever asks.

        Raises:
            InterruptProcessingException: the user cancels.
        """
        self.answered = True
        self._given_up = False  # it may have been refused for want of memory that is free by now
        made = self._attempt(index, lambda: self._after(samples))
        if self._last is not None:
            self._last.set_result(made)
            self._last = None
        return made

    @property
    def owes(self) -> bool:
        """Whether the last step waits for its picture."""
        return self._last is not None

    def close(self) -> None:
        """Who still waits for a picture need not wait any longer."""
        if self._last is not None:
            self._last.set_result(None)
            self._last = None

    def _attempt(self, index: int, decode: Callable[[], DecodedPicture]) -> DecodedPicture | None:
        if self._given_up:
            return None
        devices = [self._vae.device] if getattr(getattr(self._vae, "device", None), "type", "cpu") == "cuda" else []
        try:
            # Some VAEs draw random numbers: those the sampler is about to draw must not change.
            with torch.inference_mode(), torch.random.fork_rng(devices):
                return decode()
        except InterruptProcessingException:
            raise
        except VaeNotUsableError as error:
            self._note(str(error))
        except Exception as error:
            self._given_up = True
            self._note(f"step {index}: the VAE was given up: {describe(error)}{self._advice()}")
            # The host's frames refer to the error, and it to them and to the sampler's.
            traceback.clear_frames(error.__traceback__)
        return None

    def _advice(self) -> str:
        """Why it may have failed. Not asked before: what the host's VAEs say of themselves is not always so."""
        theirs, ours = getattr(self._vae, "latent_channels", None), self._shapes[0][1]
        if theirs in (None, ours, self._space.channels):
            return ""
        return f"; it decodes latents of {theirs} channels, this model's have {ours}: connect the model's own VAE"

    def _after(self, samples: Tensor) -> DecodedPicture:
        latents = self._checked(samples)
        self._must_fit(latents, loads=True)
        began = perf_counter()
        return self._made(self._vae.decode(latents), began)

    def _beside(self, denoised: Tensor) -> DecodedPicture:
        latents = _process_out(self._model, self._checked(denoised))
        self._must_be_there()
        self._must_fit(latents[:1], loads=False)
        vae, began = self._vae, perf_counter()
        pictures = []
        for one in latents.split(1):
            rgb = vae.first_stage_model.decode(one.to(device=vae.device, dtype=vae.vae_dtype))
            pictures.append(vae.process_output(rgb.float().cpu()).movedim(1, -1))
        return self._made(torch.cat(pictures), began)

    def _checked(self, latents: Tensor) -> Tensor:
        """The part of the latents that is looked at, if the VAE can decode it."""
        if len(self._shapes) > 1:
            raise VaeNotUsableError("the VAE was left out: of a video with sound it is not told which part is whose")
        if self._space.dims == AUDIO:
            raise VaeNotUsableError("the VAE was left out: of sound it makes sound, no picture")
        moves = latents.ndim == VIDEO_NDIM and latents.shape[2] > 1
        if moves and self._select.frames == "middle":
            raise VaeNotUsableError(
                "the VAE was left out: it decodes no frame in the middle; set frames to first or animated"
            )
        return self._select(latents)

    def _must_be_there(self) -> None:
        """Refuses a VAE whose net cannot be run as it stands."""
        vae = self._vae
        net, patcher = getattr(vae, "first_stage_model", None), getattr(vae, "patcher", None)
        if net is None or patcher is None:
            raise VaeNotUsableError("the VAE decodes the last step only: it is not one of ComfyUI's own")
        if _is_dynamic(patcher) or getattr(net, "comfy_has_chunked_io", False) or patcher.patches:
            raise VaeNotUsableError("the VAE decodes the last step only: ComfyUI loads its weights while it decodes")
        elsewhere = {weight.device for weight in net.parameters()} - {vae.device}
        if elsewhere:
            raise VaeNotUsableError(
                f"the VAE decodes the last step only: it is on {elsewhere.pop()}, not on {vae.device}, and to load it "
                "might unload the model; once something was decoded with it, and if both fit, it is there"
            )

    def _must_fit(self, latents: Tensor, *, loads: bool) -> None:
        """Refuses what the host would have to make room for.

        Source: ComfyUI 0.33 `comfy/model_management.py`, `load_models_gpu`.
        """
        vae = self._vae
        device, patcher = getattr(vae, "device", None), getattr(vae, "patcher", None)
        if device is None or patcher is None or not hasattr(vae, "memory_used_decode"):
            return  # somebody else's, with ways of its own
        if loads and device.type != "cpu" and management.DISABLE_SMART_MEMORY:
            raise VaeNotUsableError(
                "the VAE was left out: ComfyUI was told (--disable-smart-memory) to unload what it can"
            )
        need = vae.memory_used_decode(latents.shape, vae.vae_dtype)
        if loads and device.type != "cpu":
            need = max(need + management.extra_reserved_memory(), management.minimum_inference_memory())
            need += SPARE * max(0, patcher.model_size() - patcher.loaded_size())
        free = (patcher if _is_dynamic(patcher) else management).get_free_memory(device)
        if need > free:
            # Without the free ones, which change from step to step: the same words are told once.
            raise VaeNotUsableError(
                f"the VAE was left out: it needs {need / MB:,.0f} MB on {device}, more than are free with the model "
                "where it is"
            )

    def _made(self, images: Tensor, began: float) -> DecodedPicture:
        """`images` `[B, H, W, 3]`, or of a video `[B, T, H, W, 3]`, in 0..1."""
        if images.ndim == VIDEO_NDIM - 1:
            images = images[:, None]
        rgb = images[..., :3].movedim(-1, 1)
        return DecodedPicture.by_vae(rgb, self._space, "the VAE connected to Preview Steps", self._fps, began)


def _is_dynamic(patcher: Any) -> bool:
    """Whether the host loads its weights layer by layer, as newer ones may."""
    return bool(getattr(patcher, "is_dynamic", bool)())


def _process_out(model: Any, denoised: Tensor) -> Tensor:
    """Model space to a VAE's. Source: ComfyUI 0.33 `comfy/samplers.py`, `CFGGuider.inner_sample`."""
    return model.model.process_latent_out(denoised.float())
