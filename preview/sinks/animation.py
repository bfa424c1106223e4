"""A run as a moving picture."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, final

from PIL import Image

from ...errors import SinkError
from ..images.thumbnails import Thumbnails
from ..picture import Picture
from ..run import State
from .base import Sink
from .run_folder import RunFolder

MAX_SIDE_PX = 512
MAX_FPS = 50.0  # browsers play a GIF of more, whose frames last one hundredth of a second, at ten
GIF_TICK_MS = 10  # a GIF counts in hundredths of a second


class Pace(NamedTuple):
    """How fast it plays: steps a second, seconds that the last one is held."""

    fps: float = 8.0
    hold_s: float = 1.5

    def ends_ms(self, frames: int) -> list[float]:
        """When each frame goes, in milliseconds from the start; the last one is held beyond its own time if need be."""
        step_ms = 1000 / self.fps
        return [*(step_ms * i for i in range(1, frames)), step_ms * (frames - 1) + max(step_ms, 1000 * self.hold_s)]


PACE = Pace()
Encode = Callable[[Sequence[Image.Image], Pace], bytes]


def as_webp(frames: Sequence[Image.Image], pace: Pace) -> bytes:
    """An animated WebP."""
    file = io.BytesIO()
    lasting = _durations_ms(pace, len(frames), 1)
    told = {"duration": lasting, "loop": 0, "quality": 80, "method": 2}
    frames[0].save(file, format="WEBP", save_all=True, append_images=frames[1:], **told)
    return file.getvalue()


def as_gif(frames: Sequence[Image.Image], pace: Pace) -> bytes:
    """A GIF, each frame with the 256 colours that suit it."""
    file = io.BytesIO()
    few = [frame.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    lasting = _durations_ms(pace, len(frames), GIF_TICK_MS)
    few[0].save(file, format="GIF", save_all=True, append_images=few[1:], duration=lasting, loop=0)
    return file.getvalue()


ENCODES: Mapping[str, Encode] = {"webp": as_webp, "gif": as_gif}


@final
class Animation(Sink):
    """Writes `steps.webp` when the run has ended: one frame a step, the last one held.

    Of a batch, all pictures side by side; of a video, each step's first frame.

    Args:
        folder: of the run.
        pace: how fast.
        file_format: one of `encodes`.
        encodes: what makes the bytes of a file, by its ending.
        from_step, to_step: the first and the last step that are in it; 0 for no limit.
        limit: frames at most; of a longer run every other one is left out, as often as needed.

    Raises:
        SinkError: no encoder is there for the format, or the steps end before they begin.
    """

    name = "animation"

    def __init__(
        self,
        folder: RunFolder,
        pace: Pace = PACE,
        *,
        file_format: str = "webp",
        encodes: Mapping[str, Encode] = ENCODES,
        from_step: int = 0,
        to_step: int = 0,
        limit: int = 120,
    ) -> None:
        check(file_format, from_step, to_step, encodes)
        self._folder, self._pace = folder, pace
        self._file, self._encode = f"steps.{file_format}", encodes[file_format]
        self._from, self._to = from_step, to_step
        self._pictures = Thumbnails(limit, MAX_SIDE_PX)
        self._shown = (MAX_SIDE_PX, MAX_SIDE_PX)
        self._seen = 0

    def open(self) -> None:
        pass

    def show(self, picture: Picture) -> None:
        self._seen = max(self._seen, picture.index)
        if self._from <= picture.index and (not self._to or picture.index <= self._to):
            self._pictures.add(picture)
            self._shown = self._pictures.laid(picture.shown)

    def close(self, state: State) -> None:
        kept = self._pictures.all()
        if not kept:
            if self._seen:
                wanted = f"{self._from or 1} to {self._to}" if self._to else f"{self._from} on"
                self._folder.run.note(f"no animation: of steps {wanted} there is no picture; the last is {self._seen}")
            return
        longer = max(self._shown)
        width, height = (max(1, round(side * min(1.0, MAX_SIDE_PX / longer))) for side in self._shown)
        frames = [one.image.resize((width, height), Image.Resampling.BICUBIC) for one in kept]
        self._folder.write(self._file, self._encode(frames, self._pace))
        self._folder.announce(animation=self._file)


def check(file_format: str, from_step: int, to_step: int, encodes: Mapping[str, Encode] = ENCODES) -> None:
    """Refuses in words what could not be made.

    Raises:
        SinkError: no encoder is there for the format, or the steps end before they begin.
    """
    if file_format not in encodes:
        raise SinkError(f"an animation as {file_format} cannot be made here; choose {' or '.join(encodes)}")
    if to_step and from_step > to_step:
        raise SinkError(
            f"an animation from step {from_step} to step {to_step} has no frames; "
            "let it end at a later step, or at 0 for the last"
        )


def _durations_ms(pace: Pace, frames: int, tick_ms: int) -> list[int]:
    """How long each frame is seen, in multiples of `tick_ms` that do not drift."""
    lasting, now = [], 0
    for end in pace.ends_ms(frames):
        ticks = max(1, round((end - now) / tick_ms))
        lasting.append(ticks * tick_ms)
        now += ticks * tick_ms
    return lasting
