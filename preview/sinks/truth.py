"""Measures how true the pictures of a run are: against its last picture, and against the VAE's when that exists."""

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from PIL import Image

from ...decoders.latents.space import LatentSpace
from ..picture import DecodedPicture
from ..run import FULL, Run, State
from .base import Delivery, Sink
from .run_folder import RunFolder

MAX_SIDE_PX = 128  # of the pictures that are compared: the latent size of an image of 1024 px
MAX_STEPS = 256  # steps that are compared with the last one; each takes at most 48 kB
MSE_FLOOR = 1e-10  # equal pictures: 100 dB


@final
class TruthMeter(Sink):
    """Compares pictures at latent size, where all decoders have the same detail. Of several, it takes the first one.

    It sets `run.truth` at the end of the run, and again when the VAE's picture arrives.

    Args:
        run: run that is measured.
        downscale: image pixels per latent pixel, along one side.
        folders: folders whose `run.json` has the result.
        report: function that reports a result that arrives after the end of the run, such as an event for a viewer.
        image: index of the VAE's image that shows what the run's pictures show, see `shown_image`.
    """

    name = "the truth meter"

    def __init__(
        self,
        run: Run,
        downscale: int,
        folders: Sequence[RunFolder] = (),
        report: Callable[[float], object] = lambda _: None,
        *,
        image: int = 0,
    ) -> None:
        self._run, self._downscale, self._folders, self._report = run, downscale, tuple(folders), report
        self.image = image
        # The end of a run with files waits for its record anyway, which has the result.
        self.delivery = Delivery.NEWEST_AWAITED if folders else Delivery.NEWEST
        self._lock = threading.Lock()  # the VAE's picture arrives on another thread
        self._size: tuple[int, int] | None = None
        self._steps: dict[int, np.ndarray] = {}
        self._decoder: str | None = None
        self._vae: np.ndarray | None = None
        self._kept: int | None = None  # step that became the result; None: the last one
        self._early: np.ndarray | None = None  # the VAE's picture, until the first picture of the run says the size

    def show(self, picture: DecodedPicture) -> None:
        if picture.show != "denoised" or picture.not_finite:
            return
        with self._lock:
            self._size = self._size or self._latent_size(picture.shown)
            if self._early is not None:
                self._vae, self._early = self._reduce(self._early), None
            small = self._reduce(picture.first)
            if picture.card.kind == FULL:
                self._vae = small
                return
            self._decoder = picture.decoder
            self._steps.pop(picture.index, None)
            self._steps[picture.index] = small
            if len(self._steps) > MAX_STEPS:  # the last one always stays
                del self._steps[list(self._steps)[-2]]

    def close(self, state: State) -> None:
        self._measure()
        self._save()

    def judge(self, pixels: np.ndarray) -> None:
        """Compares the run with the VAE's picture of its finished latents. Any thread may call it, once it has ended.

        Args:
            pixels: picture `[H, W, 3]` uint8, sRGB.
        """
        with self._lock:
            if self._size is None:
                self._early = pixels
                return
            self._vae = self._reduce(pixels)
        self._measure()
        self._save()
        truth = self._run.truth or {}
        if truth.get("psnr_db") is not None:
            self._report(truth["psnr_db"])

    def keep(self, index: int) -> None:
        """Says that the sampler's result is the estimate of step `index`: the VAE's picture will be of that step."""
        with self._lock:
            self._kept = index

    def forget(self) -> None:
        """Drops the pictures; `run.truth` stays."""
        with self._lock:
            self._steps, self._early = {}, None

    def _measure(self) -> None:
        with self._lock:
            last_index = self._kept or next(reversed(self._steps), None)
            last = self._steps.get(last_index or 0)
            if last is None:
                return
            self._run.truth = {
                "psnr_db": None if self._vae is None else _psnr_db(last, self._vae),
                "decoder": self._decoder,
                "step": last_index,
                "to_last_db": [[i, _psnr_db(small, last)] for i, small in self._steps.items() if i != last_index],
            }

    def _save(self) -> None:
        for folder in self._folders:
            if folder.state != "running" and folder.path.is_dir():  # a live run may have been removed
                folder.save()

    def _latent_size(self, shown: tuple[int, int]) -> tuple[int, int]:
        width, height = (max(1, round(side / self._downscale)) for side in shown)
        share = min(1.0, MAX_SIDE_PX / max(width, height))
        return max(1, round(width * share)), max(1, round(height * share))

    def _reduce(self, pixels: np.ndarray) -> np.ndarray:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(
            image if image.size == self._size else image.resize(self._size or image.size, Image.Resampling.BOX)
        )


def _psnr_db(a: np.ndarray, b: np.ndarray) -> float:
    mse = float(np.square((a.astype(np.float32) - b) / 255).mean())
    return round(-10 * math.log10(max(mse, MSE_FLOOR)), 2)


def shown_image(space: LatentSpace, shape: Sequence[int], *, middle: bool) -> int:
    """Index of the image in a decode of the VAE that shows the same frame as the first one of a run's pictures.

    Args:
        space: latent space of the run.
        shape: shape of the sampler's latents, `[B, C, H, W]` or `[B, C, T, H, W]`.
        middle: whether the pictures show the middle frame of a video.
    """
    if not middle or len(shape) != 5:
        return 0
    shown = shape[2] // 2
    # A causal VAE decodes the first latent frame to one image, and each later one to `frame_stride`.
    begin = 1 + (shown - 1) * space.frame_stride if space.causal else shown * space.frame_stride
    return begin + space.frame_stride // 2 if shown else 0


def vae_pixels(image: Any) -> np.ndarray:
    """Converts an image `[H, W, 3]` in 0..1, a tensor on any device, to uint8 pixels."""
    return image.detach().float().mul(255).round().clamp(0, 255).byte().cpu().numpy()
