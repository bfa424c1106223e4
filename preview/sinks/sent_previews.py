"""Sends small pictures of the steps to clients that know only the host's own previews."""

from collections.abc import Callable
from typing import final

from PIL import Image, ImageOps

from ..cadence import Cadence
from ..picture import DecodedPicture
from .base import Delivery, Sink, State


@final
class SentPreviews(Sink):
    """Sends the first picture of each step, and when the run ends, the newest one that was not sent.

    Args:
        send: function that sends a picture; the worker calls it.
        side_px: longest side of a sent picture; smaller ones are enlarged, as hosts do.
        cadence: steps that are sent.
    """

    name = "the preview on the sampler's node"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self, send: Callable[[Image.Image], object], side_px: int, cadence: Cadence) -> None:
        self._send, self._side_px, self._cadence = send, side_px, cadence
        self._unsent: DecodedPicture | None = None

    def show(self, picture: DecodedPicture) -> None:
        self._unsent = picture
        if self._cadence.wants(picture.index, picture.total):
            self._send_newest()

    def close(self, state: State) -> None:
        self._send_newest()

    def _send_newest(self) -> None:
        picture, self._unsent = self._unsent, None
        if picture is not None:
            size = (self._side_px, self._side_px)
            self._send(ImageOps.contain(Image.fromarray(picture.first), size, Image.Resampling.BILINEAR))
