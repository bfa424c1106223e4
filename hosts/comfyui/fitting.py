"""Fitting decoders to a VAE of ComfyUI."""

import math
import random
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

from ...decoders.catalogue import AUTO, PIXELS
from ...decoders.decoder import to_bytes
from ...decoders.errors import FitError
from ...decoders.identify import UNKNOWN, new_row
from ...decoders.spaces import AUDIO, LatentSpace, Spaces
from ...fitting import procedural
from ...fitting.ladder import LADDER
from ...fitting.made import AtHand, Made
from ...fitting.make import CLASSES, make
from ...fitting.material import Material, split
from ...fitting.pairs import encode_pairs
from ...fitting.pictures import cut
from ...fitting.train import Progress
from .latents import FROM_MODEL, Origin, origin
from .library import catalogue, own_folder

CROP_PX = (256, 512)  # a side of a crop, at least and at most
LATENT_SIDE = 32  # of a crop that gets by with it: a neighbourhood of 7x7 still has a middle
LEAST_SIDE = 4  # latent pixels a side, below which a picture says nothing
CROPS_MOST = 8  # of one picture
PROCEDURAL = 96  # pictures, where none are given

ENCODING = 0.3  # of the progress bar
TRAINING = 6  # how many closed forms a training is worth, on the progress bar
TICKS = 1000  # of it


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the user chose on the node; see its tooltips."""

    space: str = FROM_MODEL
    kind: str = AUTO
    name: str = ""
    seed: int = 0


def fit_decoder(vae: Any, images: Tensor | None, model: Any, choices: Choices) -> tuple[Tensor, str]:
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
    bar = Bar(choices.kind)
    at_hand = catalogue()
    spaces = at_hand.spaces()
    source = _source(model, choices, spaces)
    material = _material(vae, images, source, choices.seed, bar)
    space = source.space
    if space.name == UNKNOWN and source.evidence is not None:
        space = new_row(source.evidence, spaces, choices.name, material.fit.downscale)
    made = make(
        choices.kind,
        space,
        material,
        AtHand.of(at_hand, space, accelerated=source.accelerated, evidence=source.evidence),
        own_folder(),
        source=f"Safelight: Fit Preview Decoder in ComfyUI {__version__}, kind {choices.kind}, seed {choices.seed}",
        changes={"seed": choices.seed},
        tell=bar.fitting,
    )
    picture = torch.from_numpy(np.asarray(made.picture()).astype(np.float32) / 255.0)[None]
    bar.check()
    paths = made.save(own_folder())
    bar.end()
    return picture, _summary(made, space, [str(path) for path in paths])


@final
class Bar:
    """The host's progress bar, over encoding and fitting; a cancelled prompt ends here.

    Args:
        kind: of the decoder.
    """

    def __init__(self, kind: str) -> None:
        self._bar = comfy.utils.ProgressBar(TICKS)
        self._ticks = -1
        names = [name for rungs in CLASSES.values() for name in rungs] if kind == AUTO else [kind]
        works = [1 if LADDER[name].recipe is None else TRAINING for name in names]
        self._parts = {
            name: (sum(works[:i]) / sum(works), works[i] / sum(works)) for i, name in enumerate(names)
        }  # where a rung begins, and its share

    def encoding(self, share: float) -> None:
        """So much of the pictures is encoded."""
        self._show(ENCODING * share)

    def fitting(self, name: str, progress: Progress) -> None:
        """The rung of this name is so far."""
        begin, share = self._parts[name]
        self._show(ENCODING + (1 - ENCODING) * 0.99 * (begin + share * progress.step / max(1, progress.steps)))

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


def _source(model: Any, choices: Choices, spaces: Spaces) -> Origin:
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
    space = source.space
    if space.dims == AUDIO or space.name == PIXELS:
        what = "already pictures" if space.name == PIXELS else "no pictures"
        raise FitError(
            f"expected latents of pictures or video, those of {space.title} are {what}; nothing is to be fitted"
        )
    return source


def _material(vae: Any, images: Tensor | None, source: Origin, seed: int, bar: Bar) -> Material:
    step = _downscale(vae, source.space)
    if images is None:
        count, side = PROCEDURAL, _side(step, None)
        stream = enumerate(procedural.pictures(count, side, seed))
        what = f"procedural pictures of {side} px, seed {seed}"
    else:
        _expect_pictures(images)
        height, width = images.shape[1:3]
        side = _side(step, (width, height))
        per_picture = min(CROPS_MOST, math.ceil(height * width / side**2))
        count = len(images) * per_picture
        stream = _crops(images, side, per_picture, seed)
        what = f"crops of {side} px from {len(images)} pictures of the user's"
    numbers: list[int] = []

    def pictures() -> Iterator[np.ndarray]:
        for number, crop in stream:
            numbers.append(number)
            bar.encoding(min(1.0, len(numbers) / count))
            yield crop

    # A VAE may draw noise: the same seed gives the same latents, and nobody else's noise is another for it.
    device = getattr(vae, "device", None)
    devices = [device] if isinstance(device, torch.device) and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        pairs = encode_pairs(partial(_encode, vae, source, bar), pictures(), source.space.channels)
    if source.space.name != UNKNOWN and pairs.downscale != source.space.downscale:
        raise FitError(
            f"expected a VAE that makes latents of 1/{source.space.downscale} of the picture, as {source.space.title} "
            f"({source.space.name}) has them, got 1/{pairs.downscale}; is it the VAE of this model?"
        )
    network = type(getattr(vae, "first_stage_model", vae)).__name__
    return split(pairs, f"{len(pairs)} {what}, encoded by {network}", numbers)


def _encode(vae: Any, source: Origin, bar: Bar, rgb: Tensor) -> Tensor:
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


def _side(step: int, size: tuple[int, int] | None) -> int:
    """Of a square crop: whole latent pixels, and enough of them where the pictures are large enough."""
    least, most = CROP_PX
    side = max(least, min(most, LATENT_SIDE * step)) // step * step
    if size is not None:
        side = min(side, min(size) // step * step)
        if side < LEAST_SIDE * step:
            raise FitError(
                f"expected pictures of at least {LEAST_SIDE * step} pixels a side for a VAE that makes latents of "
                f"1/{step}, got {size[0]}x{size[1]}; give larger ones, or none to use procedural ones"
            )
    return side


def _expect_pictures(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[-1] not in (3, 4) or not len(images):
        raise FitError(f"expected pictures [B, H, W, 3], got {list(images.shape)}")
    if not torch.isfinite(images).all():
        raise FitError(
            "expected pictures of finite numbers, got NaN or infinity among them; look at where they are from"
        )


def _crops(images: Tensor, side: int, per_picture: int, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    choose = random.Random(seed)  # noqa: S311, no secret
    for number, image in enumerate(images):
        pixels = to_bytes(image[None, :, :, :3].movedim(-1, 1).float().clamp(0, 1).cpu())[0].numpy()
        for crop in cut(Image.fromarray(pixels), side, per_picture, choose):
            yield number, crop


def _summary(made: Made, space: LatentSpace, paths: list[str]) -> str:
    lines = [
        f"Latent space: {space.title} ({space.name})",
        f"Fitted on {made.material.fitted_on}.",
        f"Judged on {made.material.judged_on}; the first is what auto takes now:",
        "",
        made.table(),
        "",
        *made.verdicts(),
        *(f"Note: {note}" for note in made.notes),
        "",
        *(f"Saved: {path}" for path in paths),
    ]
    return "\n".join(lines)
