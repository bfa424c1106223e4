"""Recognizes decoder files that others publish, by their keys and shapes, never by their file name."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class PublishedFormat:
    """The layout of decoder files that another project publishes.

    Args:
        title: common name, for the user.
        kind: kind of decoder that runs it.
        marks: keys that each such file has, with their number of axes.
        settings: function from the file's shapes to the settings of the kind.
        keys: function from the file's shapes to a mapping of the file's keys to those of the kind. Keys that it leaves
            out are not needed.
        reshape: function from a tensor of the file to the tensor of the kind.
        space: latent space, if the layout was published only for this one.
        by_name: further settings that the content does not determine, by the beginning of the published file name.
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
        """Returns the kind's settings for a file with this name and these shapes."""
        settings = self.settings(shapes)
        for beginning, more in self.by_name.items():
            settings |= more if name.lower().startswith(beginning) else {}
        return settings

    def matches(self, shapes: Shapes) -> bool:
        """Returns whether a file with these shapes has this layout."""
        return all(len(shapes.get(key, ())) == ndim for key, ndim in self.marks.items())


def recognize_format(shapes: Shapes) -> PublishedFormat | None:
    """Returns the layout of a file with these shapes, or None."""
    return next((layout for layout in PUBLISHED_FORMATS if layout.matches(shapes)), None)


def _tiny(
    title: str, architecture: str, last: int, prefix: str, offset: int, *, space: str | None = None
) -> PublishedFormat:
    """Describes a `Sequential` of kind `tiny`: keys begin with `prefix`, layer numbers are smaller by `offset`."""
    first = f"{prefix}{1 - offset}.weight"
    block = f"{prefix}{3 - offset}." + ("pool.0.weight" if architecture == "taef2" else "conv.0.weight")
    pattern = re.compile(re.escape(prefix) + r"(\d{1,3})\.(.+)")

    def keys(shapes: Shapes) -> dict[str, str]:
        found = ((key, pattern.fullmatch(key)) for key in shapes)
        return {key: f"layers.{int(match[1]) + offset}.{match[2]}" for key, match in found if match}

    return PublishedFormat(
        title=title,
        kind="tiny",
        marks={first: 4, block: 4, f"{prefix}{last - offset}.bias": 1},
        settings=lambda shapes: {"architecture": architecture, "channels": shapes[first][1]},
        keys=keys,
        space=space,
    )


def _tiny_video(title: str, grows: tuple[int, ...], first: str, mark: str) -> PublishedFormat:
    """Describes a file of kind `tiny_video` with its encoder; `grows` are the layer numbers of `TGrow`."""
    last, widths = "decoder.22.bias", [f"decoder.{layer}.conv.weight" for layer in grows]

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
        # MiniMax H3 encodes five latent frames as one group. It is the only one with 24 channels.
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


# The plain decoder, half of an autoencoder, ComfyUI's layout, and diffusers' `AutoencoderTiny`, whose layer numbers are
# smaller by one because its clamp is not in the `Sequential`.
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
