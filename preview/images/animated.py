"""Encodes a run's frames as a moving picture: WebP, GIF or MP4."""

import importlib.util
import io
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Literal, NamedTuple

from PIL import Image

from ...errors import SinkError

AnimationFormat = Literal["webp", "gif", "mp4"]

MAX_FPS = 50.0  # browsers play a faster GIF, whose frames last one hundredth of a second, at 10 fps
GIF_TICK_MS = 10  # a GIF counts in hundredths of a second
# x264 with little loss, so that previews keep their grain. Every player knows 4:2:0, with a quarter of the colors.
X264 = {"crf": "16", "preset": "medium"}
MP4_PIXELS = "yuv420p"
MAX_DENOMINATOR = 1000  # of a frame rate that is no whole number


class Pace(NamedTuple):
    """Speed of an animation: steps per second, and seconds that the last step is held."""

    fps: float = 8.0
    hold_s: float = 1.5

    def ends_ms(self, frames: int) -> list[float]:
        """End of each frame, in milliseconds from the start; the last frame is held longer if need be."""
        step_ms = 1000 / self.fps
        return [*(step_ms * i for i in range(1, frames)), step_ms * (frames - 1) + max(step_ms, 1000 * self.hold_s)]


Encode = Callable[[Sequence[Image.Image], Pace], bytes]


def as_webp(frames: Sequence[Image.Image], pace: Pace) -> bytes:
    """Encodes an animated WebP."""
    file = io.BytesIO()
    durations = _durations_ms(pace, len(frames), 1)
    options = {"duration": durations, "loop": 0, "quality": 80, "method": 2}
    frames[0].save(file, format="WEBP", save_all=True, append_images=frames[1:], **options)
    return file.getvalue()


def as_gif(frames: Sequence[Image.Image], pace: Pace) -> bytes:
    """Encodes a GIF, each frame with its own 256 colors."""
    file = io.BytesIO()
    reduced = [frame.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    durations = _durations_ms(pace, len(frames), GIF_TICK_MS)
    reduced[0].save(file, format="GIF", save_all=True, append_images=reduced[1:], duration=durations, loop=0)
    return file.getvalue()


def as_mp4(frames: Sequence[Image.Image], pace: Pace) -> bytes:
    """Encodes an H.264 MP4. Odd sizes become even. Needs PyAV, which ComfyUI installs.

    Players may ignore the duration of the last frame, so it is repeated for as long as it is held.
    """
    import av  # pyright: ignore[reportMissingImports]  # imported here: it is slow to import, and few runs end in a movie

    file = io.BytesIO()
    width, height = (side + side % 2 for side in frames[0].size)
    held = max(0, math.ceil(pace.hold_s * pace.fps) - 1)
    with av.open(file, "w", format="mp4") as movie:
        rate = Fraction(pace.fps).limit_denominator(MAX_DENOMINATOR)
        stream = movie.add_stream("libx264", rate=rate, options=X264)
        stream.width, stream.height, stream.pix_fmt = width, height, MP4_PIXELS
        for frame in [*frames, *([frames[-1]] * held)]:
            even = frame if frame.size == (width, height) else frame.resize((width, height), Image.Resampling.BICUBIC)
            movie.mux(stream.encode(av.VideoFrame.from_image(even)))
        movie.mux(stream.encode())
    return file.getvalue()


ENCODES: Mapping[str, Encode] = {"webp": as_webp, "gif": as_gif, "mp4": as_mp4}


def expect_encoder(file_format: str) -> None:
    """Checks that an animation of this format can be encoded here.

    Raises:
        SinkError: MP4 needs PyAV, which is not installed.
    """
    if file_format == "mp4" and importlib.util.find_spec("av") is None:
        raise SinkError(
            "an animation as mp4 needs PyAV, which is missing: pip install safelight[video], or choose webp or gif"
        )


def _durations_ms(pace: Pace, frames: int, tick_ms: int) -> list[int]:
    """Duration of each frame, in multiples of `tick_ms` that do not drift."""
    durations, now = [], 0
    for end in pace.ends_ms(frames):
        ticks = max(1, round((end - now) / tick_ms))
        durations.append(ticks * tick_ms)
        now += ticks * tick_ms
    return durations
