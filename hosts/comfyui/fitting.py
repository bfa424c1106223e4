"""Fits decoders to a VAE of ComfyUI."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfyui_version import __version__
from PIL import Image
from torch import Tensor

from ...decoders.decoder import to_bytes
from ...decoders.latents.identify import UNKNOWN, new_row
from ...decoders.latents.space import LatentSpace, Spaces
from ...errors import FitError
from ...fitting.dataset import Dataset
from ...fitting.encode_images import ImageSet, encode_images, require_image_latents
from ...fitting.fit import FitOptions, fit_and_save
from ...fitting.image_crops import find_images, image_size, read_image
from ...fitting.image_ids import fitted_ids
from ...fitting.plausibility import require_round_trip
from ...fitting.progress import FitProgressBar
from ...fitting.result import Baselines
from ...preview.generators import forked_generators, seed_generators
from ..online_learning import fingerprint_of
from .decoder_folders import catalogue, own_folder
from .latent_dict import FROM_MODEL, Origin, origin
from .node_text import node_text

BAR_TICKS = 1000


def fit_decoder(vae: Any, images: Sequence[Tensor], folder: str, model: Any, options: FitOptions) -> tuple[Tensor, str]:
    """Fits decoders to `vae` and saves them in the user's folder.

    Args:
        vae: ComfyUI's VAE.
        images: batches of images `[B, H, W, C]` in 0..1, each of any size; none to read a folder or to generate some.
        folder: folder of images to read as well; empty for none.
        model: ComfyUI's ModelPatcher whose latents the decoders are for, or None.
        options: settings of the node.

    Returns:
        The report as an IMAGE, and as text.

    Raises:
        SafelightError: nothing was fitted or written.
        InterruptProcessingException: the user cancelled; nothing was written.
    """
    if vae is None:
        raise FitError("expected a VAE, got none: this checkpoint has no VAE; load one with Load VAE")
    host_bar = comfy.utils.ProgressBar(BAR_TICKS)
    show_text = node_text()

    def show(message: str, share: float) -> None:
        host_bar.update_absolute(round(share * BAR_TICKS), BAR_TICKS)
        show_text(message)

    bar = FitProgressBar(
        options.kind,
        BAR_TICKS,
        show,
        comfy.model_management.throw_exception_if_processing_interrupted,
    )
    installed = catalogue()
    spaces = installed.spaces()
    source = _latent_origin(model, options, spaces)
    seen = fitted_ids(installed.all(), source.space.name)
    dataset = _encode_dataset(vae, _image_set(images, folder), source, options.seed, bar, seen)
    if callable(getattr(vae, "decode", None)):
        image = dataset.test.rgb(dataset.test.downscale, slice(1))
        require_round_trip(lambda rgb: vae.encode(rgb.movedim(1, -1)), partial(_decode, vae), image)
    space = source.space
    if space.name == UNKNOWN and source.evidence is not None:
        space = new_row(source.evidence, spaces, options.name, dataset.train.downscale)
    report, summary = fit_and_save(
        options,
        space,
        dataset,
        Baselines.from_catalogue(installed, space, accelerated=source.accelerated, evidence=source.evidence),
        own_folder(),
        host=f"ComfyUI {__version__}",
        on_step=bar.fitting,
        check_cancelled=bar.check_cancelled,
        vae=fingerprint_of(vae),
        device=comfy.model_management.get_torch_device(),
    )
    host_bar.update_absolute(BAR_TICKS, BAR_TICKS)
    return torch.from_numpy(np.asarray(report).astype(np.float32) / 255.0)[None], summary


def _latent_origin(model: Any, options: FitOptions, spaces: Spaces) -> Origin:
    """Finds the origin of the latents; a connected model and a chosen space must agree."""
    if model is None:
        source = replace(origin(None, options.space, spaces), device=comfy.model_management.get_torch_device())
    else:
        source = origin(model, FROM_MODEL, spaces)
        if options.space != FROM_MODEL and spaces[options.space] != source.space:
            raise FitError(
                f"the model's latents are {source.space.title} ({source.space.name}), but space is {options.space}; "
                f"choose {FROM_MODEL!r}, or disconnect the model"
            )
    require_image_latents(source.space)
    return source


def _image_set(batches: Sequence[Tensor], folder: str) -> ImageSet | None:
    """The images of all batches and of a folder; None if there are none, and no folder is given.

    Raises:
        FitError: a batch holds no images, or the folder has none.
    """
    for images in batches:
        _check_images(images)
    paths = find_images([Path(folder).expanduser()]) if folder.strip() else []
    sizes = [(images.shape[2], images.shape[1]) for images in batches for _ in images]
    found = [(path, size) for path in paths if (size := image_size(path))]
    if not sizes and not paths:
        return None
    sizes += [size for _, size in found]
    images = chain(*(_pil_images(images) for images in batches), (read_image(path) for path, _ in found))
    return ImageSet(sizes=sizes, images=images)


def _encode_dataset(
    vae: Any, image_set: ImageSet | None, source: Origin, seed: int, bar: FitProgressBar, seen: Collection[str]
) -> Dataset:
    network = type(getattr(vae, "first_stage_model", vae)).__name__
    with _seeded(seed, getattr(vae, "device", None)):  # some VAEs draw noise
        return encode_images(
            partial(_encode, vae, source, bar),
            image_set,
            source.space,
            _downscale(vae, source.space),
            seed,
            network,
            bar.encoding,
            seen,
        )


@contextmanager
def _seeded(seed: int, device: Any) -> Iterator[None]:
    """Seeds the random numbers of the CPU and of a VAE's device inside the block. The host's own go on after it."""
    own = device if isinstance(device, torch.device) else None
    with forked_generators(own):
        seed_generators(seed, own)
        yield


def _encode(vae: Any, source: Origin, bar: FitProgressBar, rgb: Tensor) -> Tensor:
    """Encodes images to model space latents. ComfyUI's video VAEs take a batch as one video, so they get one image."""
    pixels = rgb.movedim(1, -1)
    batches = pixels.split(1) if getattr(vae, "latent_dim", 2) > 2 else [pixels]
    encoded = []
    for batch in batches:
        bar.check_cancelled()
        encoded.append(source.plain(vae.encode(batch))[:, :, 0].float().cpu())
    return torch.cat(encoded)


def _decode(vae: Any, latents: Tensor) -> Tensor:
    """Decodes one image `[1, 3, H, W]`; of a video VAE its only frame."""
    images = vae.decode(latents)
    return images.reshape(-1, *images.shape[-3:])[:1].movedim(-1, 1)


def _downscale(vae: Any, space: LatentSpace) -> int:
    """Image pixels per pixel of the VAE's output, if the VAE reports it; else of the space."""
    reported = getattr(vae, "spacial_compression_encode", lambda: space.downscale)()
    return reported if isinstance(reported, int) and reported > 0 else space.downscale


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[-1] not in (3, 4) or not len(images):
        raise FitError(f"expected images [B, H, W, 3], got {list(images.shape)}")
    if not torch.isfinite(images).all():
        raise FitError("expected finite images, got NaN or infinity; check the node that the images come from")


def _pil_images(images: Tensor) -> Iterator[Image.Image]:
    for image in images:
        pixels = to_bytes(image[None, :, :, :3].movedim(-1, 1).float().clamp(0, 1).cpu())[0].numpy()
        yield Image.fromarray(pixels)
