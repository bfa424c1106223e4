"""Pictures of a run as ComfyUI's IMAGE."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...preview.images.thumbnails import StepImage
from ...preview.saved_run import spread_evenly
from ...preview.sinks.contact_sheet import lay_out

MAX_SHEET_PICTURES = 48


def images(pictures: Sequence[StepImage]) -> Tensor:
    """Converts pictures of a run to IMAGE `[N, H, W, 3]` in 0..1, all resized to the size of the last one."""
    size = pictures[-1].image.size
    resized = (each.image if each.image.size == size else each.image.resize(size) for each in pictures)
    return torch.stack([torch.from_numpy(np.array(image)).float() / 255 for image in resized])


def sheet(pictures: Sequence[StepImage]) -> Tensor:
    """Lays out pictures of a run as a contact sheet, IMAGE `[1, H, W, 3]`; steps are left out if there are many."""
    selected = spread_evenly(pictures, MAX_SHEET_PICTURES)
    return torch.from_numpy(np.array(lay_out(selected)))[None].float() / 255
