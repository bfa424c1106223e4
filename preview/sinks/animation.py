"""A run as a moving picture, one frame for each step."""

from typing import final

from PIL import Image

from ..images.animated import ENCODES, AnimationFormat, Pace
from ..images.grid import grid_size
from ..images.thumbnails import Thumbnails
from ..picture import DecodedPicture
from ..run import State
from .base import Sink
from .run_folder import RunFolder

MAX_SIDE_PX = 512
MAX_FRAMES = 120  # of a longer run every other step is left out, as often as needed


@final
class Animation(Sink):
    """Writes `steps.webp`, `.gif` or `.mp4` when the run has ended. The last step is held.

    A frame shows all pictures of a batch side by side, and the first frame of a video.

    Args:
        folder: folder of the run.
        pace: speed.
        file_format: format of the file.
        from_step, to_step: first and last step to include; 0 for no limit.
    """

    name = "animation"

    def __init__(
        self,
        folder: RunFolder,
        pace: Pace,
        *,
        file_format: AnimationFormat = "webp",
        from_step: int = 0,
        to_step: int = 0,
    ) -> None:
        self._folder, self._pace = folder, pace
        self._file, self._encode = f"steps.{file_format}", ENCODES[file_format]
        self._from, self._to = from_step, to_step
        self._pictures = Thumbnails(MAX_FRAMES, MAX_SIDE_PX)
        self._shown = (MAX_SIDE_PX, MAX_SIDE_PX)
        self._newest = 0

    def show(self, picture: DecodedPicture) -> None:
        self._newest = max(self._newest, picture.index)
        if self._from <= picture.index and (not self._to or picture.index <= self._to):
            self._pictures.add(picture)
            self._shown = grid_size(len(picture.pixels), picture.shown)

    def close(self, state: State) -> None:
        thumbnails = self._pictures.all()
        if not thumbnails:
            if self._newest:
                wanted = f"{self._from or 1} to {self._to}" if self._to else f"{self._from} on"
                self._folder.run.note(
                    f"no animation: there is no picture of steps {wanted}; the last step is {self._newest}"
                )
            return
        longer = max(self._shown)
        width, height = (max(1, round(side * min(1.0, MAX_SIDE_PX / longer))) for side in self._shown)
        frames = [thumbnail.image.resize((width, height), Image.Resampling.BICUBIC) for thumbnail in thumbnails]
        self._folder.write(self._file, self._encode(frames, self._pace))
        self._folder.announce(animation=self._file)
