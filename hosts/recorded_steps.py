"""Takes the steps of a sampler of the user, as arrays of any framework."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, final

from ..decoders.latents.space import LatentSpace
from ..decoders.latents.tokens import ImageSize
from ..errors import LatentsError
from ..preview.pipeline import Pipeline
from ..preview.remote.remote_copy import RemoteCopy
from ..preview.sinks.run_folder import RunFolder
from ..preview.step import Step, step_number
from .offered_latents import LatentReader


@final
class Recording:
    """A run that is recorded. It can be unpacked to its pipeline and its folder.

    Args:
        pipeline: pipeline of the run.
        folder: folder of the run.
        space: latent space of the sampler.
        steps: number of steps of the sampler; None if it is unknown.
        size: width and height of the final image, in pixels, to which tokens are arranged; None if unknown.
        copy: copy of the run in a store; None if there is none.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        folder: RunFolder,
        space: LatentSpace,
        steps: int | None,
        size: ImageSize | None,
        copy: RemoteCopy | None = None,
    ) -> None:
        self.pipeline, self.folder, self._copy = pipeline, folder, copy
        self._reader, self._steps = LatentReader(space, size), steps
        self._index = 0
        self._unshown: Step | None = None  # the newest step, if it has no picture

    @property
    def missing(self) -> list[str]:
        """Names of the files that the store of the run does not have yet; they are in the folder."""
        return [] if self._copy is None else sorted(self._copy.uploads.waiting)

    def __iter__(self) -> Iterator[Any]:
        yield self.pipeline
        yield self.folder

    def offer(
        self,
        x0: Any = None,
        *,
        noisy: Any = None,
        sigma: float | None = None,
        index: int | None = None,
        total: int | None = None,
        channels_last: bool = False,
    ) -> None:
        """Shows a step. Its latents are copied before this returns, so the sampler may overwrite them.

        Args:
            x0: the model's estimate of the finished latents, in model space: `[B, C, H, W]`, `[B, C, T, H, W]`,
                tokens `[B, N, C]` with the `size` of the recording, or one of these without `B`. An array of NumPy,
                torch, JAX, MLX, or any package with DLPack.
            noisy: latents that the sampler works on, in the same form; shown if there is no `x0`.
            sigma: noise level; None if unknown.
            index: number of the step, from 1; None for the next one.
            total: number of steps; None for that of the recording.
            channels_last: whether the arrays are `[B, H, W, C]` or `[B, T, H, W, C]`, as in MLX and JAX.

        Raises:
            LatentsError: an array cannot be read, is not of floating point numbers, or does not fit the latent space.
            OptionError: `index` or `total` is no whole number.
        """
        if x0 is None and noisy is None:
            raise LatentsError("expected the latents of a step, got none; pass x0, or noisy=")
        index = step_number(self._index + 1 if index is None else index)
        total = self._steps if total is None else total
        step = Step(
            index=index,
            total=max(index, step_number(total or 0)),
            sigma=sigma,
            denoised=None if x0 is None else self._reader.read(x0, channels_last=channels_last),
            noisy=None if noisy is None else self._reader.read(noisy, channels_last=channels_last),
            noisy_gain=None,
        )
        self._index = index
        # Of an unknown number of steps, the last one is known at the end.
        wanted = self.pipeline.wants(step.index, step.total if total is not None else step.total + 1)
        self._unshown = None if wanted else _copy(step)
        if wanted:
            self.pipeline.offer(step, wanted=wanted)

    def show_last(self) -> None:
        """Shows the last step, if it was left out."""
        step, self._unshown = self._unshown, None
        if step is not None:
            self.pipeline.offer(replace(step, total=step.index))


def _copy(step: Step) -> Step:
    """A step with its own latents: the sampler may overwrite those that it passed."""
    denoised, noisy = (None if latents is None else latents.clone() for latents in (step.denoised, step.noisy))
    return replace(step, denoised=denoised, noisy=noisy)
