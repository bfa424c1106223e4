"""Brings the later latent frames of a causal video VAE to the values of its first latent frame.

A causal VAE encodes one frame into the first latent frame and several into each later one, whose values are wider: in
Wan 2.1's space 1.4 to 2.6 times, by channel. Tables and closed forms are fitted to stills, which are first frames. So
they show later frames with too much contrast, and clip them.

The correction is in proportion to how much wider the later frames of these latents are. So it changes nothing in
latents whose frames are all stills (the layers of an image) or all noise, and it does not enlarge small values.
It is the same for all later frames but the second latent frame, so that it does not follow the contents of a scene.
"""

import logging
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import DecoderFileError
from .files.read_cache import read_cached
from .files.shipped import WEIGHTS, shipped_bytes
from .files.tensor_file import open_tensors
from .latents.space import LatentSpace
from .latents.space_table import SPACES

FILE_NAME = "{}-later-frames.safetensors"  # in `weights`, by the name of the space
FORMAT = "safelight.later_frames/1"
NOT_WIDER = 1.1  # times the spread of the first frame; narrower frames are left as they are
CLEARLY_WIDER = 1.4  # times its spread, from where on the correction is complete in a space that was not measured
MIN_GAIN = 1 / 3  # Wan 2.1's smallest is 0.38
MIN_LIKENESS = 0.05  # weight of a frame that is not like the first one at all
NO_VARIANCE = 1e-4  # added to variances, so that flat frames have a ratio
SAMPLED_PIXELS = 1024  # of each frame, up to twice as many; more do not change the statistics
MAX_LATENT = 1e6  # normal latents are near 1; the squares of larger ones could overflow

log = logging.getLogger("safelight.decoders")


class LaterMap(NamedTuple):
    """A measured map from later latent frames to the values of first ones: `first = later @ matrix + offset`.

    `matrix` is `[C, C]`, `offset` `[C]`. `spread` is how many times wider the later frames were, about 1.8.
    """

    matrix: Tensor
    offset: Tensor
    spread: float


class FrameStatistics(NamedTuple):
    """`mean` and `variance` of each frame and channel `[B, C, T]`; `spread` `[B, T]`, relative to the first frame.

    `likeness` `[B, T]` is the correlation of each frame with the first one, the mean over channels, at least 0.
    """

    mean: Tensor
    variance: Tensor
    spread: Tensor
    likeness: Tensor


def as_first_frames(latents: Tensor, space: LatentSpace) -> Tensor:
    """Brings all later frames to the values of first ones; the first frame and single frames stay as they are.

    Args:
        latents: `[B, C, T, H, W]` in model space, beginning with the first frame of the video.
        space: their latent space.

    Returns:
        Latents of the same shape, in float32 if they were changed.
    """
    if not space.causal or latents.shape[2] < 2:
        return latents
    corrected = latents.to(torch.float32, copy=True)
    statistics, measured = frame_statistics(latents), measured_map(space)
    # The second latent frame lies between the first and the later ones: only one frame came before it.
    for at in (slice(1, 2), slice(2, None)):
        frames = corrected[:, :, at]
        if frames.shape[2]:
            widest = statistics.spread[:, at].amax(1)
            if measured is None:
                gain, offset = _match(statistics, at)
                share = _share(widest, CLEARLY_WIDER)
                gain, offset = 1 + share * (gain - 1), share * offset
                frames.mul_(gain[..., None, None, None]).add_(offset[..., None, None, None])
            else:
                frames.copy_(apply_map(frames, measured, _share(widest, measured.spread)))
    return corrected


def later_frame_as_first(latents: Tensor, space: LatentSpace) -> Tensor:
    """Brings a later frame `[B, C, 1, H, W]` without its video to the values of first ones, if `space` was measured."""
    measured = measured_map(space) if space.causal else None
    return latents if measured is None else apply_map(latents, measured)


def measured_map(space: LatentSpace, folder: Path = WEIGHTS) -> LaterMap | None:
    """Returns the map of a space that was measured; None for others."""
    if space.name not in SPACES or SPACES[space.name].values != space.values:
        return None
    path = folder / FILE_NAME.format(space.name)
    if not path.exists():
        return None
    try:
        return read_cached(_read_map, path)
    except DecoderFileError as error:  # the catalogue warns of shipped files that are missing or changed
        log.debug("%s", error)
        return None


def apply_map(frames: Tensor, measured: LaterMap, share: Tensor | None = None) -> Tensor:
    """Maps all of `frames` `[B, C, T, H, W]`, each item by its `share` `[B, 1]` of the map; None for the whole map."""
    matrix, offset = measured.matrix.T.to(frames.device), measured.offset.to(frames.device)
    matrix, offset = matrix.expand(len(frames), -1, -1), offset.expand(len(frames), -1)
    if share is not None:
        matrix = torch.lerp(torch.eye(len(measured.offset), device=frames.device), matrix, share[..., None])
        offset = share * offset
    return torch.baddbmm(offset[..., None], matrix, frames.float().flatten(2)).view(frames.shape)


def frame_statistics(latents: Tensor) -> FrameStatistics:
    """Measures the frames of latents `[B, C, T, H, W]`."""
    pixels = latents.flatten(3)
    pixels = pixels[..., :: pixels.shape[-1] // SAMPLED_PIXELS | 1].float()  # odd: not always the same columns
    pixels = torch.nan_to_num(pixels, nan=0.0, posinf=0.0, neginf=0.0).clamp(-MAX_LATENT, MAX_LATENT)
    mean = pixels.mean(-1)
    deviation = pixels - mean[..., None]
    variance = deviation.square().mean(-1) + NO_VARIANCE
    overall = variance.mean(1)
    covariance = (deviation * deviation[:, :, :1]).mean(-1)
    likeness = (covariance * (variance * variance[:, :, :1]).rsqrt()).mean(1).clamp(min=0)
    return FrameStatistics(mean, variance, (overall / overall[:, :1]).sqrt(), likeness)


def _match(statistics: FrameStatistics, at: slice) -> tuple[Tensor, Tensor]:
    """Gain and offset `[B, C]` that give each channel the spread and the mean that it has in the first frame.

    Frames that look like the first one count most, so that neither another scene nor a fade decides. Where none does,
    the means stay in proportion.
    """
    likeness = statistics.likeness[:, at]
    weights = likeness.clamp(min=MIN_LIKENESS).square()
    weights = weights / weights.sum(1, keepdim=True)
    mean = (statistics.mean[:, :, at] * weights[:, None]).sum(2)
    variance = (statistics.variance[:, :, at] * weights[:, None]).sum(2)
    gain = (statistics.variance[:, :, 0] / variance).sqrt().clamp(MIN_GAIN, 1.0)
    return gain, likeness.amax(1, keepdim=True) * (statistics.mean[:, :, 0] - gain * mean)


def _share(spread: Tensor, full: float) -> Tensor:
    """The share of the correction, `[B, 1]`, for frames with this relative `spread` `[B]`: 1 from `full` on."""
    return ((spread / NOT_WIDER).log() / math.log(full / NOT_WIDER)).clamp(0, 1)[:, None]


def _read_map(path: Path) -> LaterMap:
    with torch.inference_mode(False):  # the map is cached, for threads in other modes too
        metadata, tensors = open_tensors(path, shipped_bytes(path.name, path.parent))
        if metadata.get("format") != FORMAT or {"matrix", "offset", "spread"} - tensors.keys():
            raise DecoderFileError(f"{path}: expected a map of later frames, {FORMAT}; reinstall Safelight")
        return LaterMap(tensors["matrix"].float(), tensors["offset"].float(), float(tensors["spread"]))
