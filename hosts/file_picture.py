"""The picture that stands for a file of latents or for the record of a run, in a list of files."""

from pathlib import Path

import torch
from PIL import Image

from ..decoders.catalogue import Catalogue
from ..decoders.decoder import to_bytes
from ..decoders.files.tensor_file import open_tensors
from ..decoders.latents.identify import Evidence, unknown
from ..decoders.latents.space import AUDIO, LatentSpace, Spaces
from ..decoders.later_frames import as_first_frames
from ..errors import DecoderFileError, LatentsError
from ..preview.decode.memory_budget import MB
from ..preview.decode.not_finite import mark_pixels, not_finite_mask, without_not_finite
from ..preview.images.encode import shrink
from ..preview.manifest import MANIFEST_NAME
from ..preview.saved_run import SavedRun
from ..preview.sinks.latent_files import FORMAT, TENSORS
from .latents_input import COMFY_TENSOR, FoundLatents, HowToRead, read_latents, read_tensors

MAX_FILE_BYTES = 256 * MB  # also of what is compressed in it; 81 frames of 832x480 of Wan have 17 MB
LATENT_SUFFIX = ".latent"  # of ComfyUI's Save Latent
IMAGE_NDIM, VIDEO_NDIM = 4, 5


def picture_of_file(path: Path, catalogue: Catalogue, max_pixels: int) -> Image.Image | None:
    """The picture of a file: the newest picture of a `run.json`, or decoded latents; None for every other file.

    Latents are those that Safelight saves (`safelight.latents/1`) and ComfyUI's `.latent`: the first item and the first
    frame. If several latent spaces have latents of this shape, the principal components are shown.

    Args:
        path: path of the file, which may come from anywhere.
        catalogue: available decoders.
        max_pixels: largest number of pixels of the picture.

    Raises:
        SafelightError: the file is damaged, or a picture that the record lists is missing.
    """
    if path.name == MANIFEST_NAME:
        picture = _newest_picture(path.parent)
    else:
        picture = _decoded(path, catalogue) if _has_latents(path) else None
    if picture is None or picture.width * picture.height <= max_pixels:
        return picture
    longest = max(picture.size) * (max_pixels / (picture.width * picture.height)) ** 0.5
    return shrink(picture, max(1, int(longest)))


def _newest_picture(folder: Path) -> Image.Image | None:
    pictures = SavedRun.open(folder).pictures(1)
    return pictures[-1].image if pictures else None


def _has_latents(path: Path) -> bool:
    """Whether it is a file of latents. Of a safetensors file only the header is read: a model has many gigabytes."""
    if path.suffix.lower() == LATENT_SUFFIX:
        return True
    try:
        facts, tensors = open_tensors(path, values=False, max_bytes=MAX_FILE_BYTES)
    except DecoderFileError:
        return False
    return facts.get("format") == FORMAT or COMFY_TENSOR in tensors


def _decoded(path: Path, catalogue: Catalogue) -> Image.Image | None:
    found = _latents(path, catalogue.spaces())
    if found.space.dims == AUDIO:
        return None
    latents = found.latents[:1, :, :1]
    mask = not_finite_mask(latents)
    latents = as_first_frames(latents if mask is None else without_not_finite(latents), found.space)
    decoder = catalogue.candidates(found.space)[0].open()
    with torch.inference_mode():
        pixels = to_bytes(decoder.decode(latents[:, :, 0]))[0].numpy()
    if mask is not None:
        mark_pixels(pixels[None, None], mask[:, :1])
    return Image.fromarray(pixels)


def _latents(path: Path, spaces: Spaces) -> FoundLatents:
    """The latents of a file. If their shape does not decide the space, that of an unknown model."""
    try:
        return read_latents(path, spaces, HowToRead(), MAX_FILE_BYTES)
    except LatentsError:
        tensors = read_tensors(path, MAX_FILE_BYTES)[1]
        name = next((name for name in (COMFY_TENSOR, *reversed(TENSORS[:2])) if name in tensors), None)
        if name is None or tensors[name].ndim not in (IMAGE_NDIM, VIDEO_NDIM):
            raise
        space = _unknown_space(tensors[name])
        return FoundLatents(space.unpack(tensors[name].float()), space, guessed=True)


def _unknown_space(latents: torch.Tensor) -> LatentSpace:
    return unknown(Evidence(host="comfyui", channels=latents.shape[1], dims=latents.ndim - 2))
