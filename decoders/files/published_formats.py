"""Decoder files that others publish, recognised by their keys and shapes, never by their file name."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class PublishedFormat:
    """A published file layout that is not ours.

    Args:
        title: what people call it.
        kind: the kind that runs it.
        marks: keys that every such file has, each with its number of axes.
        settings: the kind's settings, from the file's shapes.
        keys: which of the file's keys is which of the kind's; keys left out are not needed.
        reshape: the file's tensor as the kind's.
        space: the latent space, where the layout was published for one only.
        by_name: settings that the content leaves open, by how the name of a published file begins.
    """

    title: str
    kind: str
    marks: Mapping[str, int]
    settings: Callable[[Shapes], dict[str, Any]]
    keys: Callable[[Shapes], dict[str, str]]
    reshape: Callable[[Tensor], Tensor] = lambda tensor: tensor
    space: str | None = None
    by_name: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def settings_of(self, name: str, shapes: Shapes) -> dict[str, Any]:
        """The kind's settings for a file of this name with these tensors."""
        settings = self.settings(shapes)
        for beginning, more in self.by_name.items():
            settings |= more if name.lower().startswith(beginning) else {}
        return settings

    def matches(self, shapes: Shapes) -> bool:
        """Whether a file with these tensors is of this layout."""
        return all(len(shapes.get(key, ())) == ndim for key, ndim in self.marks.items())


def recognize_format(shapes: Shapes) -> PublishedFormat | None:
    """The layout of a file with these tensors, or None."""
    return next((foreign for foreign in PUBLISHED_FORMATS if foreign.matches(shapes)), None)


def _tiny(
    title: str, architecture: str, last: int, prefix: str, behind: int, *, space: str | None = None
) -> PublishedFormat:
    """A `Sequential` of `tiny`, its keys behind `prefix`, its numbers `behind` those of the published class."""
    first = f"{prefix}{1 - behind}.weight"
    block = f"{prefix}{3 - behind}." + ("pool.0.weight" if architecture == "taef2" else "conv.0.weight")
    pattern = re.compile(re.escape(prefix) + r"(\d{1,3})\.(.+)")

    def keys(shapes: Shapes) -> dict[str, str]:
        found = ((key, pattern.fullmatch(key)) for key in shapes)
        return {key: f"layers.{int(match[1]) + behind}.{match[2]}" for key, match in found if match}

    return PublishedFormat(
        title=title,
        kind="tiny",
        marks={first: 4, block: 4, f"{prefix}{last - behind}.bias": 1},
        settings=lambda shapes: {"architecture": architecture, "channels": shapes[first][1]},
        keys=keys,
        space=space,
    )


def _tiny_video(title: str, grows: tuple[int, ...], first: str, mark: str) -> PublishedFormat:
    """One of `tiny_video`, beside its encoder; `grows` are the places in its `Sequential` where time grows."""
    last, widths = "decoder.22.bias", [f"decoder.{place}.conv.weight" for place in grows]

    def settings(shapes: Shapes) -> dict[str, Any]:
        wide = "decoder.3.conv.3.weight" in shapes
        outer, channels = shapes[first][:2]
        strides = tuple(shapes[key][0] // max(1, shapes[key][1]) for key in widths)
        inner = [shapes[key][1] for key in widths[:2]] if wide else [shapes[key][1] for key in widths[1:]]
        found = {
            "channels": channels,
            "widths": (outer, *inner, shapes["decoder.22.weight"][1]),
            "strides": strides,
            "patch": max(1, math.isqrt(shapes[last][0] // 3)),
        }
        # MiniMax H3 encodes five latent frames at a time: nothing else has 24 channels.
        return found | ({"wide": True} if wide else {}) | ({"chunk": 5} if channels == 24 else {})

    return PublishedFormat(
        title=title,
        kind="tiny_video",
        marks={first: 4, mark: 4, **dict.fromkeys(widths, 4), "decoder.22.weight": 4, last: 1},
        settings=settings,
        keys=lambda shapes: {
            key: key.replace("decoder.", "layers.", 1) for key in shapes if re.match(r"decoder\.\d{1,3}\.", key)
        },
        # Source: ComfyUI 0.33, comfy/taesd/taehv.py.
        by_name={"lighttaehy1_5": {"slope": 0.2}},
    )


def _mlp_layers(shapes: Shapes) -> list[str]:
    hidden = [key.removesuffix(".weight") for key in shapes if re.fullmatch(r"hidden_layers\.\d{1,3}\.weight", key)]
    return ["in_proj", *sorted(hidden, key=lambda key: int(key.split(".")[1])), "out_proj"]


# Published plain, as half of an autoencoder, as ComfyUI saves it, and as diffusers' `AutoencoderTiny`, which keeps the
# clamp outside its `Sequential` and so counts one less.
_TINY_LAYOUTS = (("", 0), ("decoder.", 0), ("taesd_decoder.", 0), ("decoder.layers.", 1))

PUBLISHED_FORMATS: tuple[PublishedFormat, ...] = (
    _tiny_video("TAEHV", (7, 13, 19), "decoder.1.weight", "decoder.3.conv.4.weight"),
    _tiny_video("TAEHV super", (7, 14, 21), "decoder.0.weight", "decoder.3.conv.3.weight"),
    *(_tiny("TAESANA", "taesana", 29, *layout, space="sana") for layout in _TINY_LAYOUTS),
    *(_tiny("TAEF2", "taef2", 19, *layout, space="flux2") for layout in _TINY_LAYOUTS),
    *(_tiny("TAESD", "taesd", 19, *layout) for layout in _TINY_LAYOUTS),
    PublishedFormat(
        title="AUTOMATIC1111 VAE-approx",
        kind="approx",
        marks={"conv1.weight": 4, "conv8.weight": 4, "conv8.bias": 1},
        settings=lambda shapes: {"channels": shapes["conv1.weight"][1]},
        keys=lambda shapes: {key: key for key in shapes},
    ),
    PublishedFormat(
        title="Birch-san MLP",
        kind="mlp",
        marks={"in_proj.weight": 2, "out_proj.weight": 2, "out_proj.bias": 1},
        settings=lambda shapes: {
            "widths": (
                shapes["in_proj.weight"][1],
                *(width for layer in _mlp_layers(shapes) for width in shapes[f"{layer}.weight"][:1]),
            ),
            "output_range": (-1.0, 1.0),
        },
        keys=lambda shapes: {
            f"{layer}.{part}": f"layers.{i}.{part}"
            for i, layer in enumerate(_mlp_layers(shapes))
            for part in ("weight", "bias")
        },
        reshape=lambda tensor: tensor[..., None, None] if tensor.ndim == 2 else tensor,
    ),
)
