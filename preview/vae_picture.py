"""A step's picture that a host's own VAE decodes, outside the worker."""

import math
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import perf_counter
from typing import final

import torch
from torch import Tensor

from ..decoders.decoder import Card, to_bytes
from ..decoders.latents.space import AUDIO, LatentSpace
from ..errors import LatentsError, SafelightError, describe
from .decode.not_finite import mark_pixels, not_finite_mask, share_of
from .generators import forked_generators
from .picture import DecodedPicture, PictureOf
from .run import FULL
from .snapshot import VIDEO_NDIM, Selection
from .step import Step, StepInfo

PendingPicture = Future[PictureOf | None]  # with None, the worker decodes the step as usual


def ready_picture(picture: PictureOf | None) -> PendingPicture:
    """Returns a pending picture that is already there."""
    pending: PendingPicture = Future()
    pending.set_result(picture)
    return pending


def vae_picture(rgb: Tensor, space: LatentSpace, source: str, fps: float | None, began: float) -> PictureOf:
    """Turns a VAE's output into a picture.

    Args:
        rgb: `[B, 3, T, H, W]`, nominally in 0..1; a pattern marks NaN and infinity.
        space: latent space of the run.
        source: description of the VAE for the record of the run.
        fps: frames per second of the run's video; None if unknown.
        began: `perf_counter()` when the decode began.
    """
    mask = not_finite_mask(rgb)
    rgb = torch.nan_to_num(rgb.float(), nan=0.0).clamp(0, 1)
    pixels = torch.stack([to_bytes(frame) for frame in rgb.unbind(2)], 1).cpu().numpy()
    if mask is not None:
        mark_pixels(pixels, mask)
    height, width = pixels.shape[2:4]
    card = Card(name=FULL, space=space.name, kind=FULL, scale=space.downscale, source=source)
    decode_ms = (perf_counter() - began) * 1000
    share = share_of(mask)
    playing_fps = (fps or space.fps) if pixels.shape[1] > 1 else None

    def of_step(step: StepInfo) -> DecodedPicture:
        return DecodedPicture(
            step=step,
            pixels=pixels,
            shown=(width, height),
            card=card,
            decode_ms=decode_ms,
            not_finite=share,
            fps=playing_fps,
        )

    return of_step


class VaeNotUsableError(SafelightError):
    """The VAE cannot decode this step; the message says why. It becomes a note of the run."""


@final
class VaeSchedule:
    """Decides which steps of a run the host's VAE decodes, and stops using a VAE that failed.

    Call it on the sampler's thread.

    Args:
        every_n_steps: distance between pictures that the VAE decodes, counted in pictures. 0: the last only.
        space: latent space of the run.
        selection: part of a step's latents that is shown.
        note: function that receives a note if a picture cannot come from the VAE.
    """

    def __init__(
        self, every_n_steps: int, space: LatentSpace, selection: Selection, note: Callable[[str], None]
    ) -> None:
        self._every, self._space, self._selection, self._note = every_n_steps, space, selection, note
        self._pictures = 0
        self._failed = False

    def is_due(self, step: Step) -> bool:
        """Counts a picture. Returns whether the VAE should decode it. Call it once for each step with a picture."""
        self._pictures += 1
        return step.index == step.total or (self._every > 0 and self._pictures % self._every == 0)

    def attempt(
        self,
        index: int,
        decode: Callable[[], PictureOf],
        *,
        device: torch.device | None = None,
        interruption: type[BaseException] | tuple[()] = (),
        advice: Callable[[], str] = str,
    ) -> PictureOf | None:
        """Returns what `decode` returns, or None if it raises or a call before did; then the run has a note.

        `VaeNotUsableError` concerns this step only. After any other error the VAE is not used again.

        Args:
            index: number of the step.
            decode: function that runs the VAE. Random numbers that it draws do not change those of the sampler.
            device: device of the VAE; None for the CPU.
            interruption: exception with which the user cancels; it is raised to the caller.
            advice: function that returns what to add to the note about an error.
        """
        if self._failed:
            return None
        try:
            with forked_generators(device):
                return decode()
        except interruption:
            raise
        except VaeNotUsableError as error:
            self._note(str(error))
        except Exception as error:
            self._failed = True
            self._note(f"step {index}: stopped using the VAE: {describe(error)}{advice()}")
            # The traceback refers to the host's frames, they to the error and to the sampler's tensors.
            traceback.clear_frames(error.__traceback__)
        return None

    def try_again(self) -> None:
        """Lets a VAE that failed be used again, because the sampler has returned its memory."""
        self._failed = False

    def select(self, latents: Tensor) -> Tensor:
        """Returns the part of a step's latents that is shown.

        Raises:
            VaeNotUsableError: no VAE decodes it to a picture.
        """
        if self._space.dims == AUDIO:
            raise VaeNotUsableError("VAE preview skipped: audio latents have no image")
        is_video = latents.ndim == VIDEO_NDIM and latents.shape[2] > 1
        if is_video and self._selection.frames == "middle":
            raise VaeNotUsableError(
                "VAE preview skipped: a VAE decodes no middle frame alone; set frames to first or animated"
            )
        return self._selection(latents)

    def picture_bytes(self, shape: Sequence[int]) -> int:
        """Size of a picture that the VAE decodes from latents of this shape; 0 if it does not fit the space."""
        try:
            latents = self._space.unpack(self._selection(torch.empty(tuple(shape), device="meta")))
        except LatentsError:
            return 0
        items, _, frames, *size = latents.shape
        return 3 * items * (1 + (frames - 1) * self._space.frame_stride) * math.prod(size) * self._space.downscale**2
