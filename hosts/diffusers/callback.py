"""The same as a callback, for those who would rather not write a `with`."""

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

from ...preview.picture import DecodedPicture
from .options import Options, PathLike_
from .watch import WatchedPipeline
from .watched_run import WatchedRun


@final
class Previews:
    """A `callback_on_step_end` that shows each step.

        image = pipe("a lighthouse", callback_on_step_end=Previews(pipe, out="runs")).images[0]

    A callback is handed noisy latents alone, and only after a step. So the pipeline's progress bar is heard of from now
    until this object goes or is closed, and its scheduler while a loop goes on: what the model believed at a step is
    shown when the callback comes after it. Calls of the pipeline without this callback are not shown.

    It ends by itself: a run with its loop, finished or not; the rest when nobody holds the object any more, which in
    the line above is when the pipeline returns or raises. Call it from a callback of your own if you have one.

    Args:
        pipeline: a `DiffusionPipeline` of diffusers.
        out: the folder of runs: every sampler call makes a numbered folder in it. None: nothing is written.
        options: see `Options`.

    Attributes:
        tensor_inputs: what diffusers is to hand over, where it asks.
    """

    tensor_inputs = ("latents",)

    def __init__(self, pipeline: Any, out: PathLike_ | None = None, **options: Any) -> None:
        self._watching = WatchedPipeline(pipeline, Options.of(out, **options), waits=True)
        self._watching.open()
        # Nothing that the pipeline holds refers to this object: it goes when its user is done with it.
        self._end = weakref.finalize(self, self._watching.close)

    def __call__(self, pipeline: Any, step: int, timestep: Any, callback_kwargs: dict[str, Any]) -> dict[str, Any]:
        """As diffusers calls it; gives back what it was given."""
        self._watching.confirm()
        return callback_kwargs

    @property
    def runs(self) -> Sequence[WatchedRun]:
        """All sampler calls so far."""
        return self._watching.runs

    @property
    def pictures(self) -> Sequence[DecodedPicture]:
        """The newest pictures of the newest sampler call, in order. Once it has ended, all of them."""
        return self._watching.pictures

    @property
    def folder(self) -> Path | None:
        """Of the newest sampler call; None where nothing is written."""
        return self._watching.folder

    @property
    def notes(self) -> list[str]:
        """What the user should know of the newest sampler call."""
        return self._watching.notes

    @property
    def sampling(self) -> bool:
        """Whether a loop goes on now."""
        return self._watching.sampling

    def manifest(self) -> dict[str, Any] | None:
        """`run.json` of the newest sampler call; None where nothing is written."""
        return self._watching.manifest()

    def stop(self) -> bool:
        """Ends the loop that goes on before its next step; see `WatchedPipeline.stop`."""
        return self._watching.stop()

    def close(self) -> None:
        """Leaves the pipeline as it was before this object was made."""
        self._end()
