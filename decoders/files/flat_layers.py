"""Derives the layers of a flat decoder from the keys and shapes in its file.

Such a decoder is one `Sequential`. Its keys begin with the number of a layer. Layers without weights, such as an
upscaling, have a number and no key, so they are inferred from the layers around the gap.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from ..nets.taesd import Layer

Shapes = Mapping[str, tuple[int, ...]]
Weights = dict[str, tuple[int, ...]]  # shapes of one layer, by key

KEY = re.compile(r"((?:[A-Za-z_]\w*\.)*)(\d{1,3})\.(\w[\w.]*)")
MAX_GAP = 2  # an activation and an upscaling
MAX_HEAD = 8  # image pixels that the last layer computes at one place, along one side
RGB, RGBA = 3, 4  # channels


class EncoderLayersError(ValueError):
    """The layers are those of an encoder."""


class FlatDecoder(NamedTuple):
    """The layers of a decoder, the channels of its latents, and the place of each tensor: `number.name`, by key."""

    layers: list[Layer]
    channels: int
    keys: dict[str, str]

    @property
    def has_time(self) -> bool:
        """Whether a layer sees the frame before, or makes several frames of one."""
        return any(name in ("memory", "wide_memory", "grow") for name, *_ in self.layers)


class Part(NamedTuple):
    """A layer with weights, and the channels of its input and output."""

    layer: Layer
    n_in: int
    n_out: int

    @property
    def name(self) -> str:
        return self.layer[0]

    @property
    def has_bias(self) -> bool:
        return self.name != "conv" or len(self.layer) < 5


def derive_layers(shapes: Shapes) -> FlatDecoder | None:
    """Returns the decoder that a file with these shapes contains, or None if it is no flat decoder.

    Raises:
        EncoderLayersError: it is an encoder.
        ValueError: it is flat, but no decoder to images, or one of its layers cannot be inferred; the message says why.
    """
    prefix, weights = _one_sequential(shapes)
    parts = {number: _part(weights[number]) for number in sorted(weights)}
    if len(parts) < 2 or None in parts.values():
        return None
    known = {number: part for number, part in parts.items() if part is not None}
    # diffusers clamps before its `Sequential`.
    offset = 1 if prefix.endswith("layers.") and 0 in known else 0
    inner = _inner_layers(known)
    layers = [*[("clamp",)] * offset, *inner, *_head(known)]
    keys = {f"{prefix}{number}.{key}": f"{number + offset}.{key}" for number in weights for key in weights[number]}
    return FlatDecoder(layers, known[min(known)].n_in, keys)


def _one_sequential(shapes: Shapes) -> tuple[str, dict[int, Weights]]:
    """The prefix of the decoder's keys, and the shapes of each of its layers."""
    found: dict[str, dict[int, Weights]] = {}
    for key, shape in shapes.items():
        if (match := KEY.fullmatch(key)) and "encoder" not in match[1]:
            found.setdefault(match[1], {}).setdefault(int(match[2]), {})[match[3]] = shape
    prefixes = [prefix for prefix in found if "decoder" in prefix] or list(found)
    return (prefixes[0], found[prefixes[0]]) if len(prefixes) == 1 else ("", {})


def _part(weights: Weights) -> Part | None:
    """The layer with these weights, or None if it is of an unknown kind."""
    kernels = {key: shape for key, shape in weights.items() if len(shape) > 1}
    if any(len(shape) not in (4, 5) or 0 in shape for shape in kernels.values()):
        return None
    if any(len(shape) == 5 and shape[2] > 1 for shape in kernels.values()):
        raise ValueError("its convolutions reach over time, and the file does not say in which direction")
    if first := kernels.get("conv.0.weight"):
        return _block(first, weights)
    if grown := kernels.get("conv.weight"):
        n_in, strides = grown[1], grown[0] // grown[1]
        return Part(("grow", n_in, strides), n_in, n_in)
    if kernel := kernels.get("weight"):
        n_out, n_in, side = kernel[0], kernel[1], kernel[-1]
        if side % 2 == 0:
            raise ValueError(f"a kernel of {side} pixels has no center")
        numbers = (n_in, n_out, side, 0) if "bias" not in weights else (n_in, n_out, *([side] if side != 3 else []))
        return Part(("conv", *numbers), n_in, n_out)
    return None


def _block(first: tuple[int, ...], weights: Weights) -> Part:
    n_out, n_in = first[:2]
    if n_in == 1 and first[-1] > 3:  # one kernel for each channel, of this frame and of the one before
        return Part(("wide_memory", n_out // 2), n_out // 2, n_out // 2)
    if n_in == 2 * n_out and "skip.weight" not in weights:
        return Part(("memory", n_out), n_out, n_out)
    return Part(("block", n_in, n_out, *([1] if "pool.0.weight" in weights else [])), n_in, n_out)


def _inner_layers(parts: Mapping[int, Part]) -> list[Layer]:
    """All layers up to the last one with weights. An encoder looks like a decoder that never enlarges."""
    if parts[min(parts)].n_in == RGB:
        raise EncoderLayersError("it takes pictures: an encoder is not a decoder")
    layers = [*_with_gaps(parts)]
    if not any(name in ("up", "shuffle") for name, *_ in layers):
        raise EncoderLayersError("it enlarges nothing between its layers: an encoder is not a decoder")
    return layers


def _with_gaps(parts: Mapping[int, Part]) -> Iterator[Layer]:
    first = min(parts)
    if first > 1:
        raise ValueError(f"expected its first convolution as layer 0 or 1, got layer {first}")
    yield from [("clamp",)] * first
    yield parts[first].layer
    for (left, before), (right, after) in pairwise(parts.items()):
        gap = right - left - 1
        if gap > MAX_GAP:
            raise ValueError(f"the {gap} layers between {left} and {right} have no weights, expected at most {MAX_GAP}")
        if gap == 1 and left == first and before.n_out == after.n_in:
            yield ("relu",)
        else:
            yield from _gap(left, before, after, gap)
        yield after.layer


def _gap(left: int, before: Part, after: Part, count: int) -> Sequence[Layer]:
    """The layers without weights between two layers."""
    ratio = before.n_out / after.n_in
    side = math.isqrt(round(ratio))
    if ratio == side**2 and side > 1 and count:
        return [*[("relu",)] * (count - 1), ("shuffle", side)]
    if ratio != 1:
        raise ValueError(f"layer {left} gives {before.n_out} channels, and the next one takes {after.n_in}")
    active = before.name != "conv"  # a block ends with its own activation
    if count == 1:
        # An upscaling comes before a convolution without bias, or before a layer that makes frames.
        enlarges = active or (after.name == "conv" and not after.has_bias) or after.name == "grow"
        return [("up",) if enlarges else ("relu",)]
    return [("up",) if active else ("relu",), ("up",)][:count]


def _head(parts: Mapping[int, Part]) -> list[Layer]:
    """The layers after the last one with weights: its channels are the pixels of a small square."""
    last = parts[max(parts)]
    for channels in (RGB, RGBA):
        side = math.isqrt(last.n_out // channels)
        if last.name == "conv" and last.n_out == channels * side**2 and 1 <= side <= MAX_HEAD:
            return [("shuffle", side)] if side > 1 else []
    raise ValueError(f"its last layer gives {last.n_out} channels, which is no RGB and no RGBA picture")
