"""Moving pictures as MP4, by the PyAV that ComfyUI brings along."""

import io
import math
from collections.abc import Sequence
from fractions import Fraction

from PIL import Image

from ..sinks.animation import Pace

# x264, with so little loss that previews keep their grain; every player knows 4:2:0, which keeps a quarter of colours.
SETTINGS = {"crf": "16", "preset": "medium"}
PIXELS = "yuv420p"
MOST_PARTS = 1000  # of a frame rate that is no whole number


def as_mp4(frames: Sequence[Image.Image], pace: Pace) -> bytes:
    """An MP4 of H.264, at the sizes of `frames` made even.

    A player may not care how long the last frame is said to last, so it is there as often as it is to be held.
    """
    import av  # only now: it takes its time, and few runs end in a movie

    file = io.BytesIO()
    width, height = (side + side % 2 for side in frames[0].size)
    held = max(0, math.ceil(pace.hold_s * pace.fps) - 1)
    with av.open(file, "w", format="mp4") as movie:
        stream = movie.add_stream("libx264", rate=Fraction(pace.fps).limit_denominator(MOST_PARTS), options=SETTINGS)
        stream.width, stream.height, stream.pix_fmt = width, height, PIXELS
        for frame in [*frames, *frames[-1:] * held]:
            even = frame if frame.size == (width, height) else frame.resize((width, height), Image.Resampling.BICUBIC)
            movie.mux(stream.encode(av.VideoFrame.from_image(even)))
        movie.mux(stream.encode())
    return file.getvalue()
