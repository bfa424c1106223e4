"""How much memory a decode takes, found without doing it."""

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

COPIES = 16  # of a picture's floats, at most: what decoders take whose work depends on what they are shown
MULTIPLICATIONS = 1 << 27  # that a count may take: milliseconds
LEAST_SIDE, MOST_SIDE = 4, 64  # latent pixels, of the piece that is counted on: of a small one the border is much
KEPT = 64
FRAMES = 3  # latent frames after which a decoder that knows time remembers as much as it ever will


class MemoryEstimate(NamedTuple):
    """Bytes of a decoder's weights, and of what is alive at once while it decodes one picture, pixels included."""

    weights: int
    work: int


def estimate_memory(card: Card, shape: Sequence[int]) -> MemoryEstimate:
    """What decoding one item of latents `[B, C, T, H, W]` takes in float32, frame by frame.

    What the libraries of a device take besides, for their convolutions, nobody tells.
    """
    _, channels, frames, height, width = shape
    if card.kind not in KINDS or not card.cost:
        return MemoryEstimate(0, COPIES * 12 * height * width * card.scale**2)
    weights, each = _counted(card.kind, json.dumps(dict(card.settings)), channels, frames > 1)
    return MemoryEstimate(weights, math.ceil(each * height * width))


@lru_cache(KEPT)
def _counted(kind: str, settings: str, channels: int, moves: bool) -> tuple[int, float]:
    """Bytes of weights, and of what is alive for each latent pixel; of a small piece with all numbers 0, on the CPU.

    Tensors on "meta" would need no piece, but PyTorch imports for seconds what they need.
    """
    given = json.loads(settings)
    shapes = {key: tensor.shape for key, tensor in blank(kind, given).state_dict().items()}
    net = build(kind, given, {key: torch.zeros(shape) for key, shape in shapes.items()})
    decoder = Decoder(Card(name=kind, space=None, kind=kind), net)
    side = max(LEAST_SIDE, min(MOST_SIDE, math.isqrt(MULTIPLICATIONS // max(1, net.cost))))
    latents = torch.zeros(1, channels, FRAMES if moves and net.stride > 1 else 1, side, side)
    with Alive() as alive:
        for rgb in decoder.frames(latents):
            to_bytes(rgb)
    return sum(tensor.numel() * tensor.element_size() for tensor in net.state_dict().values()), alive.peak / side**2


class Alive(TorchFunctionMode):
    """Counts what is made while it is in force, for as long as anybody holds on to it.

    Attributes:
        peak: the most bytes that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(tensor.untyped_storage()) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and id(tensor.untyped_storage()) not in given:
                self._take(tensor.untyped_storage())
        return made

    def _take(self, storage: Any) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._let_go, size).atexit = False

    def _let_go(self, size: int) -> None:
        self._now -= size
