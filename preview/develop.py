"""Latents become pixels."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from ..decoders.catalogue import Candidate
from ..decoders.decoder import Decoder, to_bytes
from ..decoders.merit import LIGHT
from ..decoders.net import FRAME_PIXELS
from ..decoders.spaces import AUDIO, LatentSpace
from .snapshot import to_host

REST_STEPS = 10  # that a device is left alone once its memory ran out
MAX_BYTES = 512 << 20  # of a step's pixels: five seconds of 720p are half of it


class Developed(NamedTuple):
    """`pixels` `[B, T, H, W, 3]` uint8, the width and height of the final image they stand for, and the frames a second
    they are to be played at; None for a still, or where nobody knows.
    """

    pixels: np.ndarray
    shown: tuple[int, int]
    fps: float | None


@final
class Developer:
    """Develops a run's latents with one decoder, and with the next best when that is given up.

    Nothing is looked up or opened before the first latents come, and then by the thread that develops them: the sampler
    reads no files. Where no memory is left for a preview, the CPU makes the next few with a light decoder.

    Args:
        space: of the latents.
        candidates: gives the decoders to try, best first.
        tell: is told, once, that memory ran out; so it is that frames were left out.
        fps: frames per second of the run's video, where the host says so; None: as the space's models make them.
        max_bytes: of a step's pixels; of a video that has more, every other frame is left out, as often as needed.
    """

    def __init__(
        self,
        space: LatentSpace,
        candidates: Callable[[], Sequence[Candidate]],
        tell: Callable[[str], None] = lambda _: None,
        *,
        fps: float | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._space = space
        self._video_fps = fps or space.fps
        self._ask = candidates
        self._tell: Callable[[str], None] | None = tell
        self._tell_of_frames: Callable[[str], None] | None = tell
        self._max_bytes = max_bytes
        self._candidates: list[Candidate] | None = None
        self._open: dict[str, Decoder] = {}
        self._rest = 0

    @property
    def has_decoder(self) -> bool:
        """Whether one is left, or nobody has asked yet."""
        return self._candidates is None or bool(self._candidates)

    def decoder(self) -> Decoder:
        """The decoder in use, looked up and opened if need be."""
        candidate = self._in_use()
        if candidate.name not in self._open:
            self._open[candidate.name] = candidate.open()
        return self._open[candidate.name]

    def give_up(self) -> str:
        """Leaves the decoder in use for the next one; what was given up, for people."""
        if not self._candidates:
            return "looking for a decoder"
        candidate = self._in_use()
        self._candidates.remove(candidate)
        self._open.pop(candidate.name, None)
        return f"decoder {candidate.name}"

    def unpack(self, latents: Tensor) -> Tensor:
        """A sampler's `latents`, laid out as the sampler has them, as `[B, C, T, H, W]`.

        Raises:
            LatentsError: they do not have the shape of the run's latent space.
        """
        return self._space.unpack(latents)

    def develop(self, latents: Tensor) -> Developed:
        """Pixels of `latents` `[B, C, T, H, W]`."""
        self._rest = max(0, self._rest - 1)
        try:
            pixels, every = self._decode(latents)
        except RuntimeError as error:
            as_little_as_can_be = latents.device.type == "cpu" and self._in_use().card.cost <= LIGHT
            if as_little_as_can_be or self._rest or not _is_out_of_memory(error):
                raise
            self._leave_alone(latents.device)
            pixels, every = self._decode(latents)
        height, width = latents.shape[3:]
        scale = self._space.downscale
        shown = (pixels.shape[3], pixels.shape[2]) if self._space.dims == AUDIO else (width * scale, height * scale)
        return Developed(pixels, shown, self._fps(every) if pixels.shape[1] > 1 else None)

    def _decode(self, latents: Tensor) -> tuple[np.ndarray, int]:
        """The pixels, and of how many frames they hold one."""
        if self._rest:
            latents = latents.cpu()
        decoder = self.decoder().to(latents.device)
        height, width = latents.shape[3:]
        # Of large pictures one after the other, as of frames.
        some = max(1, FRAME_PIXELS // (height * width * decoder.scale**2))
        parts = [self._frames(decoder, part, self._max_bytes // len(latents)) for part in latents.split(some)]
        every = parts[0][1]
        if every > 1 and self._tell_of_frames:
            self._tell_of_frames(f"this video is long: one frame of {every} is shown; all would take too much memory")
            self._tell_of_frames = None
        return np.concatenate([pixels for pixels, _ in parts]), every

    def _frames(self, decoder: Decoder, latents: Tensor, max_bytes: int) -> tuple[np.ndarray, int]:
        """Pixels, at most `max_bytes` of each item, and of how many frames they hold one."""
        frames: list[np.ndarray] = []
        every = 1
        for i, rgb in enumerate(decoder.frames(latents)):
            if i % every:
                continue
            frames.append(to_host(to_bytes(rgb)))
            if len(frames) > 1 and len(frames) * frames[0].nbytes > max_bytes * len(latents):
                frames, every = frames[::2], every * 2
        return np.stack(frames, axis=1), every

    def _fps(self, every: int) -> float | None:
        """A decoder that knows no time makes one frame of what will be `frame_stride` of them."""
        if self._video_fps is None:
            return None
        return self._video_fps * self.decoder().stride / self._space.frame_stride / every

    def _in_use(self) -> Candidate:
        if self._candidates is None:
            found: list[Candidate] = []
            try:
                found = list(self._ask())
            finally:  # whatever comes of asking: once; and only then, since other threads look whether one is left
                self._candidates = found
        light = (candidate for candidate in self._candidates if candidate.card.cost <= LIGHT)
        return next(light, self._candidates[0]) if self._rest else self._candidates[0]

    def _leave_alone(self, device: torch.device) -> None:
        self._rest = REST_STEPS + 1
        for decoder in self._open.values():
            decoder.to("cpu")
        if self._tell:
            self._tell(f"no memory was left on {device} for a preview: the CPU makes the next {REST_STEPS}")
            self._tell = None


def _is_out_of_memory(error: RuntimeError) -> bool:
    """CUDA has a class for it, other devices say it in words."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error).lower()
