"""Pictures that InvokeAI's VAE decodes, on the sampler's thread."""

import inspect
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, final

import torch
from torch import Tensor

from ...decoders.latents.space import LatentSpace
from ...preview.picture import PictureOf
from ...preview.step import Step
from ...preview.vae_picture import PendingPicture, VaeNotUsableError, VaeSchedule, ready_picture, vae_picture
from ..vae_decode import decode_with_vae

# Bytes of working memory for each pixel and byte of a number, the largest for one frame of any VAE. Source: InvokeAI
# 6.14.2, backend/util/vae_working_memory.py.
WORKING_BYTES = 2900
WORKING_MEMORY = "working_mem_bytes"  # argument that InvokeAI's `model_on_device` has since 5.7
SOURCE = "the VAE connected to preview_vae"


@final
class InvokeVaePreview:
    """The pictures of a run that the VAE decodes: the last step's after the core node, others while the sampler waits.

    While the core node runs, loading the VAE to the device could leave too little memory for the model. So the VAE
    decodes earlier steps only if InvokeAI has it on the device already. After the core node, InvokeAI loads it as for
    its own VAE nodes.

    Args:
        load: function that returns InvokeAI's `LoadedModel` of the VAE.
        schedule: steps that the VAE decodes.
        space: latent space of the run.
        middle_frame: whether the run's latents are the middle frame of a video, which no VAE decodes alone.
    """

    def __init__(
        self, load: Callable[[], Any], schedule: VaeSchedule, space: LatentSpace, *, middle_frame: bool = False
    ) -> None:
        self._load, self._schedule, self._space, self._middle_frame = load, schedule, space, middle_frame
        self._last: PendingPicture | None = None

    def picture(self, step: Step) -> PendingPicture | None:
        """The picture of a step if the VAE decodes it; None if the worker does. Call it once for each picture."""
        self.close()
        if not self._schedule.is_due(step):
            return None
        if step.index == step.total:
            self._last = PendingPicture()
            return self._last
        if step.denoised is None:
            return None
        decode = partial(self._decode, step.denoised, loads=False)
        picture = self._schedule.attempt(step.index, decode, device=step.denoised.device)
        return ready_picture(picture) if picture is not None else None

    def finish(self, step: Step) -> None:
        """Decodes the last step, if it is pending. Call it after the core node has returned."""
        latents = step.latents("denoised").values
        if self._last is None or latents is None:
            return
        self._schedule.try_again()  # the sampler has returned its memory
        decode = partial(self._decode, latents, loads=True)
        self._last.set_result(self._schedule.attempt(step.index, decode, device=latents.device))
        self._last = None

    def close(self) -> None:
        """Lets the worker decode the pending step as usual."""
        if self._last is not None:
            self._last.set_result(None)
            self._last = None

    def _decode(self, latents: Tensor, *, loads: bool) -> PictureOf:
        """The picture of model space `latents`; `loads`: whether InvokeAI may load the VAE to its device."""
        if self._middle_frame:
            raise VaeNotUsableError("VAE preview skipped: InvokeAI reports only the middle frame of a video")
        began = perf_counter()
        selected = self._space.unpack(self._schedule.select(latents.detach()))
        loaded = self._load()
        if not loads:
            _expect_on_device(loaded.model, latents.device)
        with (
            loaded.model_on_device(**_working_memory(loaded, selected, self._space)) as (_, vae),
            torch.inference_mode(),
        ):
            _expect_safe_dtype(vae)
            # Not where the weights are: InvokeAI may have some of them in the CPU's memory until they are used.
            on_device = selected.to(getattr(loaded, "compute_device", latents.device))
            frames = torch.cat([_decode_item(vae, item) for item in on_device.split(1)])
        return vae_picture(frames / 2 + 0.5, self._space, SOURCE, None, began)


def _expect_on_device(vae: Any, device: torch.device) -> None:
    elsewhere = {weight.device for weight in vae.parameters()} - {device}
    if elsewhere:
        raise VaeNotUsableError(
            f"the VAE decodes the last step only: it is on {elsewhere.pop()}, and loading it to {device} could take "
            "memory from the model"
        )


def _expect_safe_dtype(vae: Any) -> None:
    if _dtype(vae) == torch.float16 and not _is_flux(vae) and vae.config.get("force_upcast"):
        raise VaeNotUsableError(
            "VAE preview skipped: in float16 this VAE decodes black pictures, as its force_upcast says; "
            "connect a VAE for float16"
        )


def _working_memory(loaded: Any, latents: Tensor, space: LatentSpace) -> dict[str, int]:
    """The argument that makes InvokeAI keep memory free for the decode; empty if this InvokeAI has none."""
    if WORKING_MEMORY not in inspect.signature(loaded.model_on_device).parameters:
        return {}
    height, width = (side * space.downscale for side in latents.shape[-2:])
    return {WORKING_MEMORY: height * width * _dtype(loaded.model).itemsize * WORKING_BYTES}


def _decode_item(vae: Any, latents: Tensor) -> Tensor:
    """Frames `[1, 3, T, H, W]` in -1..1 of one item `[1, C, T, H, W]`."""
    if _is_flux(vae):  # it scales latents itself
        return torch.stack([vae.decode(frame.to(_dtype(vae))).float() for frame in latents.unbind(2)], 2)
    return decode_with_vae(vae, latents)


def _dtype(vae: Any) -> torch.dtype:
    return next(vae.parameters()).dtype


def _is_flux(vae: Any) -> bool:
    """Whether this is InvokeAI's own autoencoder of FLUX.1. By its name: InvokeAI is not imported here."""
    return type(vae).__name__ == "AutoEncoder"
