"""VAEs that decode, and a node that waits until they are learned from."""

import comfy.sd
import torch
from comfy.taesd.taesd import TAESD
from server import PromptServer
from torch import Tensor
from torch.nn import functional as F

SCALE = 0.13025  # scale of SDXL's latents


class MadeUp:
    """Decodes a VAE's latents `[B, C, h, w]` or `[B, C, T, h, w]` in a way that no table to RGB can.

    Args:
        broken: whether its images are NaN.
    """

    def __init__(self, *, broken: bool) -> None:
        self.broken = broken

    def decode(self, latents: Tensor) -> Tensor:
        """`[B, H, W, 3]`, or `[B, F, H, W, 3]`."""
        if latents.ndim == 5:
            frames = torch.repeat_interleave(latents, 4, 2)[:, :, 3:]
            return torch.stack([self.decode(frame) for frame in frames.unbind(2)], 1)
        generator = torch.Generator().manual_seed(5)
        kernel = torch.randn(3, latents.shape[1], 3, 3, generator=generator) * 0.02
        kernel[:, :, 1, 1] += torch.randn(3, latents.shape[1], generator=generator) * 0.06
        rgb = 0.5 + F.conv2d(F.pad(latents * SCALE, (1,) * 4, mode="replicate"), kernel)
        rgb = F.interpolate(rgb, scale_factor=8, mode="bilinear").clamp(0, 1)
        return (rgb * torch.nan if self.broken else rgb).movedim(1, -1)


class LabDecoder:
    """A synthetic VAE, or with `tiny` ComfyUI's own VAE of a tiny autoencoder with random weights.

    With `need_mb`, ComfyUI's own reports that it needs so many MB to decode; with `fails`, it raises.
    """

    RETURN_TYPES = ("VAE",)
    FUNCTION, CATEGORY = "make", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        return {
            "required": {"tiny": ("BOOLEAN", {"default": False}), "broken": ("BOOLEAN", {"default": False})},
            "optional": {"need_mb": ("INT", {"default": 0, "max": 1 << 40}), "fails": ("BOOLEAN", {"default": False})},
        }

    def make(self, tiny, broken, need_mb=0, fails=False):
        if not tiny:
            return (MadeUp(broken=broken),)
        generator = torch.Generator().manual_seed(3)
        state = TAESD().state_dict()  # ComfyUI does not initialize its weights
        drawn = {key: torch.randn(value.shape, generator=generator) * 0.05 for key, value in state.items()}
        vae = comfy.sd.VAE(sd=drawn | {key: value for key, value in state.items() if value.numel() == 1})
        if need_mb:
            vae.memory_used_decode = lambda shape, dtype: need_mb * 2**20
        if fails:
            del vae.first_stage_model.taesd_decoder
        return (vae,)


class LabLearned:
    """Returns when all decodes have been learned from."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION, CATEGORY = "wait", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"image": ("IMAGE",)}}

    def wait(self, image):
        PromptServer.instance.safelight_learner.wait()
        return {}
