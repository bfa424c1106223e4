"""Latents become pixels."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from ...decoders.catalogue import Candidate, last_resort
from ...decoders.decoder import Decoder, to_bytes
from ...decoders.latents.space import AUDIO, LatentSpace
from ...decoders.ranking import LIGHT
from ..snapshot import to_host
from .decoder_cache import DecoderCache
from .memory_budget import DEVICE_BYTES, decoding_bytes
from .plan import CPU, DecodePlan, free_bytes, plan_decode

MB = 1 << 20
DECODER_CACHE = DecoderCache()  # of this process; a second copy of this pack has another
MAX_PLANS = 8  # an upscaler's tiles have few shapes
REST_STEPS = 10  # that a device is left alone once its memory ran out
MAX_BYTES = 512 << 20  # of a step's pixels: five seconds of 720p are half of it


class DecodedPixels(NamedTuple):
    """`pixels` `[B, T, H, W, 3]` uint8, the width and height of the final image they stand for, and the frames a second
    they are to be played at; None for a still, or where nobody knows.
    """

    pixels: np.ndarray
    shown: tuple[int, int]
    fps: float | None


class DecodedFrames(NamedTuple):
    """`pixels` `[B, T, H, W, 3]` uint8, of how many frames they hold one, and the decoder's own `stride`."""

    pixels: np.ndarray
    every: int
    stride: int


@final
class DecodeWorker:
    """Develops a run's latents with one decoder, and with the next best when that is given up.

    Nothing is looked up or opened before the first latents come, and then by the thread that develops them: the sampler
    reads no files. What decodes, where and how much at once is thought out once for each shape. Where no memory is left
    for a preview, the CPU makes the next few with a light decoder.

    Args:
        space: of the latents.
        candidates: gives the decoders to try, best first.
        tell: is told, once, that memory ran out; so it is that frames, or a decoder that takes too much, were left out.
        fps: frames per second of the run's video, where the host says so; None: as the space's models make them.
        max_bytes: of a step's pixels; of a video that has more, every other frame is left out, as often as needed.
        device_bytes: gives what a preview may take of a device's memory; asked for once, by whoever develops.
        opened: the decoders that are open.
    """

    def __init__(
        self,
        space: LatentSpace,
        candidates: Callable[[], Sequence[Candidate]],
        tell: Callable[[str], None] = lambda _: None,
        *,
        fps: float | None = None,
        max_bytes: int = MAX_BYTES,
        device_bytes: Callable[[], int] = lambda: DEVICE_BYTES,
        opened: DecoderCache = DECODER_CACHE,
    ) -> None:
        self._space = space
        self._video_fps = fps or space.fps
        self._ask = candidates
        self._tell = tell
        self._told: set[str] = set()
        self._max_bytes = max_bytes
        self._ask_device_bytes, self._room = device_bytes, 0
        self._opened = opened
        self._candidates: list[Candidate] | None = None
        self._in_use: Candidate | None = None
        self._decoder: Decoder | None = None
        self._plans: dict[object, tuple[DecodePlan, Decoder]] = {}
        self._rest = 0

    @property
    def has_decoder(self) -> bool:
        """Whether one is left, or nobody has asked yet."""
        return self._candidates is None or bool(self._candidates)

    def decoder(self) -> Decoder:
        """The decoder in use; before the first latents came, the best, looked up and opened."""
        return self._decoder or self._opened.take(self._at_hand()[0], CPU)

    def give_up(self) -> str:
        """Leaves the decoder in use for the next one; what was given up, for people."""
        if not self._candidates or self._in_use is None:
            return "looking for a decoder"
        candidate = self._in_use
        self._candidates.remove(candidate)
        self._plans.clear()
        self._decoder = None
        return f"decoder {candidate.name}"

    def unpack(self, latents: Tensor) -> Tensor:
        """A sampler's `latents`, laid out as the sampler has them, as `[B, C, T, H, W]`.

        Raises:
            LatentsError: they do not have the shape of the run's latent space.
        """
        return self._space.unpack(latents)

    def develop(self, latents: Tensor) -> DecodedPixels:
        """Pixels of `latents` `[B, C, T, H, W]`."""
        self._rest = max(0, self._rest - 1)
        decoded = self._decode_or_rest(latents)
        # Only now: what failed would hold on to its memory while the error was at hand.
        pixels, every, stride = decoded if decoded is not None else self._decode(latents)
        height, width = latents.shape[3:]
        scale = self._space.downscale
        shown = (pixels.shape[3], pixels.shape[2]) if self._space.dims == AUDIO else (width * scale, height * scale)
        return DecodedPixels(pixels, shown, self._fps(stride, every) if pixels.shape[1] > 1 else None)

    def _decode_or_rest(self, latents: Tensor) -> DecodedFrames | None:
        """None where memory ran out, and the device is left alone from now on."""
        try:
            return self._decode(latents)
        except RuntimeError as error:
            light = self._in_use is not None and self._in_use.card.cost <= LIGHT
            as_little_as_can_be = latents.device.type == "cpu" and light
            if as_little_as_can_be or self._rest or not _is_out_of_memory(error):
                raise
        self._leave_alone(latents.device)
        return None

    def _decode(self, latents: Tensor) -> DecodedFrames:
        plan, decoder = self._planned(latents)
        latents = latents.to(plan.device)
        # Of large pictures one after the other, as of frames.
        parts = [
            self._frames(decoder, part, plan.pictures, self._max_bytes // len(latents))
            for part in latents.split(plan.pictures)
        ]
        every = parts[0][1]
        if every > 1:
            self._say("frames", f"this video is long: one frame of {every} is shown; all would take too much memory")
        return DecodedFrames(np.concatenate([pixels for pixels, _ in parts]), every, decoder.stride)

    def _planned(self, latents: Tensor) -> tuple[DecodePlan, Decoder]:
        key = (latents.shape, latents.device, self._rest > 0)
        if key not in self._plans:
            if len(self._plans) >= MAX_PLANS:
                self._plans.clear()
            self._plans[key] = self._plan(latents)
        decided, self._decoder = self._plans[key]
        self._in_use = decided.candidate
        return decided, self._decoder

    def _plan(self, latents: Tensor) -> tuple[DecodePlan, Decoder]:
        candidates = self._at_hand()
        self._in_use = candidates[0]
        decided = plan_decode(candidates, latents.shape, CPU if self._rest else latents.device, self._room)
        self._in_use = decided.candidate
        if decided.without:
            (wanted, needs), limit = decided.without, self._room // MB
            self._say(
                wanted.name,
                f"{wanted.name} would take {needs / MB:,.0f} MB of {latents.device} for a picture of this size, more "
                f"than the {limit:,} MB that previews may take to decode: {decided.candidate.name} shows this run "
                "instead",
            )
        free = free_bytes(decided.device)
        if free is not None and decided.needs > free:
            raise torch.cuda.OutOfMemoryError(f"out of memory: {free / MB:,.0f} MB are free on {decided.device}")
        return decided, self._opened.take(decided.candidate, decided.device)

    def _frames(self, decoder: Decoder, latents: Tensor, pictures: int, max_bytes: int) -> tuple[np.ndarray, int]:
        """Pixels, at most `max_bytes` of each item, and of how many frames they hold one."""
        frames: list[np.ndarray] = []
        every = 1
        # What knows time wants all of it; its own frames come one by one.
        some = latents.shape[2] if decoder.stride > 1 else max(1, pictures // len(latents))
        made = (rgb for part in latents.split(some, dim=2) for rgb in decoder.frames(part))
        for i, rgb in enumerate(made):
            if i % every:
                continue
            frames.append(to_host(to_bytes(rgb)))
            if len(frames) > 1 and len(frames) * frames[0].nbytes > max_bytes * len(latents):
                frames, every = frames[::2], every * 2
        return np.stack(frames, axis=1), every

    def _fps(self, stride: int, every: int) -> float | None:
        """A decoder that knows no time makes one frame of what will be `frame_stride` of them."""
        if self._video_fps is None:
            return None
        return self._video_fps * stride / self._space.frame_stride / every

    def _at_hand(self) -> list[Candidate]:
        """The decoders to try; while the device rests, light ones first."""
        if self._candidates is None:
            # Whatever comes of asking: once; and only then, since other threads look whether one is left.
            try:
                found, self._room = list(self._ask()), decoding_bytes(self._ask_device_bytes())
            except BaseException:
                self._candidates = [last_resort(self._space)]
                raise
            self._candidates = found
        if not self._rest:
            return self._candidates
        return sorted(self._candidates, key=lambda candidate: candidate.card.cost > LIGHT)

    def _leave_alone(self, device: torch.device) -> None:
        self._rest = REST_STEPS + 1
        self._plans.clear()
        self._decoder = None
        self._opened.let_go(device)
        self._say("memory", f"no memory was left on {device} for a preview: the CPU makes the next {REST_STEPS}")

    def _say(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._tell(text)


def _is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has a class for it, other devices say it in words."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error).lower()
