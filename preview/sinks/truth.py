"""Measures how true the pictures of a run are: against its last picture, and against the VAE's when that exists."""

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np
from PIL import Image

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
    """

    name = "the truth meter"
    delivery = Delivery.NEWEST

    def __init__(
        self,
        run: Run,
        downscale: int,
        folders: Sequence[RunFolder] = (),
        report: Callable[[float], object] = lambda _: None,
    ) -> None:
        self._run, self._downscale, self._folders, self._report = run, downscale, tuple(folders), report
        self._lock = threading.Lock()  # the VAE's picture arrives on another thread
        self._size: tuple[int, int] | None = None
        self._steps: dict[int, np.ndarray] = {}
        self._decoder: str | None = None
        self._vae: np.ndarray | None = None

    def show(self, picture: DecodedPicture) -> None:
        if picture.show != "denoised" or picture.not_finite:
            return
        with self._lock:
            self._size = self._size or self._latent_size(picture.shown)
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
        """Compares the run with the VAE's picture of its finished latents. Any thread may call it, once the run ended.

        Args:
            pixels: picture `[H, W, 3]` uint8, sRGB.
        """
        with self._lock:
            if self._size is None:
                return
            self._vae = self._reduce(pixels)
        self._measure()
        self._save()
        truth = self._run.truth or {}
        if truth.get("psnr_db") is not None:
            self._report(truth["psnr_db"])

    def _measure(self) -> None:
        with self._lock:
            if not self._steps:
                return
            last_index, last = next(reversed(self._steps.items()))
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


def vae_pixels(image: Any) -> np.ndarray:
    """Converts an image `[H, W, 3]` in 0..1, a tensor on any device, to uint8 pixels."""
    return image.detach().float().mul(255).round().clamp(0, 255).byte().cpu().numpy()
