"""Pictures of a run as ComfyUI's IMAGE."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...errors import SinkError
from ...preview.decode.memory_budget import MB
from ...preview.images.thumbnails import StepImage
from ...preview.saved_run import spread_evenly
from ...preview.sinks.contact_sheet import lay_out

MAX_SHEET_PICTURES = 48
MAX_IMAGE_BYTES = 4096 * MB


def images(pictures: Sequence[StepImage]) -> Tensor:
    """Converts pictures of a run to IMAGE `[N, H, W, 3]` in 0..1, all resized to the size of the last one.

    Raises:
        SinkError: the result would have more than `MAX_IMAGE_BYTES`.
    """
    width, height = size = pictures[-1].image.size
    bytes_each = width * height * 3 * torch.float32.itemsize
    if len(pictures) * bytes_each > MAX_IMAGE_BYTES:
        raise SinkError(
            f"{len(pictures)} pictures of {width}x{height} would need {len(pictures) * bytes_each / MB:,.0f} MB as "
            f"IMAGE, the limit is {MAX_IMAGE_BYTES / MB:,.0f} MB; set max_images to at most "
            f"{MAX_IMAGE_BYTES // bytes_each}"
        )
    tensor = torch.empty(len(pictures), height, width, 3)
    for target, each in zip(tensor, pictures, strict=True):
        image = each.image if each.image.size == size else each.image.resize(size)
        torch.div(torch.from_numpy(np.array(image)), 255, out=target)
    return tensor


def sheet(pictures: Sequence[StepImage]) -> Tensor:
    """Lays out pictures of a run as a contact sheet, IMAGE `[1, H, W, 3]`; steps are left out if there are many."""
    selected = spread_evenly(pictures, MAX_SHEET_PICTURES)
    return torch.from_numpy(np.array(lay_out(selected)))[None].float() / 255
