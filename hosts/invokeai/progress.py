"""The progress picture that InvokeAI's UI shows while a node runs."""

from collections.abc import Callable
from typing import Any, final

from PIL import Image

from ...preview.images.encode import shrink
from ...preview.picture import DecodedPicture
from ...preview.sinks.base import Delivery, Sink

MESSAGE = "Denoising"
MAX_PROGRESS_SIDE_PX = 1024

Signal = Callable[[str, float, Image.Image, tuple[int, int]], Any]


@final
class ProgressPicture(Sink):
    """Hands every picture to InvokeAI, which sends it to its clients as a JPEG.

    Args:
        signal: InvokeAI's `signal_progress(message, percentage, image, image_size)`.

    Attributes:
        failed: whether InvokeAI refused a picture. Any thread may read it.
    """

    name = "progress picture"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self.failed = False

    def show(self, picture: DecodedPicture) -> None:
        image = shrink(Image.fromarray(picture.first), MAX_PROGRESS_SIDE_PX)
        try:
            self._signal(MESSAGE, share_done(picture.index, picture.total), image, picture.shown)
        except Exception:
            self.failed = True
            raise


def share_done(index: int, total: int) -> float:
    """The finished part of a run, in 0..1, after step `index` of `total`."""
    return min(1.0, index / max(1, total))
