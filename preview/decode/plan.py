"""Plans how latents of one shape are decoded: with which decoder, on which device, in how large chunks."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ...decoders.catalogue import Candidate
from ...decoders.memory_estimate import estimate_memory
from ...decoders.nets.base import MAX_FRAME_PIXELS
from ...decoders.ranking import LIGHT

CPU = torch.device("cpu")


class DecodePlan(NamedTuple):
    """The decoder, its device, the number of pictures in a chunk, and the bytes that a chunk needs.

    `too_large` is the preferred decoder and the bytes that it would need, if it needs too many.
    """

    candidate: Candidate
    device: torch.device
    pictures: int
    needs: int
    too_large: tuple[Candidate, int] | None = None


def plan_decode(
    candidates: Sequence[Candidate], shape: Sequence[int], device: torch.device, budget_bytes: int
) -> DecodePlan:
    """Picks the best candidate whose decode of latents `[B, C, T, H, W]` stays within `budget_bytes` on a device.

    If none does, a light decoder runs on the CPU, whose memory no sampler depends on; chunks are bounded there, too.
    """
    best, *_ = candidates
    light = [candidate for candidate in candidates if candidate.card.cost <= LIGHT]
    for candidate in (best, *light):
        weights, work = estimate_memory(candidate.card, shape)
        if device.type == "cpu" or weights + work <= budget_bytes:
            pixels = shape[-2] * shape[-1] * candidate.card.scale**2
            pictures = max(1, min((budget_bytes - weights) // work, MAX_FRAME_PIXELS // pixels))
            needs = weights + pictures * work
            too_large = _with_needs(best, shape) if candidate is not best else None
            return DecodePlan(candidate, device, pictures, needs, too_large)
    return DecodePlan(light[0] if light else best, CPU, 1, 0, _with_needs(best, shape))


def _with_needs(candidate: Candidate, shape: Sequence[int]) -> tuple[Candidate, int]:
    return candidate, sum(estimate_memory(candidate.card, shape))
