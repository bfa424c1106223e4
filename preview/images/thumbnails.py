"""Thumbnails of a run's steps, evenly spread, up to a fixed number."""

from dataclasses import dataclass
from typing import final

from PIL import Image

from ..picture import DecodedPicture
from .encode import shrink
from .grid import lay_grid


@dataclass(frozen=True, eq=False)
class StepImage:
    """The image of one step."""

    index: int
    total: int
    sigma: float | None
    image: Image.Image


@final
class Thumbnails:
    """Collects at most `limit` thumbnails of a run of any length. When it is full, every second one is dropped.

    The newest picture is always included. A batch becomes one thumbnail with its items side by side; of a video the
    first frame is used.

    Args:
        limit: largest number of thumbnails, at least 2.
        max_side_px: largest longer side of a thumbnail, in pixels.
    """

    def __init__(self, limit: int, max_side_px: int) -> None:
        self._limit, self._max_side_px = limit, max_side_px
        self._images: list[StepImage] = []
        self._newest: StepImage | None = None
        self._stride, self._seen = 1, 0

    def add(self, picture: DecodedPicture) -> None:
        """Adds a thumbnail of a picture, which may be replaced by that of the next one.

        A second picture of the newest step replaces the first: the host's VAE may decode a step again.
        """
        images = [shrink(Image.fromarray(frames[0]), self._max_side_px) for frames in picture.pixels]
        image = shrink(lay_grid(images), self._max_side_px)
        previous = self._newest
        self._newest = StepImage(picture.index, picture.total, picture.sigma, image)
        if previous is not None and previous.index == picture.index:
            if self._images[-1] is previous:
                self._images[-1] = self._newest
            return
        if self._seen % self._stride == 0:
            self._images.append(self._newest)
        self._seen += 1
        if len(self.all()) > self._limit:
            self._images = self._images[::2]
            self._stride *= 2

    def all(self) -> list[StepImage]:
        """The thumbnails in order, the newest picture included."""
        if self._newest is None or self._images[-1] is self._newest:
            return self._images
        return [*self._images, self._newest]
