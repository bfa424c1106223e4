"""Custom node for ComfyUI: its stock KSampler draws the scenes of `safelight demo`, without a checkpoint."""

import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

LATENTS = Path(__file__).parents[3] / "weights/demo-flux2-latents.safetensors"
PATCH_SIDE = 2  # FLUX.2 samples patches of 2 x 2 latent pixels


class SceneDenoiser:
    """The exact denoiser of `safelight demo`, for ComfyUI's packed latents: the posterior mean over all crops.

    Args:
        latents: `[K, C, H, W]`, packed; all crops of them are equally likely.
        height: height of a crop, in packed latent pixels.
        width: width of a crop, in packed latent pixels.
    """

    def __init__(self, latents: Tensor, height: int, width: int) -> None:
        self._latents = latents
        self._energy = F.conv2d(latents.square().sum(1, keepdim=True), latents.new_ones(1, 1, height, width))

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """Returns the denoised latents of `x = (1 - sigma) * crop + sigma * noise`, `[1, C, height, width]`."""
        clean = 1 - sigma
        distance = clean**2 * self._energy - 2 * clean * F.conv2d(self._latents, x)  # without |x|²
        weights = torch.softmax(-distance.flatten() / (2 * sigma**2), dim=0).view_as(distance)
        return F.conv2d(self._latents.transpose(0, 1), weights.transpose(0, 1)).transpose(0, 1)


def packed_latents() -> Tensor:
    """Returns the demo's latents in ComfyUI's form, `[K, 128, H / 2, W / 2]` float32."""
    return F.pixel_unshuffle(load_file(LATENTS)["latents"].float(), PATCH_SIDE)


class DemoScenes:
    """Replaces the denoiser of a FLUX.2 model, and provides empty latents of its crops."""

    RETURN_TYPES = ("MODEL", "LATENT")
    FUNCTION, CATEGORY = "replace", "recording"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        side = {"min": 1, "max": 32}
        return {
            "required": {
                "model": ("MODEL",),
                "height": ("INT", {"default": 20, **side}),
                "width": ("INT", {"default": 28, **side}),
                "step_ms": ("INT", {"default": 0, "min": 0, "max": 10000}),
            }
        }

    def replace(self, model: Any, height: int, width: int, step_ms: int) -> tuple[Any, dict[str, Tensor]]:
        latents = packed_latents()
        denoise = SceneDenoiser(latents, height, width)

        def evaluate(_: Any, call: dict[str, Any]) -> Tensor:
            time.sleep(step_ms / 1000)
            return denoise(call["input"], float(call["timestep"][0]))

        model = model.clone()
        model.set_model_unet_function_wrapper(evaluate)
        return model, {"samples": latents.new_zeros(1, latents.shape[1], height, width)}


NODE_CLASS_MAPPINGS = {"DemoScenes": DemoScenes}
