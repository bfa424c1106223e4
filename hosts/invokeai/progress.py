"""The picture that InvokeAI's UI shows while a node runs."""

from collections.abc import Callable
from typing import Any, final

from PIL import Image

from ...preview.images.encode import shrink
from ...preview.picture import Picture
from ...preview.run import State
from ...preview.sinks.base import Sink

MAX_SIDE_PX = 1024

Signal = Callable[[str, float, Image.Image, tuple[int, int]], Any]


@final
class ProgressPicture(Sink):
    """Hands every picture to the host, which sends it to its clients as a JPEG.

    Args:
        signal: the host's `signal_progress(message, percentage, image, image_size)`.

    Attributes:
        failed: whether the host would not take one. Any thread may ask.
    """

    name = "progress picture"
    keeps = False

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self.failed = False

    def open(self) -> None:
        pass

    def show(self, picture: Picture) -> None:
        image = shrink(Image.fromarray(picture.first), MAX_SIDE_PX)
        try:
            self._signal("Denoising", min(1.0, picture.index / max(1, picture.total)), image, picture.shown)
        except Exception:
            self.failed = True
            raise

    def close(self, state: State) -> None:
        pass


@final
class Gallery(Sink):
    """Saves every picture as an image of the host.

    Args:
        save: takes a picture.
        fit: makes of pixels `[H, W, 3]` and the size of the final image the picture to be saved.
    """

    name = "gallery"

    def __init__(self, save: Callable[[Image.Image], Any], fit: Callable[..., Image.Image]) -> None:
        self._save, self._fit = save, fit

    def open(self) -> None:
        pass

    def show(self, picture: Picture) -> None:
        for item in picture.pixels[:, 0]:
            self._save(self._fit(item, picture.shown))

    def close(self, state: State) -> None:
        pass
