"""Estimates how much memory a decode needs, from a small probe on the CPU."""

import json
import math
import weakref
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from .decoder import Card, Decoder, to_bytes
from .files.decoder_file import blank, build
from .nets.registry import KINDS

MAX_IMAGE_COPIES = 16  # float copies of an image that a decoder without `cost` needs at most
MAX_PROBE_MULTIPLICATIONS = 1 << 27  # of one measurement, to take only milliseconds
MIN_PROBE_SIDE, MAX_PROBE_SIDE = 4, 64  # latent pixels of the probe; in a smaller one the border counts too much
MAX_CACHED_ESTIMATES = 64
PROBE_FRAMES = 3  # latent frames after which the memory of a video decoder stops growing


class MemoryEstimate(NamedTuple):
    """Bytes of a decoder's weights, and peak bytes of its tensors while it decodes one image, output included."""

    weights: int
    work: int


def estimate_memory(card: Card, shape: Sequence[int]) -> MemoryEstimate:
    """Estimates the memory to decode one batch item of latents `[B, C, T, H, W]` in float32, frame by frame.

    The workspaces of a device's convolution libraries are not included.
    """
    _, channels, frames, height, width = shape
    if card.kind not in KINDS or not card.cost:
        return MemoryEstimate(0, MAX_IMAGE_COPIES * 12 * height * width * card.scale**2)
    weights, each = _measured(card.kind, json.dumps(dict(card.settings)), channels, frames > 1)
    return MemoryEstimate(weights, math.ceil(each * height * width))


@lru_cache(MAX_CACHED_ESTIMATES)
def _measured(kind: str, settings: str, channels: int, moves: bool) -> tuple[int, float]:
    """Measures the bytes of weights, and the peak bytes per latent pixel, with a small probe of zeros on the CPU.

    A probe on "meta" would compute nothing, but the modules that PyTorch then imports take seconds to load.
    """
    parsed = json.loads(settings)
    shapes = {key: tensor.shape for key, tensor in blank(kind, parsed).state_dict().items()}
    net = build(kind, parsed, {key: torch.zeros(shape) for key, shape in shapes.items()})
    decoder = Decoder(Card(name=kind, space=None, kind=kind), net)
    side = max(MIN_PROBE_SIDE, min(MAX_PROBE_SIDE, math.isqrt(MAX_PROBE_MULTIPLICATIONS // max(1, net.cost))))
    latents = torch.zeros(1, channels, PROBE_FRAMES if moves and net.stride > 1 else 1, side, side)
    with LiveBytes() as live:
        for rgb in decoder.frames(latents):
            to_bytes(rgb)
    return sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values()), live.peak / side**2


class LiveBytes(TorchFunctionMode):
    """Counts the bytes of tensors that are created inside this context, until they are freed.

    Attributes:
        peak: largest number of bytes that existed at the same time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(tensor.untyped_storage()) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        results = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(results):
            if isinstance(tensor, Tensor) and id(tensor.untyped_storage()) not in given:
                self._add(tensor.untyped_storage())
        return results

    def _add(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._remove, size).atexit = False

    def _remove(self, size: int) -> None:
        self._now -= size
