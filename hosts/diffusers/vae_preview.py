"""Pictures that the pipeline's own autoencoder decodes, on the sampler's thread, if that moves no weights."""

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, final

import torch
from torch import Tensor

from ...decoders.latents.space import LatentSpace
from ...preview.picture import PictureOf
from ...preview.snapshot import Selection
from ...preview.step import Step
from ...preview.vae_picture import PendingPicture, VaeNotUsableError, VaeSchedule, ready_picture, vae_picture
from ..vae_decode import decode_with_vae

WEIGHT_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
QUANTIZED = "the VAE is quantized, so a decode would convert its weights"


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
            frames = torch.cat([decode_with_vae(self._vae, item, shifts=self._shifts) for item in latents.split(1)])
        return vae_picture(frames / 2 + 0.5, self._space, "the pipeline's VAE", self._fps, began)

    def _check(self, denoised: Tensor) -> None:
        """Raises `VaeNotUsableError` if a decode would move weights, or would give no picture."""
        vae = self._vae
        if vae is None:
            raise VaeNotUsableError("decoder full needs the pipeline's VAE, and this pipeline has none")
        if (reason := _reason_not_in_place(vae, denoised.device)) is not None:
            raise VaeNotUsableError(f"VAE preview skipped: {reason}")
        if hasattr(vae, "quantize") or hasattr(
            vae, "vquantizer"
        ):  # with or without the codebook, scaled or not: each pipeline has its own way
            raise VaeNotUsableError(
                f"VAE preview skipped: the VAE {type(vae).__name__} has a codebook, and only the pipeline knows how to "
                "call it"
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


def _reason_not_in_place(vae: Any, device: torch.device) -> str | None:
    """Why a decode would move or convert weights; None if they are all ready on `device`. Touches no weight."""
    for module in vae.modules():
        if _moves_weights(getattr(module, "_hf_hook", None)):
            return "the pipeline offloads its models, so a decode would move the VAE's weights"
        if hooks := getattr(getattr(module, "_diffusers_hook", None), "hooks", None):  # of diffusers
            return f"the VAE has hooks ({', '.join(sorted(hooks))}), so a decode would move or convert its weights"
    places = {str(place) for place in (getattr(vae, "hf_device_map", None) or {}).values()}
    if len(places) > 1:
        return f"a device_map spreads the VAE over {', '.join(sorted(places))}"
    if vae.device != device:
        return f"the VAE is on {vae.device}, the latents are on {device}"
    if getattr(vae, "hf_quantizer", None) is not None:
        return QUANTIZED
    for parameter in vae.parameters():
        # The classes of bitsandbytes, torchao, quanto and GGUF are subclasses.
        if type(parameter) is not torch.nn.Parameter or parameter.dtype not in WEIGHT_DTYPES:
            return QUANTIZED
        if parameter.device != device:
            return f"a part of the VAE is on {parameter.device}, the latents are on {device}"
    return None


def _moves_weights(hook: Any) -> bool:
    """Whether a hook of accelerate moves weights: those of model and sequential offloading do.

    That of a device_map without offloading only moves the inputs.
    """
    if hook is None:
        return False
    if (hooks := getattr(hook, "hooks", None)) is not None:  # of a `SequentialHook`
        return any(map(_moves_weights, hooks))
    return type(hook).__name__ != "AlignDevicesHook" or hook.offload
