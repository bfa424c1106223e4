"""A picture of a step that somebody else makes, in their own time."""

from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from ..decoders.decoder import Card


class Made(NamedTuple):
    """`pixels` `[B, T, H, W, 3]` uint8 of a step, the width and height of the final image they stand for, the frames a
    second they are to be played at, what made them, and the milliseconds it took.
    """

    pixels: np.ndarray
    shown: tuple[int, int]
    fps: float | None
    card: Card
    decode_ms: float


Promise = Future[Made | None]  # None, and the step is developed as all others are


def kept_promise(made: Made | None) -> Promise:
    """One that needs no waiting for."""
    promise: Promise = Future()
    promise.set_result(made)
    return promise
