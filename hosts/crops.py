"""Puts the parts of the latents together that some pipelines pass to their scheduler one after another in each step."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

MAX_PLACES = 64  # places in the latents that are compared with a part


def is_crop(sample: Tensor, whole: Tensor | None, axes: Sequence[int]) -> bool:
    """Returns whether `sample` is a part of latents like `whole`: smaller along `axes`, equal but for the batch."""
    if whole is None or not axes or sample.ndim != whole.ndim:
        return False
    others = [axis for axis in range(1, sample.ndim) if axis not in axes]
    if any(sample.shape[axis] != whole.shape[axis] for axis in others):
        return False
    sides = [(sample.shape[axis], whole.shape[axis]) for axis in axes]
    return all(part <= all_ for part, all_ in sides) and any(part < all_ for part, all_ in sides)


@final
class Crops:
    """The parts of one step of the latents `whole`, as in MultiDiffusion: https://arxiv.org/abs/2302.08113.

    Where parts overlap, their mean counts. A part may continue at the left side (circular padding).

    Args:
        whole: noisy latents before the step.
        axes: their axes of time, if they have one, height and width, in this order.
        index: number of the step from 1; None for the second and later model calls of a step.
        sigma: noise level; None if unknown.
        gain: factor that scales the noisy latents to the spread of clean latents; None if unknown.

    Attributes:
        noisy: copy of `whole`.
        index, sigma, gain: as above.
    """

    def __init__(
        self, whole: Tensor, axes: Sequence[int], index: int | None, sigma: float | None, gain: float | None
    ) -> None:
        self._whole, self._version = whole, whole._version  # noqa: SLF001 - counts changes in place
        self._axes = tuple(axes)
        self._missing = whole.numel()
        self.noisy, self.index, self.sigma, self.gain = whole.detach().clone(), index, sigma, gain
        self._ordered = self._order(self.noisy)
        self._around = torch.cat((self._ordered, self._ordered), -1)  # a part may pass the right side
        self._sum = torch.zeros_like(self._ordered, dtype=torch.float32)
        self._count = torch.zeros_like(self._sum)

    def are_of(self, whole: Tensor) -> bool:
        """Whether `whole` is still the latents of this step."""
        # By address: each call may get another view. The latents of the step are not freed meanwhile.
        return whole.data_ptr() == self._whole.data_ptr() and whole._version == self._version  # noqa: SLF001

    def add(self, samples: Tensor, x0: Tensor) -> bool:
        """Adds parts. Returns whether they were all found in the latents.

        Args:
            samples: noisy parts, in the layout of the whole, with any number of batch items.
            x0: their estimates, in the same shape.
        """
        for sample, estimate in zip(self._order(samples), self._order(x0), strict=True):
            place = self._place(sample)
            if place is None:
                return False
            item, first, top, left = place
            frames, height, width = sample.shape[-3:]
            part = (..., slice(first, first + frames), slice(top, top + height), slice(None))
            columns = torch.arange(left, left + width, device=sample.device) % self._ordered.shape[-1]
            self._sum[item][part].index_add_(-1, columns, estimate.float())
            self._count[item][part].index_add_(-1, columns, torch.ones_like(estimate, dtype=torch.float32))
            self._missing -= estimate.numel()
        return True

    @property
    def is_complete(self) -> bool:
        """Whether the parts cover the whole, if they do not overlap."""
        return self._missing <= 0

    def x0(self) -> Tensor:
        """The estimate of the whole, in the shape of `noisy`; noisy where there was no part."""
        mean = torch.where(self._count > 0, self._sum / self._count, self._ordered.float()).to(self.noisy.dtype)
        mean = mean if len(self._axes) == 3 else mean.squeeze(-3)
        return mean.movedim(tuple(range(-len(self._axes), 0)), self._axes)

    def _order(self, latents: Tensor) -> Tensor:
        """A view `[B, ..., T, H, W]`."""
        view = latents.movedim(self._axes, tuple(range(-len(self._axes), 0)))
        return view if len(self._axes) == 3 else view.unsqueeze(-3)

    def _place(self, sample: Tensor) -> tuple[int, int, int, int] | None:
        """Batch item, first frame, top row and left column of a part, found by its content."""
        frames, height, width = sample.shape[-3:]
        channel = (0,) * (sample.ndim - 3)
        for item, latents in enumerate(self._ordered):
            equal = latents[channel] == sample[channel][0, 0, 0]
            for first, top, left in equal.nonzero()[:MAX_PLACES].tolist():
                around = self._around[item][..., first : first + frames, top : top + height, left : left + width]
                if torch.equal(around, sample):
                    return item, first, top, left
        return None
