"""Encodes a run's frames as a moving picture: WebP, GIF or MP4."""

import importlib.util
import io
import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from PIL import Image

from ...errors import SinkError
from .encode import whole_durations

AnimationFormat = Literal["webp", "gif", "mp4"]

MAX_FPS = 50.0  # browsers play a faster GIF, whose frames last one hundredth of a second, at 10 fps
GIF_TICK_MS = 10  # a GIF counts in hundredths of a second
# An animation is to be shared; who judges quality looks at the step files. So its quality is below theirs: the 20 steps
# of `safelight demo` take a fifth less than with 85, and are still at 41 dB.
WEBP_OPTIONS: Mapping[str, Any] = {"format": "WEBP", "quality": 80, "method": 2}
# x264 with little loss, so that previews keep their grain. Every player knows 4:2:0, with a quarter of the colors.
X264 = {"crf": "16", "preset": "medium"}
MP4_PIXELS = "yuv420p"
MAX_DENOMINATOR = 1000  # of a frame rate that is no whole number


class Pace(NamedTuple):
    """Speed of an animation: steps per second, and seconds that the last step is held."""

    fps: float
    hold_s: float

    def ends_ms(self, frames: int) -> list[float]:
        """End of each frame, in milliseconds from the start; the last frame is held longer if need be."""
        step_ms = 1000 / self.fps
        return [*(step_ms * i for i in range(1, frames)), step_ms * (frames - 1) + max(step_ms, 1000 * self.hold_s)]


Encode = Callable[[Sequence[Image.Image], Pace], bytes]


def as_webp(frames: Sequence[Image.Image], pace: Pace) -> bytes:
    """Encodes an animated WebP."""
    file = io.BytesIO()
    durations = whole_durations(pace.ends_ms(len(frames)))
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=durations, loop=0, **WEBP_OPTIONS)
    return file.getvalue()


def as_gif(frames: Sequence[Image.Image], pace: Pace) -> bytes:
    """Encodes a GIF, each frame with its own 256 colors."""
    file = io.BytesIO()
    reduced = [frame.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    durations = whole_durations(pace.ends_ms(len(frames)), GIF_TICK_MS)
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
