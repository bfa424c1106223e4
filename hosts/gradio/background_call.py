"""Runs a pipeline in a background thread and yields its newest preview."""

import contextvars
import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, ClassVar, final

import numpy as np
import torch
from PIL import Image

from ...decoders.decoder import to_bytes
from ...errors import RunError
from ...preview.images.grid import still_image
from ...preview.picture import DecodedPicture
from ...preview.sinks.base import Delivery, Sink
from ..diffusers import WatchedPipeline, watch


def previews(
    pipeline: Any, *args: Any, watching: Mapping[str, Any] | None = None, **kwargs: Any
) -> Generator[Image.Image, None, Any]:
    """Runs a pipeline in a background thread. Yields its newest preview until it ends, then its image.

        for image in previews(pipe, "a lighthouse", num_inference_steps=20, watching={"out": "runs"}):
            yield image  # in a function that gradio calls

    Calls of one pipeline run one at a time: a second user waits until the first one's call has ended. A slow consumer
    gets fewer previews. Closing the generator stops the pipeline; gradio does so if a browser leaves.

    Args:
        pipeline: a `DiffusionPipeline` or a `ModularPipeline` of diffusers.
        *args: positional arguments of its call.
        watching: options of `watch`.
        **kwargs: keyword arguments of its call.

    Returns:
        The pipeline's result, as the value of the generator. If the run was stopped, its image is not yielded.

    Raises:
        Exception: any exception that `watch` or the pipeline raises.
    """
    call = BackgroundCall(pipeline, args, kwargs, watching or {})
    try:
        for picture in call.pictures():
            yield enlarged(picture)
        result = call.result()
        image = None if call.stopped else first_image(result)
        if image is not None:
            yield image
        return result
    finally:
        call.close()


COLOR_CHANNELS = 3


@final
class Turns:
    """Lets the calls of one pipeline run one at a time. Two of them would share the scheduler, and its step counter."""

    def __init__(self) -> None:
        self._finding = threading.Lock()
        self._locks: weakref.WeakKeyDictionary[Any, threading.Lock] = weakref.WeakKeyDictionary()

    def take(self, pipeline: Any) -> Callable[[], None]:
        """Waits until no other call uses the pipeline or its scheduler. Returns a function that ends the turn."""
        with ExitStack() as stack:
            for shared in (pipeline, getattr(pipeline, "scheduler", None)):  # copies of a pipeline share its scheduler
                if shared is not None:
                    with self._finding:
                        lock = self._locks.setdefault(shared, threading.Lock())
                    stack.enter_context(lock)
            return stack.pop_all().close


TURNS = Turns()


@final
class NewestPicture(Sink):
    """Passes the newest picture to another thread, each picture at most once."""

    name: ClassVar[str] = "newest"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._picture: DecodedPicture | None = None
        self._ended = False

    def show(self, picture: DecodedPicture) -> None:
        with self._changed:
            self._picture = picture
            self._changed.notify_all()

    def end(self) -> None:
        """Ends the sequence of pictures."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def take(self) -> DecodedPicture | None:
        """Waits for a new picture and returns it; None if there are no more pictures."""
        with self._changed:
            self._changed.wait_for(lambda: self._picture is not None or self._ended)
            picture, self._picture = self._picture, None
            return picture


@final
class BackgroundCall:
    """A call of a pipeline in a background thread, which starts when no other call uses the pipeline.

    Args:
        pipeline: pipeline of diffusers.
        args, kwargs: arguments of its call.
        options: options of `watch`, without the screen.

    Attributes:
        watched: the watched pipeline with its runs.
        stopped: whether the run must end early.

    Raises:
        Exception: any exception that `watch` raises.
    """

    def __init__(
        self, pipeline: Any, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        self.stopped = False
        self._newest = NewestPicture()
        self._result: Any = None
        self._error: BaseException | None = None
        with ExitStack() as entered:
            entered.callback(TURNS.take(pipeline))
            self.watched: WatchedPipeline = entered.enter_context(
                watch(pipeline, **{**options, "screen": self._newest})
            )
            stack = entered.pop_all()

        def work() -> None:
            try:
                with stack:
                    self._result = pipeline(*args, **kwargs)
            except BaseException as error:
                self._error = error
            finally:
                self._newest.end()

        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(work,), name="safelight-pipeline", daemon=True)
        self._thread.start()

    def pictures(self) -> Iterator[DecodedPicture]:
        """Yields the newest picture whenever there is a new one, until the pipeline has ended."""
        while (picture := self._newest.take()) is not None:
            if self.stopped:  # requested before the sampling loop began
                with suppress(RunError):
                    self.stop()
            yield picture

    def stop(self) -> None:
        """Ends the sampling loop before its next step.

        Raises:
            RunError: this pipeline cannot be stopped.
        """
        self.stopped = True
        try:
            self.watched.stop()
        except RunError:
            self.stopped = False
            raise

    def result(self) -> Any:
        """Waits for the pipeline and returns its result.

        Raises:
            BaseException: any exception that the pipeline raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result

    def close(self) -> None:
        """Stops the pipeline if it is running and can be stopped, and waits for it."""
        if self._thread.is_alive():
            with suppress(RunError):
                self.stop()
            for _ in self.pictures():
                pass
        self._thread.join()


def enlarged(picture: DecodedPicture, max_side_px: int = 1024) -> Image.Image:
    """Enlarges a step's picture to the size of the final image, but at most `max_side_px`."""
    image = still_image(picture)
    height, width = picture.pixels.shape[2:4]
    scale = min(max(picture.shown) / max(width, height), max_side_px / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def first_image(output: Any) -> Image.Image | None:
    """Returns the first image in a pipeline's result, or the middle frame of its first video; None if there is none."""
    batch = next((getattr(output, name) for name in ("images", "frames", "videos") if hasattr(output, name)), None)
    if batch is None and isinstance(output, tuple) and output:
        batch = output[0]
    first = batch[0] if isinstance(batch, list | np.ndarray) and len(batch) else None
    if (isinstance(first, list) and first) or (isinstance(first, np.ndarray) and first.ndim > COLOR_CHANNELS):
        first = first[len(first) // 2]
    if isinstance(first, np.ndarray) and first.shape[-1:] == (COLOR_CHANNELS,):
        return Image.fromarray(to_bytes(torch.tensor(first).movedim(-1, 0)[None])[0].numpy())
    return first.convert("RGB") if isinstance(first, Image.Image) else None
