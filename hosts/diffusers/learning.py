"""Learns from the images that a watched pipeline decodes itself, with the option `learn`."""

import logging
from typing import Any, final

from torch import Tensor

from ...decoders.latents.identify import UNKNOWN, new_row
from ...errors import FitError, SafelightError, describe
from ...fitting.encode_images import require_image_latents
from ...fitting.online.update import learn_from_decode
from ..online_learning import OnlineLearner, copy_decode, fingerprint_of
from ..vae_decode import from_vae
from .facts import autoencoder_of, evidence_of, space_or_unknown
from .options import WatchOptions
from .pipeline_families import family_of_pipeline
from .vae_decodes import FEWEST_AXES

FINISH_S = 60.0  # longest time that the end of a script waits until all is learned

log = logging.getLogger("safelight.diffusers")

# One thread for the process. A script runs no training while it is idle: only its author knows whether it is.
LEARNER = OnlineLearner(finish_s=FINISH_S)


@final
class PipelineLearning:
    """Learns from the decodes of pipelines while they are watched.

    Args:
        options: the user's options.
    """

    def __init__(self, options: WatchOptions) -> None:
        self._options = options
        self._pairs = 0
        self._reason = ""

    def offer(self, pipeline: Any, vae: Any, latents: Tensor, images: Tensor) -> None:
        """Queues a decode for learning. Raises nothing, waits for nothing, changes none of its arguments."""
        try:
            self._offer_pair(pipeline, vae, latents, images)
            self._pairs += 1
        except SafelightError as error:
            self._reason = str(error)
        except Exception as error:
            self._reason = describe(error)
            log.debug("this decode is not used for learning", exc_info=True)

    def why_nothing(self) -> str | None:
        """Why nothing was learned from the loops so far; None if something was."""
        if self._pairs:
            return None
        reason = self._reason or (
            'the pipeline decoded no image with its VAE in this block, as with output_type="latent"'
        )
        return f"nothing was learned: {reason}"

    def _offer_pair(self, pipeline: Any, vae: Any, latents: Tensor, images: Tensor) -> None:
        if hasattr(vae, "quantize") or hasattr(vae, "vquantizer"):
            raise FitError(f"the VAE {type(vae).__name__} has a codebook, and only the pipeline knows how to call it")
        catalogue, folder = self._options.catalogue(), self._options.folders[0]
        spaces, family = catalogue.spaces(), family_of_pipeline(pipeline)
        evidence = evidence_of(pipeline, spaces, latents.shape[1], latents.ndim - 2)
        space = self._options.chosen_space(spaces) or space_or_unknown(pipeline, family, evidence, spaces)[0]
        require_image_latents(space)
        plain = latents if latents.ndim == 5 else latents.unsqueeze(2)
        plain, pictures = _pictures(from_vae(vae, plain, shifts=family.shifts), images, causal=space.causal)
        read, downscale = copy_decode(plain, pictures, space.causal)
        if space.name == UNKNOWN:
            space = new_row(evidence, spaces, downscale=downscale)
        fingerprint = fingerprint_of(vae)

        def learn() -> str | None:
            return learn_from_decode(folder, space, read(), catalogue, evidence, vae=fingerprint)

        LEARNER.offer(learn)


def vae_of(pipeline: Any, options: WatchOptions) -> str | None:
    """The fingerprint of the VAE of `pipeline`; None if it is unknown, or if no decoder could depend on it."""
    vae = autoencoder_of(pipeline)
    if vae is None or not any(folder.is_dir() for folder in options.folders):
        return None
    return fingerprint_of(vae) or None


def _pictures(latents: Tensor, images: Tensor, *, causal: bool) -> tuple[Tensor, Tensor]:
    """Latents `[B, C, T, h, w]` and images `[N, H, W, 3]` in 0..1 of a decode, of a video only what can be used.

    Args:
        latents: latents `[B, C, T, h, w]`.
        images: images `[B, 3, H, W]` or `[B, 3, F, H, W]` in -1..1.
        causal: whether only the first frame of a video can be used.

    Raises:
        FitError: the images have other axes.
    """
    if images.ndim == FEWEST_AXES:
        images = images.unsqueeze(2)
    if images.ndim != latents.ndim:
        raise FitError(f"expected images [B, 3, F, H, W], got {list(images.shape)}")
    if causal:
        latents, images = latents[:, :, :1], images[:, :, :1]
    elif images.shape[2] > 1:  # the frames of several videos are not one after the other in memory
        latents, images = latents[:1], images[:1]
    return latents, (images.float() / 2 + 0.5).clamp(0, 1).movedim(1, -1).flatten(0, 1)
