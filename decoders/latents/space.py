"""Latent spaces: what a sampler's values mean.

The VAE decides the colours, and many model families share one, so the row here is the space, not the family.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from ...errors import LatentsError, UnknownSpaceError
from .layouts import LAYOUTS

AUDIO, IMAGE, VIDEO = 1, 2, 3
NAME = re.compile("[a-z0-9][a-z0-9_]{0,63}")  # it becomes part of file names
# Of any VAE; a row may come with somebody's file, and pictures are made as large as it says.
MAX_CHANNELS = 4096
MAX_STRIDE = 128
MAX_FPS = 1000


@dataclass(frozen=True, kw_only=True)
class LatentSpace:
    """One latent space. A row without a source does not construct.

    `scale`, `shift`, `mean` and `std` say how *model space*, the values a sampler holds, follows from the VAE's own:
    `model = (vae - shift - mean) * scale / std`.

    Args:
        name: short and lower case, such as `flux2`.
        title: what people call it.
        channels: of one latent pixel, unpacked.
        dims: 1 audio or tokens, 2 image, 3 video.
        downscale: picture pixels per latent pixel, along one side.
        frame_stride: frames per latent frame; 1 for images.
        fps: frames per second of the videos that its models make; None where there is no such number.
        layout: a name in `LAYOUTS`: how the sampler's tensor is laid out.
        packed: channels of the sampler's tensor, where the layout makes them differ from `channels`.
        comfyui: names of the latent format classes of ComfyUI that are this space.
        invokeai: values of InvokeAI's `BaseModelType` that are this space.
        diffusers: `Class` or `Class:pipeline prefix` of diffusers' autoencoders that are this space.
        files: how the names of published decoder files of this space begin, in hosts' folders. A file's content says
            what it is; where the content fits several spaces (TAESD and TAESDXL differ in nothing but their values),
            only its name says which.
        source: where the numbers come from.
    """

    name: str
    title: str
    channels: int
    dims: int = IMAGE
    downscale: int = 8
    frame_stride: int = 1
    fps: float | None = None
    layout: str = "plain"
    packed: int = 0
    scale: float = 1.0
    shift: float = 0.0
    mean: tuple[float, ...] | None = field(default=None, repr=False)
    std: tuple[float, ...] | None = field(default=None, repr=False)
    comfyui: tuple[str, ...] = ()
    invokeai: tuple[str, ...] = ()
    diffusers: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    source: str

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError(f"latent space {self.name!r} needs a source: say where its numbers come from")
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise ValueError(f"expected a latent space's name in lower case letters, digits and _, got {self.name!r}")
        if not all(isinstance(text, str) and text.isprintable() for text in (self.title, self.source)):
            raise ValueError(f"latent space {self.name!r}: expected title and source as texts of one line")
        for told in ("comfyui", "invokeai", "diffusers", "files"):
            names = getattr(self, told)
            if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
                raise ValueError(f"latent space {self.name!r}: expected {told} as a list of names, got {names!r}")
        if self.layout not in LAYOUTS:
            raise ValueError(f"latent space {self.name!r}: layout {self.layout!r} is none of {', '.join(LAYOUTS)}")
        self._expect_numbers()

    def _expect_numbers(self) -> None:
        counts = {"channels": MAX_CHANNELS, "packed_channels": MAX_CHANNELS}
        counts |= {"downscale": MAX_STRIDE, "frame_stride": MAX_STRIDE, "dims": VIDEO}
        for name, most in counts.items():
            count = getattr(self, name)
            if type(count) is not int or not 1 <= count <= most:
                raise ValueError(f"latent space {self.name!r}: expected {name} of 1 to {most}, got {count!r}")
        if self.fps is not None and not (_finite(self.fps) and 0 < self.fps <= MAX_FPS):
            raise ValueError(f"latent space {self.name!r}: expected fps above 0 up to {MAX_FPS}, got {self.fps!r}")
        if not (_finite(self.scale) and self.scale and _finite(self.shift)):
            raise ValueError(
                f"latent space {self.name!r}: expected a scale and a shift, got {self.scale!r}, {self.shift!r}"
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is None:
                continue
            if len(values) != self.channels:
                raise ValueError(
                    f"latent space {self.name!r}: {name} has {len(values)} values for {self.channels} channels"
                )
            if not all(_finite(value) and (value > 0 or name == "mean") for value in values):
                raise ValueError(f"latent space {self.name!r}: {name} holds {values}, not all of them numbers for it")

    @property
    def packed_channels(self) -> int:
        """Channels of the tensor that a sampler holds."""
        return self.packed or self.channels

    @property
    def values(self) -> tuple[Any, ...]:
        """What the numbers in its latents mean: equal for two rows of one space, whatever else they say."""
        return (self.channels, self.packed_channels, self.layout, self.scale, self.shift, self.mean, self.std)

    def facts(self) -> dict[str, Any]:
        """What makes the row, as JSON can hold it; without what is as it is anyway."""
        unsaid = {row.name: row.default for row in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != unsaid[name]}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "LatentSpace":
        """The row that `facts()` told of.

        Raises:
            TypeError, ValueError: they make no row.
        """
        if not isinstance(facts, Mapping):
            raise TypeError(f"expected the facts of a latent space by name, got {type(facts).__name__}")
        rows: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()
        }
        return cls(**rows)

    def unpack(self, latents: Tensor) -> Tensor:
        """The sampler's tensor as plain latents `[B, C, T, H, W]`; a view where possible, never a write.

        Raises:
            LatentsError: the tensor does not have this space's shape.
        """
        try:
            return LAYOUTS[self.layout](latents, self.channels)
        except LatentsError as error:
            raise LatentsError(
                f"latents of {self.title} ({self.name}): {error}. Name the space they are really of."
            ) from None

    def to_model(self, vae_latents: Tensor) -> Tensor:
        """The VAE's own latents `[B, C, ...]` as model space."""
        gain, offset = self._affine(vae_latents)
        return (vae_latents - offset) * gain

    def to_vae(self, latents: Tensor) -> Tensor:
        """Model space latents `[B, C, ...]` as the VAE's own."""
        gain, offset = self._affine(latents)
        return latents / gain + offset

    def _affine(self, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, -1) + (1,) * (like.ndim - 2)
        std = torch.tensor(self.std or (1.0,), dtype=like.dtype, device=like.device)
        mean = torch.tensor(self.mean or (0.0,), dtype=like.dtype, device=like.device)
        return (self.scale / std).view(shape), (mean + self.shift).view(shape)


class Spaces:
    """The latent spaces at hand, by name and by the names that hosts use."""

    def __init__(self, rows: tuple[LatentSpace, ...]) -> None:
        self._rows = {row.name: row for row in rows}
        if len(self._rows) != len(rows):
            raise ValueError("two latent spaces share a name")

    def __iter__(self):
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> LatentSpace:
        if name not in self._rows:
            raise UnknownSpaceError(f"no latent space is named {name!r}; there are: {', '.join(self._rows)}")
        return self._rows[name]


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False
