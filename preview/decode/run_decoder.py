"""Decodes the steps of a run into pixels."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from ...decoders.catalogue import Candidate, last_resort
from ...decoders.decoder import Card, Decoder, to_bytes
from ...decoders.latents.space import AUDIO, LatentSpace
from ...decoders.later_frames import as_first_frames, later_frame_as_first
from ...decoders.memory_estimate import estimate_memory
from ...decoders.ranking import LIGHT
from ...errors import LatentsError
from ..device_streams import free_bytes
from ..picture import DecodedPicture
from ..snapshot import GivenFrames, to_host
from ..step import StepInfo
from .decoder_cache import DecoderCache
from .memory_budget import DEVICE_BYTES, MB, decoding_bytes
from .not_finite import mark_pixels, not_finite_mask, share_of, without_not_finite
from .plan import CPU, DecodePlan, plan_decode

DECODER_CACHE = DecoderCache()  # of this process; a second copy of this pack has its own
MAX_PLANS = 8  # an upscaler's tiles have few shapes
REST_STEPS = 10  # steps decoded on the CPU after a device ran out of memory
MAX_PIXEL_BYTES = 512 * MB  # for one step: five seconds of 720p video take half of it


class Frames(NamedTuple):
    """`pixels` `[B, T, H, W, 3]` uint8, which hold one of `every` frames; the decoder's `card` and time `stride`.

    `not_finite` is the share of the latents that are NaN or infinite.
    """

    pixels: np.ndarray
    every: int
    card: Card
    stride: int
    not_finite: float


@final
class RunDecoder:
    """Decodes a run's latents with one decoder, and with the next best one after that is dropped.

    Nothing is looked up or opened before the first latents arrive, and then on the worker: the sampler's thread reads
    no files. Decoder, device and chunk size are planned once for each shape. If a device has no memory for a preview,
    the CPU decodes the next few steps with a light decoder.

    Args:
        space: latent space of the run.
        candidates: function that returns the decoders to try, best first.
        notify: receives, once each, that memory ran out, that frames are skipped, or that a decoder is too large.
        frames: frames of a video that the latents hold.
        fps: frames per second of the run's video; None for the rate that models of the space generate.
        max_bytes: limit for a step's pixels; frames of a longer video are skipped.
        device_bytes: function that returns how much of a device's memory previews may use; the worker calls it once.
        cache: open decoders.

    Attributes:
        needs_bytes: estimated memory of the largest decode so far, with the decoder's weights.
        device: device of the last decode; None before the first one.
    """

    def __init__(
        self,
        space: LatentSpace,
        candidates: Callable[[], Sequence[Candidate]],
        notify: Callable[[str], None] = lambda _: None,
        *,
        frames: GivenFrames = GivenFrames.ALL,
        fps: float | None = None,
        max_bytes: int = MAX_PIXEL_BYTES,
        device_bytes: Callable[[], int] = lambda: DEVICE_BYTES,
        cache: DecoderCache = DECODER_CACHE,
    ) -> None:
        self._space = space
        self._frames = frames
        self._shown = slice(-1, None) if frames is GivenFrames.FIRST_AND_SHOWN else slice(None)
        self._video_fps = fps or space.fps
        self._find_candidates = candidates
        self._notify = notify
        self._notified: set[str] = set()
        self._max_bytes = max_bytes
        self._ask_device_bytes, self._budget = device_bytes, 0
        self._cache = cache
        self._candidates: list[Candidate] | None = None
        self._in_use: Candidate | None = None
        self._plans: dict[object, tuple[DecodePlan, Decoder]] = {}
        self._rest = 0
        self.needs_bytes = 0
        self.device: torch.device | None = None

    @property
    def has_decoder(self) -> bool:
        """Whether a decoder is left to try."""
        return self._candidates is None or bool(self._candidates)

    def drop(self) -> str:
        """Stops using the current decoder. Returns its description for the user."""
        if not self._candidates or self._in_use is None:
            self._candidates = self._candidates or []  # an error before the search would be repeated forever
            return "the search for a decoder"
        candidate = self._in_use
        self._candidates.remove(candidate)
        self._plans.clear()
        return f"decoder {candidate.name}"

    def unpack(self, latents: Tensor) -> Tensor:
        """Converts latents from the sampler's layout to `[B, C, T, H, W]`.

        Raises:
            LatentsError: the shape does not fit the run's latent space, or the tensor has no values.
        """
        if latents.is_meta:
            raise LatentsError("expected latents with values, got a meta tensor; check the sampler")
        return self._space.unpack(latents)

    def decode(self, latents: Tensor, step: StepInfo) -> DecodedPicture:
        """Decodes the latents `[B, C, T, H, W]` of a step."""
        began = perf_counter()
        self._rest = max(0, self._rest - 1)
        frames = self._decode_or_rest(latents)
        if frames is None:  # decoded only here, when the memory that the error held is free
            frames = self._decode(latents)
        pixels = frames.pixels
        height, width = latents.shape[3:]
        scale = self._space.downscale
        return DecodedPicture(
            step=step,
            pixels=pixels,
            shown=(pixels.shape[3], pixels.shape[2]) if self._space.dims == AUDIO else (width * scale, height * scale),
            card=frames.card,
            decode_ms=(perf_counter() - began) * 1000,
            not_finite=frames.not_finite,
            fps=self._fps(frames) if pixels.shape[1] > 1 else None,
        )

    def _decode_or_rest(self, latents: Tensor) -> Frames | None:
        """Returns None if memory ran out; the device then rests for some steps."""
        try:
            return self._decode(latents)
        except RuntimeError as error:
            light = self._in_use is not None and self._in_use.card.cost <= LIGHT
            smallest_possible = latents.device.type == "cpu" and light
            if smallest_possible or self._rest or not _is_out_of_memory(error):
                raise
        self._start_rest(latents.device)
        return None

    def _decode(self, latents: Tensor) -> Frames:
        plan, decoder = self._planned(latents[:, :, self._shown])
        self.device = plan.device
        latents = latents.to(plan.device)
        mask = not_finite_mask(latents)
        if mask is not None:
            latents, mask = without_not_finite(latents), mask[:, self._shown]
        if self._frames is GivenFrames.ONE_LATER:
            latents = later_frame_as_first(latents, self._space)
        elif self._frames is GivenFrames.FIRST_AND_SHOWN or decoder.stride == 1:
            # A decoder that knows time knows the later frames, too, but takes a single one for the first.
            latents = as_first_frames(latents, self._space)
        latents = latents[:, :, self._shown]
        # Large pictures are decoded one after the other, as frames are.
        parts = [
            self._decode_frames(decoder, part, plan.pictures, self._max_bytes // len(latents))
            for part in latents.split(plan.pictures)
        ]
        every = parts[0][1]
        if every > 1:
            self._notify_once(
                "frames", f"this video is long: one of {every} frames is shown; all would use too much memory"
            )
        pixels = np.concatenate([pixels for pixels, _ in parts])
        if mask is not None:
            mark_pixels(pixels, mask)
        return Frames(pixels, every, plan.candidate.card, decoder.stride, share_of(mask))

    def _planned(self, latents: Tensor) -> tuple[DecodePlan, Decoder]:
        key = (latents.shape, latents.device, self._rest > 0)
        if key not in self._plans:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[key] = self._plan(latents)
        plan, decoder = self._plans[key]
        self._in_use = plan.candidate
        return plan, decoder

    def _plan(self, latents: Tensor) -> tuple[DecodePlan, Decoder]:
        candidates = self._ranked_candidates()
        self._in_use = candidates[0]
        plan = plan_decode(candidates, latents.shape, CPU if self._rest else latents.device, self._budget)
        self._in_use = plan.candidate
        if plan.too_large:
            (wanted, needs), limit = plan.too_large, self._budget // MB
            self._notify_once(
                wanted.name,
                f"{plan.candidate.name} shows this run: {wanted.name} needs {needs / MB:,.0f} MB on {latents.device} "
                f"for a picture of this size, more than the {limit:,} MB that previews may use to decode",
            )
        free = free_bytes(plan.device)
        if free is not None and plan.needs > free:
            raise torch.cuda.OutOfMemoryError(f"out of memory: {free / MB:,.0f} MB are free on {plan.device}")
        weights, work = estimate_memory(plan.candidate.card, latents.shape)
        pictures = min(plan.pictures, latents.shape[0] * latents.shape[2])
        self.needs_bytes = max(self.needs_bytes, weights + pictures * work)
        return plan, self._cache.take(plan.candidate, plan.device)

    def _decode_frames(
        self, decoder: Decoder, latents: Tensor, pictures: int, max_bytes: int
    ) -> tuple[np.ndarray, int]:
        """Decodes at most `max_bytes` of pixels for each item. Returns them and the distance between their frames."""
        frames: list[np.ndarray] = []
        every = 1
        # A decoder that knows time needs all frames in one call; it yields its output frame by frame.
        chunk = latents.shape[2] if decoder.stride > 1 else max(1, pictures // len(latents))
        decoded = (rgb for part in latents.split(chunk, dim=2) for rgb in decoder.frames(part))
        for i, rgb in enumerate(decoded):
            if i % every:
                continue
            frames.append(to_host(to_bytes(rgb)))
            if len(frames) > 1 and len(frames) * frames[0].nbytes > max_bytes * len(latents):
                frames, every = frames[::2], every * 2
        return np.stack(frames, axis=1), every

    def _fps(self, frames: Frames) -> float | None:
        """A decoder without time outputs one frame for `frame_stride` frames of the final video."""
        if self._video_fps is None:
            return None
        return self._video_fps * frames.stride / self._space.frame_stride / frames.every

    def _ranked_candidates(self) -> list[Candidate]:
        """The decoders to try; light ones first while the device rests."""
        if self._candidates is None:
            # Looked up once, whatever happens, and assigned at the end: other threads read whether a decoder is left.
            try:
                found, self._budget = list(self._find_candidates()), decoding_bytes(self._ask_device_bytes())
            except BaseException:
                self._candidates = [last_resort(self._space)]
                raise
            self._candidates = found
        if not self._rest:
            return self._candidates
        return sorted(self._candidates, key=lambda candidate: candidate.card.cost > LIGHT)

    def _start_rest(self, device: torch.device) -> None:
        self._rest = REST_STEPS + 1
        self._plans.clear()
        self._cache.release(device)
        self._notify_once(
            "memory", f"no memory was left on {device} for a preview: the CPU decodes the next {REST_STEPS} steps"
        )

    def _notify_once(self, topic: str, text: str) -> None:
        if topic not in self._notified:
            self._notified.add(topic)
            self._notify(text)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has an error class for it; other devices say it in the message."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error).lower()
