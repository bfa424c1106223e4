"""How latents of one shape are decoded: by which decoder, on which device, how much of them at once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from ...decoders.catalogue import Candidate
from ...decoders.memory_estimate import estimate_memory
from ...decoders.nets.base import FRAME_PIXELS
from ...decoders.ranking import LIGHT

CPU = torch.device("cpu")


class DecodePlan(NamedTuple):
    """The decoder, where it decodes, how many pictures at once, and the bytes that this takes.

    `without` is the one that was wanted and would take too much, with the bytes that it would take.
    """

    candidate: Candidate
    device: torch.device
    pictures: int
    needs: int
    without: tuple[Candidate, int] | None = None


def plan_decode(
    candidates: Sequence[Candidate], shape: Sequence[int], device: torch.device, room_bytes: int
) -> DecodePlan:
    """The best of `candidates` whose decode of latents `[B, C, T, H, W]` stays within `room_bytes` of a device.

    Where none does, a light one decodes on the CPU. That has memory that no sampler fails for; how much is decoded at
    once is bounded there as well.
    """
    best, *_ = candidates
    light = [candidate for candidate in candidates if candidate.card.cost <= LIGHT]
    for candidate in (best, *light):
        weights, work = estimate_memory(candidate.card, shape)
        if device.type == "cpu" or weights + work <= room_bytes:
            pixels = shape[-2] * shape[-1] * candidate.card.scale**2
            pictures = max(1, min((room_bytes - weights) // work, FRAME_PIXELS // pixels))
            needs = weights + pictures * work
            return DecodePlan(
                candidate, device, pictures, needs, _left_out(best, shape) if candidate is not best else None
            )
    return DecodePlan(light[0] if light else best, CPU, 1, 0, _left_out(best, shape))


def _left_out(candidate: Candidate, shape: Sequence[int]) -> tuple[Candidate, int]:
    return candidate, sum(estimate_memory(candidate.card, shape))


def free_bytes(device: torch.device) -> int | None:
    """What nobody has of a device's memory, the sampler's allocator included; None where it cannot be asked."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
