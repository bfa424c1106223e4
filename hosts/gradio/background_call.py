"""A pipeline called on a thread of its own, whose newest pictures whoever waits for them gets."""

import contextvars
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, ClassVar, final

import numpy as np
import torch
from PIL import Image

from ...decoders.decoder import to_bytes
from ...errors import RunError
from ...preview.images.grid import still_image
from ...preview.picture import DecodedPicture
from ...preview.run import State
from ...preview.sinks.base import Delivery, Sink
from ..diffusers import WatchedPipeline, watch


def previews(
    pipeline: Any, *args: Any, watching: Mapping[str, Any] | None = None, **asked: Any
) -> Generator[Image.Image, None, Any]:
    """Gives the newest picture, again and again, while the pipeline runs on a thread of its own, and its image at last.

        for image in previews(pipe, "a lighthouse", num_inference_steps=20, watching={"out": "runs"}):
            yield image  # a function of gradio shows it

    Who is slow gets fewer pictures. Who stops asking, as gradio does when a browser goes away, stops the pipeline.

    Args:
        pipeline: a `DiffusionPipeline` of diffusers.
        *args: what it is called with.
        watching: options of `watch`.
        **asked: what it is called with, by name.

    Returns:
        What the pipeline returned, as the value of the generator. A run that was stopped gives no image of its own.

    Raises:
        Exception: what the pipeline raised.
    """
    call = BackgroundCall(pipeline, args, asked, watching or {})
    try:
        for picture in call.pictures():
            yield enlarged(picture)
        result = call.result()
        image = None if call.stopped else image_of(result)
        if image is not None:
            yield image
        return result
    finally:
        call.close()


RGB = 3


@final
class NewestPicture(Sink):
    """Hands the newest picture to another thread, each at most once."""

    name: ClassVar[str] = "newest"
    delivery = Delivery.NEWEST_AWAITED

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._picture: DecodedPicture | None = None
        self._ended = False

    def open(self) -> None:
        pass

    def show(self, picture: DecodedPicture) -> None:
        with self._changed:
            self._picture = picture
            self._changed.notify_all()

    def close(self, state: State) -> None:
        pass  # there may be another loop

    def end(self) -> None:
        """No more will come."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def take(self) -> DecodedPicture | None:
        """Waits for one that was not taken; None once no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._picture is not None or self._ended)
            picture, self._picture = self._picture, None
            return picture


@final
class BackgroundCall:
    """One call of a pipeline, begun at once.

    Args:
        pipeline: of diffusers.
        args, asked: what it is called with.
        options: of `watch`, but for the screen.

    Attributes:
        watching: what is known of the run.
        stopped: whether it is to end early.

    Raises:
        Exception: what `watch` raises.
    """

    def __init__(
        self, pipeline: Any, args: Sequence[Any], asked: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        self.stopped = False
        self._newest = NewestPicture()
        self._result: Any = None
        self._error: BaseException | None = None
        watched = ExitStack()
        self.watching: WatchedPipeline = watched.enter_context(watch(pipeline, **{**options, "screen": self._newest}))

        def work() -> None:
            try:
                with watched:
                    self._result = pipeline(*args, **asked)
            except BaseException as error:
                self._error = error
            finally:
                self._newest.end()

        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(work,), name="safelight-pipeline", daemon=True)
        self._thread.start()

    def pictures(self) -> Iterator[DecodedPicture]:
        """The newest picture whenever there is a newer one, until the pipeline has ended."""
        while (picture := self._newest.take()) is not None:
            if self.stopped:  # before there was a loop that could be
                with suppress(RunError):
                    self.stop()
            yield picture

    def stop(self) -> None:
        """Ends the loop early and keeps what is there.

        Raises:
            RunError: this pipeline cannot be stopped.
        """
        self.stopped = True
        try:
            self.watching.stop()
        except RunError:
            self.stopped = False
            raise

    def result(self) -> Any:
        """What the pipeline returned, once it has.

        Raises:
            BaseException: what it raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result

    def close(self) -> None:
        """Stops what still goes on, if it can be, and waits for it."""
        if self._thread.is_alive():
            with suppress(RunError):
                self.stop()
            for _ in self.pictures():
                pass
        self._thread.join()


def enlarged(picture: DecodedPicture, max_side_px: int = 1024) -> Image.Image:
    """A step's picture at the size of the final image, so that nothing moves when that comes."""
    image = still_image(picture)
    height, width = picture.pixels.shape[2:4]
    scale = min(max(picture.shown) / max(width, height), max_side_px / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)


def image_of(output: Any) -> Image.Image | None:
    """The first image that a pipeline returned, of a video the frame in the middle; None if it returned none."""
    found = next((getattr(output, name) for name in ("images", "frames") if hasattr(output, name)), None)
    if found is None and isinstance(output, tuple) and output:
        found = output[0]
    return _first(found)


def _first(found: Any) -> Image.Image | None:
    """Of a batch the first, of its frames the one in the middle."""
    first = found[0] if isinstance(found, list | np.ndarray) and len(found) else None
    if (isinstance(first, list) and first) or (isinstance(first, np.ndarray) and first.ndim > RGB):
        first = first[len(first) // 2]
    if isinstance(first, np.ndarray) and first.shape[-1:] == (RGB,):
        return Image.fromarray(to_bytes(torch.tensor(first).movedim(-1, 0)[None])[0].numpy())
    return first.convert("RGB") if isinstance(first, Image.Image) else None
