"""Finds the run whose latents a refiner continues: the two share a folder, one page and one entry of the library."""

from collections.abc import Iterable
from typing import Any, final

from torch import Tensor

from ...preview.sinks.run_group import RunGroup
from .call_arguments import CallArguments

MAX_RUNS = 64  # unfinished latents that are held; of 1024x1024 pixels, they take 16 MB


@final
class RefinedRuns:
    """The runs of a block that ended before the last noise level, with their latents.

    Only calls with `denoising_end` are such runs, so that the latents of other runs can be freed.
    """

    def __init__(self) -> None:
        self._ended: list[tuple[Tensor, RunGroup]] = []

    def add(self, call: CallArguments, latents: Any, group: RunGroup | None) -> None:
        """Remembers a run that has ended.

        Args:
            call: arguments of its call.
            latents: result of its last step `[B, C, H, W]`.
            group: its folder, and those of the runs before it; None if it writes no files.
        """
        if call.denoising_end is not None and group is not None and isinstance(latents, Tensor):
            self._ended = [*self._ended, (latents, group)][-MAX_RUNS:]

    def group_of(self, call: CallArguments, latents: Tensor) -> RunGroup | None:
        """The group of the run whose latents a run begins with; None if there is none.

        Args:
            call: arguments of the call that begins.
            latents: latents of its first step `[B, C, H, W]`.
        """
        if call.denoising_start is None:
            return None
        newest_first: Iterable[tuple[Tensor, RunGroup]] = reversed(self._ended)
        return next((group for ended, group in newest_first if group.exists and _continues(latents, ended)), None)

    def forget(self) -> None:
        """Frees the latents."""
        self._ended = []


def _continues(latents: Tensor, ended: Tensor) -> bool:
    """Whether the first item of `latents` is an item of `ended`. A refiner may have another type or device."""
    if latents.shape[1:] != ended.shape[1:]:
        return False
    first, ended = latents[:1].cpu(), ended.cpu()
    # The exact value survives in one direction only: from the narrower type to the wider one.
    same = (ended.to(first.dtype) == first) | (ended == first.to(ended.dtype))
    return bool(same.flatten(1).all(1).any())
