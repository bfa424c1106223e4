"""Fitting decoders to a VAE of ComfyUI."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfyui_version import __version__
from PIL import Image
from torch import Tensor

from ...decoders.catalogue import AUTO
from ...decoders.decoder import to_bytes
from ...decoders.latents.identify import UNKNOWN, new_row
from ...decoders.latents.space import LatentSpace, Spaces
from ...errors import FitError
from ...fitting.dataset import Dataset
from ...fitting.encode_images import ImageSet, encode_images, expect_visible
from ...fitting.fit import fit_decoders
from ...fitting.progress import ProgressShares, summary
from ...fitting.result import BestAvailable
from ...fitting.train import Progress
from .decoder_folders import catalogue, own_folder
from .latent_dict import FROM_MODEL, Origin, origin

TICKS = 1000  # of the progress bar


@dataclass(frozen=True, kw_only=True)
class ComfyFitOptions:
    """What the user chose on the node; see its tooltips."""

    space: str = FROM_MODEL
    kind: str = AUTO
    name: str = ""
    seed: int = 0


def fit_decoder(vae: Any, images: Tensor | None, model: Any, choices: ComfyFitOptions) -> tuple[Tensor, str]:
    """Fits decoders to `vae` and saves them in the user's folder.

    Args:
        vae: the host's VAE.
        images: `[B, H, W, C]` in 0..1; None for procedural pictures.
        model: the host's ModelPatcher that the latents are for, or None.
        choices: the user's.

    Returns:
        The report as an IMAGE, and as text.

    Raises:
        SafelightError: nothing was fitted, and nothing written; what was expected, what came, what to do.
        InterruptProcessingException: the user cancelled; nothing was written.
    """
    if vae is None:
        raise FitError("expected a VAE, got none; load one with Load VAE: this checkpoint has none")
    bar = ComfyProgressBar(choices.kind)
    at_hand = catalogue()
    spaces = at_hand.spaces()
    source = _source(model, choices, spaces)
    material = _material(vae, images, source, choices.seed, bar)
    space = source.space
    if space.name == UNKNOWN and source.evidence is not None:
        space = new_row(source.evidence, spaces, choices.name, material.fit.downscale)
    made = fit_decoders(
        choices.kind,
        space,
        material,
        BestAvailable.of(at_hand, space, accelerated=source.accelerated, evidence=source.evidence),
        own_folder(),
        source=f"Safelight: Fit Preview Decoder in ComfyUI {__version__}, kind {choices.kind}, seed {choices.seed}",
        changes={"seed": choices.seed},
        tell=bar.fitting,
    )
    picture = torch.from_numpy(np.asarray(made.picture()).astype(np.float32) / 255.0)[None]
    bar.check()
    paths = made.save(own_folder())
    bar.end()
    return picture, summary(made, space, paths)


@final
class ComfyProgressBar:
    """The host's progress bar, over encoding and fitting; a cancelled prompt ends here.

    Args:
        kind: of the decoder.
    """

    def __init__(self, kind: str) -> None:
        self._bar = comfy.utils.ProgressBar(TICKS)
        self._ticks = -1
        self._shares = ProgressShares(kind)

    def encoding(self, share: float) -> None:
        """So much of the pictures is encoded."""
        self._show(self._shares.encoding(share))

    def fitting(self, name: str, progress: Progress) -> None:
        """The rung of this name is so far."""
        self._show(self._shares.fitting(name, progress))

    def end(self) -> None:
        """Everything is done."""
        self._bar.update_absolute(TICKS, TICKS)

    def check(self) -> None:
        """Raises the host's own exception if the user has cancelled."""
        comfy.model_management.throw_exception_if_processing_interrupted()

    def _show(self, share: float) -> None:
        self.check()
        if (ticks := round(share * TICKS)) != self._ticks:
            self._ticks = ticks
            self._bar.update_absolute(ticks, TICKS)


def _source(model: Any, choices: ComfyFitOptions, spaces: Spaces) -> Origin:
    """Where the latents come from; a model and a space that are both given must agree."""
    if model is None:
        source = replace(origin(None, choices.space, spaces), device=comfy.model_management.get_torch_device())
    else:
        source = origin(model, FROM_MODEL, spaces)
        if choices.space != FROM_MODEL and spaces[choices.space] != source.space:
            raise FitError(
                f"the model's latents are {source.space.title} ({source.space.name}), but space says {choices.space}; "
                f"choose {FROM_MODEL!r}, or disconnect the model"
            )
    expect_visible(source.space)
    return source


def _material(vae: Any, images: Tensor | None, source: Origin, seed: int, bar: ComfyProgressBar) -> Dataset:
    pictures = None
    if images is not None:
        _expect_pictures(images)
        pictures = ImageSet(sizes=[(images.shape[2], images.shape[1])] * len(images), each=_each(images))
    network = type(getattr(vae, "first_stage_model", vae)).__name__
    # A VAE may draw noise: the same seed gives the same latents, and nobody else's noise is another for it.
    device = getattr(vae, "device", None)
    devices = [device] if isinstance(device, torch.device) and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        return encode_images(
            partial(_encode, vae, source, bar),
            pictures,
            source.space,
            _downscale(vae, source.space),
            seed,
            network,
            bar.encoding,
        )


def _encode(vae: Any, source: Origin, bar: ComfyProgressBar, rgb: Tensor) -> Tensor:
    """Model space latents of some pictures. To a video VAE of the host's a batch of them is one video: one by one."""
    pixels = rgb.movedim(1, -1)
    batches = pixels.split(1) if getattr(vae, "latent_dim", 2) > 2 else [pixels]
    encoded = []
    for batch in batches:
        bar.check()
        encoded.append(source.plain(vae.encode(batch))[:, :, 0].float().cpu())
    return torch.cat(encoded)


def _downscale(vae: Any, space: LatentSpace) -> int:
    """Picture pixels per pixel of what the VAE gives, as far as it says so."""
    told = getattr(vae, "spacial_compression_encode", lambda: space.downscale)()
    return told if isinstance(told, int) and told > 0 else space.downscale


def _expect_pictures(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[-1] not in (3, 4) or not len(images):
        raise FitError(f"expected pictures [B, H, W, 3], got {list(images.shape)}")
    if not torch.isfinite(images).all():
        raise FitError(
            "expected pictures of finite numbers, got NaN or infinity among them; look at where they are from"
        )


def _each(images: Tensor) -> Iterator[Image.Image]:
    for image in images:
        pixels = to_bytes(image[None, :, :, :3].movedim(-1, 1).float().clamp(0, 1).cpu())[0].numpy()
        yield Image.fromarray(pixels)
