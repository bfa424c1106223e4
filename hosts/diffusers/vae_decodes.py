"""Hears the images that watched pipelines decode with their VAEs, after their sampling loops.

While the block runs, the method `decode` of each VAE is hooked. So nothing is decoded twice, and tiles, slices and
chunks make no difference. Not heard are decodes before a loop has begun or while one runs, because their latents are
not finished, and those of Safelight's own previews.
"""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, final

from torch import Tensor

from ..hook import Hook
from ..vae_decode import is_preview
from .facts import autoencoder_of

DECODE = "decode"  # method of autoencoders
FEWEST_AXES = 4  # of latents and images; sound has fewer

log = logging.getLogger("safelight.diffusers")


@final
class VaeDecodes:
    """The decodes of pipelines while they are watched.

    Args:
        is_sampling: function that returns whether a sampling loop runs in this thread.
        hear: function that gets the pipeline, its VAE, the latents and the images of each decode, in the VAE's units.
            It is called in the thread of the decode, and must change none of them.
    """

    def __init__(self, is_sampling: Callable[[], bool], hear: Callable[[Any, Any, Tensor, Tensor], None]) -> None:
        self._is_sampling, self._hear = is_sampling, hear
        self._hooks: dict[int, Hook] = {}  # by the id of the VAE
        self._threads: set[int] = set()  # in which loops have begun

    def follow(self, pipeline: Any) -> None:
        """Begins to hear the VAE of a pipeline whose loop begins in this thread."""
        self._threads.add(threading.get_ident())
        vae = autoencoder_of(pipeline)
        if vae is not None and hasattr(vae, DECODE) and id(vae) not in self._hooks:
            self._hooks[id(vae)] = Hook(vae, DECODE, partial(self._decode, pipeline, vae))

    def close(self) -> None:
        """Restores the VAEs."""
        for hook in self._hooks.values():
            hook.end()
        self._hooks = {}

    def _decode(self, pipeline: Any, vae: Any, before: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = before(*args, **kwargs)
        # With a mask, an `AsymmetricAutoencoderKL` takes a part of the image from elsewhere.
        is_whole = kwargs.get("mask") is None
        if is_whole and threading.get_ident() in self._threads and not is_preview() and not self._is_sampling():
            self._offer(pipeline, vae, next(iter((*args, *kwargs.values())), None), result)
        return result

    def _offer(self, pipeline: Any, vae: Any, latents: Any, result: Any) -> None:
        """Passes a decode on. Raises nothing."""
        try:
            images = result[0] if isinstance(result, tuple) else getattr(result, "sample", None)
            if isinstance(images, Tensor) and isinstance(latents, Tensor) and images.ndim >= FEWEST_AXES:
                self._hear(pipeline, vae, latents.detach(), images.detach())
        except Exception:
            log.debug("this decode is not used", exc_info=True)
