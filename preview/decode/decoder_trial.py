"""Tries, after a run, decoder files whose latent space is not settled: on its finished latents, on the CPU."""

import logging
import math
from collections.abc import Callable
from time import perf_counter
from typing import ClassVar, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...decoders.agreement import ENOUGH_PICTURES, Agreement, compare_pictures
from ...decoders.catalogue import Candidate, Catalogue, Unusable
from ...decoders.files.read_cache import FileStamp
from ...decoders.latents.space import AUDIO, LatentSpace
from ...decoders.memory_estimate import estimate_memory
from ...decoders.trial_records import sha256_of
from ...errors import DecoderFileError, SafelightError, describe
from .memory_budget import MB

MAX_SECONDS = 2.0  # after which no further file is tried
MAX_MULTIPLICATIONS = 30e9  # of one decode: about a second on two cores
MIN_SIDE, MAX_SIDE = 8, 64  # latent pixels of the part that is decoded
MAX_BYTES = 512 * MB
FAILED = Agreement(ENOUGH_PICTURES)  # of a decoder that cannot decode: it agrees by 0

log = logging.getLogger("safelight.preview")


@final
class DecoderTrial:
    """Tries files on the finished latents of one run. Only the worker uses it.

    A file of whatever name may decode any space with its channels. Its picture decides, not its name.

    Args:
        catalogue: available decoders. Its first folder remembers the results.
        space: latent space of the run.
        note: function that receives what the user should know about a file.
        vae: fingerprint of the run's VAE; None if unknown.
        clock: function that returns seconds.
    """

    name: ClassVar[str] = "the trial of decoder files"

    def __init__(
        self,
        catalogue: Catalogue,
        space: LatentSpace,
        note: Callable[[str], None],
        vae: str | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._catalogue, self._space, self._note, self._vae, self._clock = catalogue, space, note, vae, clock
        self._latents: Tensor | None = None
        self._right: Tensor | None = None

    def note_unusable(self) -> None:
        """Notes files of the user that are not used, each of them once: the first folder remembers it."""
        noted = self._catalogue.trials().noted
        found = [*self._catalogue.unusable(), *self._catalogue.refused(self._space)]
        new = {key: file for file in found if not file.is_encoder and (key := _key(file)) not in noted}
        if not new:
            return
        try:
            self._catalogue.save_trials(lambda trials: trials.with_noted(new))
        except OSError as error:  # a note that cannot be remembered would come with every run
            log.debug("decoder files are not noted: %s", error)
            return
        for file in new.values():
            self._note(f"the decoder file {file.file.name} is not used. {file.reason}")

    def take(self, latents: Tensor, by_vae: np.ndarray | None = None) -> None:
        """Copies a part of finished latents, for `run`.

        Args:
            latents: latents `[B, C, T, H, W]` in model space. The first frame of the first item is used.
            by_vae: the VAE's picture of them, `[H, W, 3]` uint8; None for a comparison with a known decoder.
        """
        if self._space.dims == AUDIO:
            return
        first = latents[:1, :, 0].detach().float().cpu()
        self._latents = _middle(first, MAX_SIDE).clone()
        if by_vae is not None:
            rgb = torch.from_numpy(by_vae).movedim(-1, 0)[None].float() / 255
            self._right = _middle(_pooled(rgb, first), MAX_SIDE)

    def run(self) -> None:
        """Tries the files that may decode these latents, while the time allows, and remembers the results."""
        if self._latents is None or not self._latents.isfinite().all():
            return
        began = self._clock()
        for candidate in self._catalogue.unproven(self._space):
            if self._clock() - began > MAX_SECONDS or (known := self._known()) is None:
                return
            self._try(candidate, self._latents, known)

    def _known(self) -> Tensor | None:
        """The picture that is known to be right, at the size of the latents; None if there is none."""
        if self._right is None and self._latents is not None:
            reference = self._catalogue.reference(self._space, self._vae)
            if reference is None:
                return None
            self._right = _pooled(reference.open().decode(self._latents), self._latents)
        return self._right

    def _try(self, candidate: Candidate, latents: Tensor, known: Tensor) -> None:
        side = _affordable_side(candidate, latents)
        if candidate.file is None or not side:
            return
        try:
            stamp, sha256 = FileStamp.of(candidate.file), sha256_of(candidate.file)
            agreement = _agreement(candidate, _middle(latents, side), _middle(known, side))
            unchanged = FileStamp.of(candidate.file) == stamp
        except (DecoderFileError, OSError) as error:
            log.debug("%s was not tried: %s", candidate.name, error)
            return
        if agreement is None or not unchanged:
            return
        self._catalogue.save_trials(
            lambda trials: trials.with_trial(sha256, candidate.name, stamp.size, self._space.name, agreement)
        )
        found = self._catalogue.trials().of(candidate.file).get(self._space.name)
        if found is not None and found.is_of_space is not None:
            verdict = "is used" if found.is_of_space else "is not used"
            log.info("%s %s for %s: it agrees by %.2f", candidate.name, verdict, self._space.title, found.value)


def _agreement(candidate: Candidate, latents: Tensor, known: Tensor) -> Agreement | None:
    """Compares the picture of a candidate with the known one; None if they prove nothing.

    Raises:
        DecoderFileError: the file cannot be opened.
    """
    decoder = candidate.open()
    try:
        rgb = decoder.decode(latents)
    except (SafelightError, RuntimeError) as error:
        log.debug("%s cannot decode: %s", candidate.name, describe(error))
        return FAILED
    return compare_pictures(rgb, known, (latents.shape[2], latents.shape[3]))


def _affordable_side(candidate: Candidate, latents: Tensor) -> int:
    """Side of a part of `latents` that the decoder decodes within the bounds of work and memory; 0 if none is."""
    side = min(MAX_SIDE, math.isqrt(int(MAX_MULTIPLICATIONS // max(1, candidate.card.cost))))
    while side >= MIN_SIDE:
        part = _middle(latents, side)
        if sum(estimate_memory(candidate.card, (1, part.shape[1], 1, *part.shape[2:]))) <= MAX_BYTES:
            return side
        side //= 2
    return 0


def _pooled(rgb: Tensor, latents: Tensor) -> Tensor:
    """Makes a picture as small as its latents."""
    return F.adaptive_avg_pool2d(rgb, (latents.shape[2], latents.shape[3]))


def _middle(x: Tensor, side: int) -> Tensor:
    """The middle of `x` `[B, C, H, W]`, at most `side` high and wide."""
    rows, columns = (min(length, side) for length in x.shape[2:])
    top, left = (x.shape[2] - rows) // 2, (x.shape[3] - columns) // 2
    return x[:, :, top : top + rows, left : left + columns]


def _key(file: Unusable) -> str:
    try:
        return f"{file.file.name}, {file.file.stat().st_size} bytes"
    except OSError:
        return file.file.name
