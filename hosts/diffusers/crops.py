"""Puts the crops together that some pipelines sample one after another in each step."""

from typing import final

import torch
from torch import Tensor

MAX_PLACES = 64  # places in the latents that are compared with a crop


def is_crop(sample: Tensor, whole: Tensor | None) -> bool:
    """Returns whether `sample` is smaller than `whole` in height or width, and has its other sizes except the batch."""
    if whole is None or sample.ndim < 4 or sample.ndim != whole.ndim or sample.shape[1:-2] != whole.shape[1:-2]:
        return False
    sides = [(part, all_) for part, all_ in zip(sample.shape[-2:], whole.shape[-2:], strict=True)]
    return all(part <= all_ for part, all_ in sides) and any(part < all_ for part, all_ in sides)


@final
class Crops:
    """The crops of one step of the latents `whole`, as in MultiDiffusion: https://arxiv.org/abs/2302.08113.

    Where crops overlap, their mean counts. A crop may continue at the left side (circular padding).

    Args:
        whole: noisy latents `[B, C, ..., H, W]` before the step.
        index: number of the step from 1; None for the second and later model calls of a step.
        sigma: noise level; None if unknown.
        gain: factor that scales the noisy latents to the spread of clean latents; None if unknown.

    Attributes:
        noisy: copy of `whole`.
        index, sigma, gain: as above.
    """

    def __init__(self, whole: Tensor, index: int | None, sigma: float | None, gain: float | None) -> None:
        self._whole, self._version = whole, whole._version  # noqa: SLF001 - counts changes in place
        self.noisy, self.index, self.sigma, self.gain = whole.detach().clone(), index, sigma, gain
        self._around = torch.cat((self.noisy, self.noisy), -1)  # a crop may pass the right side
        self._sum = torch.zeros_like(self.noisy, dtype=torch.float32)
        self._count = torch.zeros_like(self._sum)

    def are_of(self, whole: Tensor) -> bool:
        """Whether `whole` is still the latents of this step."""
        return whole is self._whole and whole._version == self._version  # noqa: SLF001

    def add(self, samples: Tensor, x0: Tensor) -> bool:
        """Adds crops. Returns whether they were all found in the latents.

        Args:
            samples: noisy crops `[B, C, ..., H, W]`.
            x0: their estimates, in the same shape.
        """
        for sample, estimate in zip(samples, x0, strict=True):
            place = self._place(sample)
            if place is None:
                return False
            item, top, left = place
            rows = slice(top, top + sample.shape[-2])
            columns = torch.arange(left, left + sample.shape[-1], device=sample.device) % self.noisy.shape[-1]
            self._sum[item][..., rows, :].index_add_(-1, columns, estimate.float())
            self._count[item][..., rows, :].index_add_(-1, columns, torch.ones_like(estimate, dtype=torch.float32))
        return True

    def x0(self) -> Tensor:
        """The estimate of the whole, in the shape of `noisy`; noisy where there was no crop."""
        return torch.where(self._count > 0, self._sum / self._count, self.noisy.float()).to(self.noisy.dtype)

    def _place(self, sample: Tensor) -> tuple[int, int, int] | None:
        """Batch item, top row and left column of a crop, found by its content."""
        height, width = sample.shape[-2:]
        first = (0,) * (sample.ndim - 2)  # the first channel, of the first frame
        for item, latents in enumerate(self.noisy):
            equal = latents[first] == sample[first][0, 0]
            for top, left in equal.nonzero()[:MAX_PLACES].tolist():
                if torch.equal(self._around[item][..., top : top + height, left : left + width], sample):
                    return item, top, left
        return None
