"""Small copies of a run's pictures, evenly spread, as many as fit."""

from dataclasses import dataclass
from typing import final

from PIL import Image

from ..picture import Picture
from .encode import shrink
from .grid import laid_size, lay


@dataclass(frozen=True, eq=False)
class StepImage:
    """One picture, small."""

    index: int
    total: int
    sigma: float | None
    image: Image.Image


@final
class Thumbnails:
    """Keeps at most `limit` pictures of a run of any length: when full, every other one goes. The last one stays.

    Of a batch all pictures are kept, side by side in one; of a video the first frame.

    Args:
        limit: at least 2.
        max_side_px: of the copies.
    """

    def __init__(self, limit: int, max_side_px: int) -> None:
        self._limit, self._max_side_px = limit, max_side_px
        self._kept: list[StepImage] = []
        self._last: StepImage | None = None
        self._stride, self._seen, self._items = 1, 0, 1

    def add(self, picture: Picture) -> None:
        """Keeps a small copy, or only until the next one comes."""
        self._items = len(picture.pixels)
        images = [shrink(Image.fromarray(frames[0]), self._max_side_px) for frames in picture.pixels]
        image = shrink(lay(images), self._max_side_px)
        self._last = StepImage(picture.index, picture.total, picture.sigma, image)
        if self._seen % self._stride == 0:
            self._kept.append(self._last)
        self._seen += 1
        if len(self.all()) > self._limit:
            self._kept = self._kept[::2]
            self._stride *= 2

    def laid(self, shown: tuple[int, int]) -> tuple[int, int]:
        """Width and height of what stands for a batch of final images of the width and height `shown`."""
        return laid_size(self._items, shown)

    def all(self) -> list[StepImage]:
        """What was kept, in order, the newest picture among them."""
        if self._last is None or self._kept[-1] is self._last:
            return self._kept
        return [*self._kept, self._last]
