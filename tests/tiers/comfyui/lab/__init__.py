"""Custom nodes for ComfyUI: its stock samplers run without a checkpoint, and tests can observe them."""

import gc
import hashlib
import json
import time
import weakref
from pathlib import Path

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.supported_models_base
import comfy.utils
import folder_paths
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .decoding import LabDecoder, LabLearned
from .faults import LabTrouble
from .keep import LabKeep, LabLatent, LabScores
from .loops import LabLoopClose, LabLoopOpen, LabTurnModel
from .names import LabCheckpoint, LabLora
from .odd import LabAny, LabCopyModel, LabImages, LabOddSampler, LabPreviewUser, LabSeeds
from .previews import LabOwnLoop, LabPreviewers, LabWrapPreviewers
from .process import LabState
from .silent import LabSilentSampler
from .store import LabStore  # noqa: F401 - registered when it is imported
from .tiles import LabTiles
from .timing import LabInside, LabOutside, LabTimes, LabWork
from .together import LabNested, LabTogether
from .words import LabConditioned, LabWords


class NeverSeen(comfy.latent_formats.LatentFormat):
    """A format without a row in our table, and without a table to RGB."""

    latent_channels = 6
    scale_factor = 0.7
    spacial_downscale_ratio = 8


class TableOnly(comfy.latent_formats.LatentFormat):
    """A format without a row in our table, with a table to RGB."""

    latent_channels = 5
    scale_factor = 0.9
    latent_rgb_factors = [[0.4, 0.1, 0.0], [0.1, 0.4, 0.1], [0.0, 0.1, 0.4], [0.2, 0.2, 0.2], [0.1, -0.1, 0.1]]  # noqa: RUF012
    latent_rgb_factors_bias = [0.1, 0.0, -0.1]  # noqa: RUF012


FORMATS = {
    name: format_class
    for name, format_class in vars(comfy.latent_formats).items()
    if isinstance(format_class, type)
    and issubclass(format_class, comfy.latent_formats.LatentFormat)
    and format_class is not comfy.latent_formats.LatentFormat
} | {"NeverSeen": NeverSeen, "TableOnly": TableOnly}


GRAIN = 0.1
SAMPLED: list[weakref.ref] = []  # the noise of the latest sampler call that a LabSpy saw


class ExactDenoiser(nn.Module):
    """The ideal denoiser of latents that are one of `targets`, equally likely, with grain: the posterior mean.

    Its trajectory is a real one, from noise to one of the targets. For `x = a y + sigma noise` (a is 1 for eps models,
    1 - sigma for flow models), `y` a target with normal grain of deviation `GRAIN`, and `v = (a GRAIN)^2 + sigma^2`:
    `m = sum_k softmax_k(-|x - a y_k|^2 / 2 v) y_k`, `E[y | x] = m + a GRAIN^2 / v (x - a m)`. With the grain, the
    last step depends on every step before it; without it, a disturbed step would have no effect on the result.

    Args:
        targets: `[K, C, ...]`, in model space.
        flow: whether the model predicts a velocity; otherwise noise.
        step_ms: minimum duration of an evaluation.
        fail_at: number of the evaluation that raises, from 1; 0 for none.
    """

    def __init__(self, targets: Tensor, *, flow: bool, step_ms: float, fail_at: int) -> None:
        super().__init__()
        self.register_buffer("targets", targets)
        self.flow, self.step_ms, self.fail_at, self.evaluations = flow, step_ms, fail_at, 0
        self.dtype = torch.float32  # ComfyUI reads it from a diffusion model

    def forward(self, x: Tensor, t: Tensor, *_: object, **__: object) -> Tensor:
        started = time.perf_counter()
        self.evaluations += 1
        if self.evaluations == self.fail_at:
            raise RuntimeError("the lab's model fails here, as it was asked to")
        sigma = self.sampling[0].sigma(t).to(x).view(-1, *[1] * (x.ndim - 1))
        noisy = x if self.flow else x * (sigma**2 + 1) ** 0.5  # eps models receive x / sqrt(sigma^2 + 1)
        gain = 1 - sigma if self.flow else torch.ones_like(sigma)
        distance = ((noisy[:, None] - gain[:, None] * self.targets[None]) ** 2).flatten(2).sum(-1)
        variance = (gain * GRAIN) ** 2 + sigma**2
        weights = torch.softmax(-distance / (2 * variance.flatten()[:, None]), dim=1)
        mean = torch.einsum("bk,k...->b...", weights, self.targets)
        denoised = mean + gain * GRAIN**2 / variance * (noisy - gain * mean)
        time.sleep(max(0.0, self.step_ms / 1000 - (time.perf_counter() - started)))
        return (noisy - denoised) / sigma.clamp(min=1e-6)


def draw(count: int, height: int, width: int) -> Tensor:
    """Draws `[count, 3, height, width]` in -1..1: discs on gradients, all different, none symmetric."""
    y = torch.linspace(-1, 1, height)[:, None]
    x = torch.linspace(-1, 1, width)[None, :]
    pictures = []
    for i in range(count):
        turn = torch.tensor(2.4 * i)
        disc = ((x - 0.45 * turn.cos()) ** 2 + (y - 0.45 * turn.sin()) ** 2 < 0.2).float()
        ground = torch.stack((x * turn.cos() + y * turn.sin(), x - y, y + 0 * x)) * 0.6
        colour = torch.stack((turn.sin(), (turn + 2).sin(), (turn + 4).sin()))[:, None, None]
        pictures.append(ground * (1 - disc) + colour * disc)
    return torch.stack(pictures).clamp(-1, 1)


def targets_of(latent_format: comfy.latent_formats.LatentFormat, frames: int, height: int, width: int) -> Tensor:
    """Latents `[6, C, ...]` that ComfyUI's own table shows as the drawings; smooth noise if it has no table."""
    channels, dims, count = latent_format.latent_channels, latent_format.latent_dimensions, 6
    shape = {1: (width,), 2: (height, width), 3: (frames, height, width)}[dims]
    if latent_format.latent_rgb_factors is None or dims == 1:
        generator = torch.Generator().manual_seed(7)
        coarse = torch.randn((count, channels, *(max(2, side // 6) for side in shape)), generator=generator)
        mode = {1: "linear", 2: "bicubic", 3: "trilinear"}[dims]
        return 1.2 * nn.functional.interpolate(coarse, size=shape, mode=mode)
    factors = torch.tensor(latent_format.latent_rgb_factors)
    bias = torch.tensor(getattr(latent_format, "latent_rgb_factors_bias", None) or [0.0, 0.0, 0.0])
    patch = 2 if len(factors) * 4 == channels else 1
    rgb = draw(count, height * patch, width * patch) * 0.8
    latents = torch.einsum("bchw,cd->bdhw", rgb - bias[:, None, None], torch.linalg.pinv(factors))
    latents = nn.functional.pixel_unshuffle(latents, patch)
    return latents if dims == 2 else torch.stack([latents.roll(f, -1) for f in range(frames)], dim=2)


class FoldedVideo(comfy.model_base.SVD_img2vid):
    """A model whose class says that the batch is a video, without SVD's conditioning."""

    extra_conds = comfy.model_base.BaseModel.extra_conds


class LabModel:
    """A model of any latent format, with its conditioning and empty latents."""

    RETURN_TYPES = ("MODEL", "CONDITIONING", "LATENT")
    FUNCTION, CATEGORY = "make", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802 - the host's name
        count = {"min": 0, "max": 4096}
        return {
            "required": {
                "latent_format": (list(FORMATS),),
                "flow": ("BOOLEAN", {"default": False}),
                "height": ("INT", {"default": 16, **count}),
                "width": ("INT", {"default": 24, **count}),
                "frames": ("INT", {"default": 1, **count}),
                "batch": ("INT", {"default": 1, **count}),
                "step_ms": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 10000.0}),
                "fail_at": ("INT", {"default": 0, **count}),
                "targets_file": ("STRING", {"default": ""}),
                "again": ("INT", {"default": 0, **count}),  # another number avoids ComfyUI's cache
            },
            # Audio frames next to the video: both are sampled in one flat tensor, if this version of ComfyUI can.
            # A batch of which the host knows that it is one video: its model is SVD, or it has AnimateDiff's models.
            "optional": {
                "sound": ("INT", {"default": 0, **count}),
                "video_batch": (["no", "svd", "animatediff"], {"default": "no"}),
            },
        }

    def make(
        self,
        latent_format,
        flow,
        height,
        width,
        frames,
        batch,
        step_ms,
        fail_at,
        targets_file,
        again,
        sound=0,
        video_batch="no",
    ):
        class Config(comfy.supported_models_base.BASE):
            unet_config = {"disable_unet_model_creation": True}  # noqa: RUF012 - the host's attribute
            unet_extra_config = {}  # noqa: RUF012

        Config.latent_format = FORMATS[latent_format]
        config = Config({"disable_unet_model_creation": True})
        if flow:
            config.sampling_settings = {"shift": 3.0}
        if targets_file:
            targets = load_file(targets_file)["latents"].float()
        else:
            targets = targets_of(config.latent_format, frames, height, width)
        latents = torch.zeros((batch, *targets.shape[1:]))
        if sound:
            from comfy.nested_tensor import NestedTensor

            heard = torch.randn(len(targets), 8, sound, 16, generator=torch.Generator().manual_seed(13))
            latents = NestedTensor([latents, torch.zeros((batch, *heard.shape[1:]))])
            targets, _ = comfy.utils.pack_latents([targets, heard])
        kind = comfy.model_base.ModelType.FLOW if flow else comfy.model_base.ModelType.EPS
        model = (FoldedVideo if video_batch == "svd" else comfy.model_base.BaseModel)(config, kind)
        denoiser = ExactDenoiser(targets, flow=flow, step_ms=step_ms, fail_at=fail_at)
        denoiser.sampling = (model.model_sampling,)  # in a tuple, so that torch does not register it twice
        model.diffusion_model = denoiser
        patcher = comfy.model_patcher.ModelPatcher(
            model.eval(),
            load_device=comfy.model_management.get_torch_device(),
            offload_device=torch.device("cpu"),
        )
        if video_batch == "animatediff":
            patcher.set_additional_models("ADE", [patcher.clone()])
        return patcher, [[torch.zeros(1, 77, 768), {}]], {"samples": latents}


class Encoder:
    """A VAE for VAE Encode: each latent pixel is a nonlinear, deterministic mix of its colors and their gradients.

    Args:
        latent_format: latent format of its output.
        step: image pixels for each latent pixel.
        broken: whether it outputs NaN, as some VAEs do in half precision.
        encode_ms: minimum duration for one image.
    """

    def __init__(self, latent_format: comfy.latent_formats.LatentFormat, step: int, broken: bool, encode_ms: float):
        self.latent_format, self.step, self.broken, self.encode_ms = latent_format, step, broken, encode_ms
        self.latent_dim = latent_format.latent_dimensions
        generator = torch.Generator().manual_seed(5)
        self.mix = torch.randn(latent_format.latent_channels, 9, generator=generator) / 3

    def spacial_compression_encode(self) -> int:
        return self.step

    def encode(self, pixels: Tensor) -> Tensor:
        assert pixels.ndim == 4
        assert pixels.shape[-1] == 3
        time.sleep(self.encode_ms / 1000 * len(pixels))
        rgb = pixels.movedim(-1, 1) * 2 - 1
        tiles = rgb.unflatten(3, (-1, self.step)).unflatten(2, (-1, self.step))  # [B, 3, h, step, w, step]
        ramp = torch.linspace(-1, 1, self.step)
        x = torch.cat(
            [
                tiles.mean((3, 5)),
                (tiles * ramp[:, None, None]).mean((3, 5)) * 4,
                (tiles * ramp).mean((3, 5)) * 4,
            ],
            dim=1,
        )
        latents = torch.einsum("bfhw,cf->bchw", x, self.mix)
        latents = latents + 0.3 * torch.tanh(2 * latents)
        if self.broken:
            latents = latents * float("nan")
        if self.latent_dim == 3:  # a batch of images is one video
            latents = latents.movedim(0, 1)[None]
        return self.latent_format.process_out(latents)


class LabVae:
    """A VAE for any latent format."""

    RETURN_TYPES = ("VAE",)
    FUNCTION, CATEGORY = "make", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {
            "required": {
                "latent_format": (list(FORMATS),),
                "step": ("INT", {"default": 8}),
                "broken": ("BOOLEAN", {"default": False}),
                "encode_ms": ("FLOAT", {"default": 0.0}),
            }
        }

    def make(self, latent_format, step, broken, encode_ms):
        return (Encoder(FORMATS[latent_format](), step, broken, encode_ms),)


class LabPictures:
    """Images to fit on: the drawings with different waves over them; or gray, flat or NaN images."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION, CATEGORY = "make", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        count = {"min": 0, "max": 4096}
        return {
            "required": {
                "count": ("INT", {"default": 12, **count}),
                "height": ("INT", {"default": 256, **count}),
                "width": ("INT", {"default": 256, **count}),
                "are": (["good", "grey", "flat", "broken"],),
            }
        }

    def make(self, count, height, width, are):
        generator = torch.Generator().manual_seed(11)
        coarse = torch.randn((count, 3, 9, 9), generator=generator)
        waves = nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")
        fine = torch.randn((count, 3, height // 4, width // 4), generator=generator)
        fine = nn.functional.interpolate(fine, size=(height, width), mode="bilinear")
        rgb = (draw(count, height, width) * 0.3 + waves * 0.2 + fine * 0.1 + 0.5).clamp(0, 1)
        worse = {
            "good": lambda: rgb,
            "grey": lambda: rgb.mean(1, keepdim=True).expand(-1, 3, -1, -1),
            "flat": lambda: torch.full_like(rgb, 0.5),
            "broken": lambda: rgb * float("nan"),
        }
        return (worse[are]().movedim(1, -1),)


class LabTell:
    """Puts a text into the history."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION, CATEGORY = "tell", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"text": ("STRING", {"forceInput": True})}}

    def tell(self, text):
        return {"ui": {"told": [text]}}


class LabSpy:
    """Records the arguments of a sampler's callback in `<output>/<file>_<n>.safetensors`, one file for each run.

    Tensors `x0` and `x` `[steps, B, C, ...]`, metadata `steps` `[[step, total], ...]`, `seconds` (duration of the
    previous callback, for each step) and `sigmas`.
    """

    RETURN_TYPES = ("MODEL",)
    FUNCTION, CATEGORY = "watch", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"model": ("MODEL",), "file": ("STRING", {"default": "spy"})}}

    def watch(self, model, file):
        def wrapper(executor, noise, latent_image, sampler, sigmas, denoise_mask, callback, *args, **kwargs):
            seen = []
            SAMPLED[:] = [weakref.ref(noise)]
            gc.disable()  # until a LabDigest has counted the remaining references

            def spy(step: int, x0: Tensor, x: Tensor, total: int) -> None:
                kept = x0.detach().cpu().clone(), x.detach().cpu().clone()
                started = time.perf_counter()
                if callback is not None:
                    callback(step, x0, x, total)
                seen.append((step, total, time.perf_counter() - started, *kept))

            try:
                return executor(noise, latent_image, sampler, sigmas, denoise_mask, spy, *args, **kwargs)
            finally:
                self.write(file, sigmas, seen)

        watched = model.clone()
        watched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "lab", wrapper)
        return (watched,)

    @staticmethod
    def write(file: str, sigmas: Tensor, seen: list) -> None:
        place = Path(folder_paths.get_output_directory(), file)
        place.parent.mkdir(parents=True, exist_ok=True)
        count = sum(1 for _ in place.parent.glob(f"{place.name}_*.safetensors"))
        metadata = {
            "steps": json.dumps([(step, total) for step, total, *_ in seen]),
            "seconds": json.dumps([seconds for _, _, seconds, *_ in seen]),
            "sigmas": json.dumps(sigmas.tolist()),
        }
        tensors = {"x0": torch.stack([s[3] for s in seen]), "x": torch.stack([s[4] for s in seen])} if seen else {}
        save_file(tensors, place.with_name(f"{place.name}_{count + 1}.safetensors"), metadata)


class LabDigest:
    """Outputs the sha256 of finished latents, and whether a sampler's noise is still referred to."""

    RETURN_TYPES = ()
    OUTPUT_NODE = True
    FUNCTION, CATEGORY = "digest", "lab"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802
        return {"required": {"samples": ("LATENT",)}}

    def digest(self, samples):
        latents = samples["samples"]
        parts = latents.unbind() if getattr(latents, "is_nested", False) else [latents]
        held = any(noise() is not None for noise in SAMPLED)
        gc.enable()
        digest = hashlib.sha256(b"".join(part.detach().cpu().numpy().tobytes() for part in parts))
        return {"ui": {"digest": [digest.hexdigest()], "held": [held]}}


NODE_CLASS_MAPPINGS = {
    node.__name__: node
    for node in (
        *(LabModel, LabVae, LabPictures, LabTell, LabSpy, LabDigest),
        *(LabKeep, LabLatent, LabScores),
        *(LabPreviewers, LabWrapPreviewers, LabOwnLoop),
        *(LabDecoder, LabLearned, LabTiles),
        *(LabWork, LabOutside, LabInside, LabTimes),
        *(LabLoopOpen, LabLoopClose, LabTurnModel, LabSilentSampler),
        *(LabOddSampler, LabPreviewUser, LabCopyModel, LabAny, LabImages, LabSeeds),
        *(LabCheckpoint, LabLora),
        *(LabTrouble, LabState, LabNested, LabTogether, LabWords, LabConditioned),
    )
}
