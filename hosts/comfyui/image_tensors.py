"""Pictures of a run as the IMAGE of the host's nodes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...preview.images.thumbnails import StepImage
from ...preview.saved_run import spread_evenly
from ...preview.sinks.contact_sheet import lay_out

MOST_ON_SHEET = 48


def images(pictures: Sequence[StepImage]) -> Tensor:
    """IMAGE `[N, H, W, 3]`, 0..1, of pictures of a run, all as large as the last one."""
    size = pictures[-1].image.size
    same = (one.image if one.image.size == size else one.image.resize(size) for one in pictures)
    return torch.stack([torch.from_numpy(np.array(image)).float() / 255 for image in same])


def sheet(pictures: Sequence[StepImage]) -> Tensor:
    """IMAGE `[1, H, W, 3]`: a contact sheet of pictures of a run."""
    few = spread_evenly(pictures, MOST_ON_SHEET)
    return torch.from_numpy(np.array(lay_out(few)))[None].float() / 255
