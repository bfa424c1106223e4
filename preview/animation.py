"""A run as a moving picture."""

import io
from typing import final

from PIL import Image

from .folder import RunFolder
from .gather import Gathering
from .picture import Picture
from .run import State
from .sink import Sink

NAME = "steps.webp"
MAX_SIDE_PX = 512


@final
class Animation(Sink):
    """Writes `steps.webp` when the run has ended: one frame a step, the last one held.

    Args:
        folder: of the run.
        step_ms: how long a step is seen.
        hold_ms: how long the last one is.
        limit: frames at most; of a longer run every other one is left out, as often as needed.
    """

    name = "animation"

    def __init__(self, folder: RunFolder, *, step_ms: int = 120, hold_ms: int = 1500, limit: int = 120) -> None:
        self._folder, self._step_ms, self._hold_ms = folder, step_ms, hold_ms
        self._pictures = Gathering(limit, MAX_SIDE_PX)
        self._shown = (MAX_SIDE_PX, MAX_SIDE_PX)

    def open(self) -> None:
        pass

    def show(self, picture: Picture) -> None:
        self._pictures.add(picture)
        self._shown = picture.shown

    def close(self, state: State) -> None:
        kept = self._pictures.all()
        if not kept:
            return
        longer = max(self._shown)
        width, height = (max(1, round(side * min(1.0, MAX_SIDE_PX / longer))) for side in self._shown)
        frames = [one.image.resize((width, height), Image.Resampling.BICUBIC) for one in kept]
        file = io.BytesIO()
        frames[0].save(
            file,
            format="WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=[self._step_ms] * (len(frames) - 1) + [self._hold_ms],
            loop=0,
            quality=80,
            method=2,
        )
        self._folder.write(NAME, file.getvalue())
        self._folder.announce(animation=NAME)
