"""Watches a pipeline as a callback, without a `with` block."""

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from ...preview.picture import DecodedPicture
from .options import StrPath, WatchOptions
from .watch import WatchedPipeline
from .watched_run import WatchedRun


@final
class Previews:
    """A `callback_on_step_end` that shows each step.

        image = pipe("a lighthouse", callback_on_step_end=Previews(pipe, out="runs")).images[0]

    diffusers passes only noisy latents to a callback, after a step. So this object also observes the pipeline's
    progress bar until it is deleted or closed, and the pipeline's scheduler during a loop. The model's estimate at a
    step is shown when the callback is called after that step. Other calls of the pipeline are not shown.

    A run ends with its loop. The observation ends when the last reference to this object is gone, which in the line
    above is when the pipeline returns or raises. If you have a callback of your own, call this object from it.

    Args:
        pipeline: a `DiffusionPipeline` of diffusers.
        out: folder of runs; every sampler call creates a numbered folder in it. None: no files are written.
        options: further options; see `watch`.

    Attributes:
        tensor_inputs: names of the tensors that diffusers passes to the callback.

    Raises:
        TypeError, OptionError, UnknownDecoderError, UnknownSpaceError: as for `watch`.
    """

    tensor_inputs = ("latents",)

    def __init__(self, pipeline: Any, out: StrPath | None = None, **options: Any) -> None:
        self._watched = WatchedPipeline(pipeline, WatchOptions.of(out, **options), waits_for_callback=True)
        self._watched.open()
        # The pipeline has no reference to this object, so it is deleted when the user drops it.
        self._finalize = weakref.finalize(self, self._watched.close)

    def __call__(self, pipeline: Any, step: int, timestep: Any, callback_kwargs: dict[str, Any]) -> dict[str, Any]:
        """Shows the step; diffusers calls this. Returns `callback_kwargs` unchanged."""
        self._watched.confirm(pipeline, callback_kwargs.get("latents"))
        return callback_kwargs

    def __repr__(self) -> str:
        return f"<Previews: {self._watched!r}>"

    @property
    def runs(self) -> Sequence[WatchedRun]:
        """All sampler calls so far."""
        return self._watched.runs

    @property
    def pictures(self) -> Sequence[DecodedPicture]:
        """The newest pictures of the newest sampler call, in order. Waits for the last ones once it has ended."""
        return self._watched.pictures

    @property
    def folder(self) -> Path | None:
        """Folder of the newest sampler call; None if no files are written."""
        return self._watched.folder

    @property
    def address(self) -> str | None:
        """Address of the newest sampler call in a store; None if it is in no store."""
        return self._watched.address

    @property
    def notes(self) -> list[str]:
        """Messages about the newest sampler call, for the user."""
        return self._watched.notes

    @property
    def sampling(self) -> bool:
        """Whether a sampling loop is running."""
        return self._watched.sampling

    def manifest(self) -> dict[str, Any] | None:
        """Returns `run.json` of the newest sampler call; None if no files are written."""
        return self._watched.manifest()

    def show(self) -> None:
        """Shows the newest run; see `WatchedPipeline.show`."""
        self._watched.show()

    def stop(self) -> bool:
        """Ends the running loop before its next step; see `WatchedPipeline.stop`."""
        return self._watched.stop()

    def close(self) -> None:
        """Restores the pipeline, and waits for all files."""
        self._finalize()
