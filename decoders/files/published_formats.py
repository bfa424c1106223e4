"""Recognizes decoder files that others publish, by their keys and shapes, never by their file name."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..nets.taesd import taeqi, taesana, taesd
from .flat_layers import Shapes, derive_layers

TITLES = ("TAESD", "TAEHV", "AUTOMATIC1111 VAE-approx", "Birch-san MLP")
# Layouts that were published only for one latent space.
FLAT_OF_ONE_SPACE = (
    ("TAEF2", "flux2", taesd(32, pooled=1)),
    ("TAESANA", "sana", taesana(32)),
    ("TAEQI2.1", "qwen_image21", taeqi(64)),
)
# Settings that the content does not determine, by the beginning of the published file name.
# Source: ComfyUI 0.33, comfy/taesd/taehv.py.
BY_NAME: Mapping[str, Mapping[str, Any]] = {"lighttaehy1_5": {"slope": 0.2}}
# MiniMax H3 encodes five latent frames as one group. It is the only one with 24 channels.
CHUNK_BY_CHANNELS = {24: 5}


@dataclass(frozen=True)
class PublishedFile:
    """What a file of another project contains.

    Args:
        title: common name, for the user.
        kind: kind of decoder that runs it.
        settings: settings of the kind.
        keys: mapping of the file's keys to those of the kind. Keys that it leaves out are not needed.
        reshape: function from a tensor of the file to the tensor of the kind.
        space: latent space, if such files were published only for this one.
    """

    title: str
    kind: str
    settings: Mapping[str, Any]
    keys: Mapping[str, str]
    reshape: Callable[[Tensor], Tensor] = lambda tensor: tensor
    space: str | None = None


def recognize(name: str, shapes: Shapes) -> PublishedFile | None:
    """Returns what a file with this name and these shapes contains, or None.

    Raises:
        ValueError: it looks like a decoder, but cannot be one; the message says why.
    """
    for read in (_vae_approx, _mlp, _flat):
        if found := read(name, shapes):
            return found
    return None


def _flat(name: str, shapes: Shapes) -> PublishedFile | None:
    flat = derive_layers(shapes)
    if flat is None:
        return None
    keys = {key: f"layers.{at}" for key, at in flat.keys.items()}
    settings: dict[str, Any] = {"layers": flat.layers}
    if flat.has_time:
        wide = any(kind == "wide_memory" for kind, *_ in flat.layers)
        chunk = CHUNK_BY_CHANNELS.get(flat.channels)
        settings |= {"chunk": chunk} if chunk else {}
        for beginning, more in BY_NAME.items():
            settings |= more if name.lower().startswith(beginning) else {}
        return PublishedFile("TAEHV super" if wide else "TAEHV", "tiny_video", settings, keys, _without_time)
    for title, space, layers in FLAT_OF_ONE_SPACE:
        if flat.layers == layers:
            return PublishedFile(title, "tiny", settings, keys, _without_time, space)
    title = "TAESD" if flat.layers == taesd(flat.channels) else "a decoder like TAESD"
    return PublishedFile(title, "tiny", settings, keys, _without_time)


def _without_time(tensor: Tensor) -> Tensor:
    """Removes the axis of time of a kernel that sees one frame."""
    return tensor.squeeze(2) if tensor.ndim == 5 else tensor


def _vae_approx(_: str, shapes: Shapes) -> PublishedFile | None:
    if [len(shapes.get(key, ())) for key in ("conv1.weight", "conv8.weight", "conv8.bias")] != [4, 4, 1]:
        return None
    settings = {"channels": shapes["conv1.weight"][1]}
    return PublishedFile("AUTOMATIC1111 VAE-approx", "approx", settings, {key: key for key in shapes})


def _mlp(_: str, shapes: Shapes) -> PublishedFile | None:
    if [len(shapes.get(key, ())) for key in ("in_proj.weight", "out_proj.weight", "out_proj.bias")] != [2, 2, 1]:
        return None
    hidden = [key.removesuffix(".weight") for key in shapes if re.fullmatch(r"hidden_layers\.\d{1,3}\.weight", key)]
    layers = ["in_proj", *sorted(hidden, key=lambda key: int(key.split(".")[1])), "out_proj"]
    widths = (shapes["in_proj.weight"][1], *(n for layer in layers for n in shapes[f"{layer}.weight"][:1]))
    keys = {f"{key}.{part}": f"layers.{i}.{part}" for i, key in enumerate(layers) for part in ("weight", "bias")}
    settings = {"widths": widths, "output_range": (-1.0, 1.0)}
    return PublishedFile("Birch-san MLP", "mlp", settings, keys, lambda t: t[..., None, None] if t.ndim == 2 else t)
