"""The description of one latent space: what the values of a sampler mean.

The VAE determines the colors, and many model families share one VAE. So a row describes a space, not a model family.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from ...errors import LatentsError, UnknownSpaceError
from .layouts import LAYOUTS

AUDIO, IMAGE, VIDEO = 1, 2, 3
HOSTS = ("comfyui", "invokeai", "diffusers")  # keys of `LatentSpace.hosts`; in files they are keys of the row itself
SPACE_NAME = re.compile("[a-z0-9][a-z0-9_]{0,63}")  # it becomes part of file names
# Limits for any VAE. A row may come from a downloaded file, and it sets the size of the images.
MAX_SPACE_CHANNELS = 4096
MAX_STRIDE = 128
MAX_SPACE_FPS = 1000


@dataclass(frozen=True, kw_only=True)
class LatentSpace:
    """One latent space. A row without a source raises `ValueError`.

    `scale`, `shift`, `mean` and `std` define *model space*, the values that a sampler works on, from the VAE's values:
    `model = (vae - shift - mean) * scale / std`.

    Args:
        name: short name in lower case, such as `flux2`.
        title: common name, for the user.
        channels: channels of one latent pixel, unpacked.
        dims: 1 for audio or tokens, 2 for images, 3 for videos.
        downscale: image pixels per latent pixel, along one side.
        frame_stride: frames per latent frame; 1 for images.
        causal: whether the VAE of a video encodes the first frame alone, so that the values of the first latent frame
            differ from those of the later ones; see `later_frames`.
        fps: frames per second of the videos that its models generate; None if its models differ, or for no video.
        layout: name in `LAYOUTS` of the sampler tensor's layout.
        packed: channels of the sampler's tensor, if the layout makes them differ from `channels`; else 0.
        scale: factor from the VAE's values to model space.
        shift: offset that is subtracted from the VAE's values.
        mean: further offset per channel, or None.
        std: further divisor per channel, or None.
        hosts: names that each of `HOSTS` uses for this space: latent format classes of ComfyUI, values of InvokeAI's
            `BaseModelType`, autoencoders of diffusers as `Class` or `Class:pipeline prefix`.
        files: beginnings of the file names under which decoders of this space are published. The content of a file has
            priority. Where it fits several spaces (TAESD and TAESDXL differ only in their weights), the name decides.
        source: where the numbers were published.
    """

    name: str
    title: str
    channels: int
    dims: int = IMAGE
    downscale: int = 8
    frame_stride: int = 1
    causal: bool = False
    fps: float | None = None
    layout: str = "plain"
    packed: int = 0
    scale: float = 1.0
    shift: float = 0.0
    mean: tuple[float, ...] | None = field(default=None, repr=False)
    std: tuple[float, ...] | None = field(default=None, repr=False)
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    files: tuple[str, ...] = ()
    source: str

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError(f"latent space {self.name!r} needs a source: say where its numbers were published")
        if not isinstance(self.name, str) or not SPACE_NAME.fullmatch(self.name):
            raise ValueError(f"expected a latent space's name in lower case letters, digits and _, got {self.name!r}")
        if not all(isinstance(text, str) and text.isprintable() for text in (self.title, self.source)):
            raise ValueError(f"latent space {self.name!r}: expected title and source as one line of text each")
        if unknown := self.hosts.keys() - set(HOSTS):
            raise ValueError(f"latent space {self.name!r}: expected hosts among {', '.join(HOSTS)}, got {unknown}")
        for key, names in {**self.hosts, "files": self.files}.items():
            if not isinstance(names, tuple) or not all(isinstance(name, str) and name for name in names):
                raise ValueError(f"latent space {self.name!r}: expected {key} as a list of names, got {names!r}")
        if self.layout not in LAYOUTS:
            raise ValueError(
                f"latent space {self.name!r}: expected a layout among {', '.join(LAYOUTS)}, got {self.layout!r}"
            )
        self._expect_numbers()

    def _expect_numbers(self) -> None:
        counts = {"channels": MAX_SPACE_CHANNELS, "packed_channels": MAX_SPACE_CHANNELS}
        counts |= {"downscale": MAX_STRIDE, "frame_stride": MAX_STRIDE, "dims": VIDEO}
        for name, most in counts.items():
            count = getattr(self, name)
            if type(count) is not int or not 1 <= count <= most:
                raise ValueError(f"latent space {self.name!r}: expected {name} of 1 to {most}, got {count!r}")
        if type(self.causal) is not bool:
            raise ValueError(f"latent space {self.name!r}: expected causal as true or false, got {self.causal!r}")
        if self.fps is not None and not (_finite(self.fps) and 0 < self.fps <= MAX_SPACE_FPS):
            raise ValueError(
                f"latent space {self.name!r}: expected fps above 0 up to {MAX_SPACE_FPS}, got {self.fps!r}"
            )
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
                raise ValueError(f"latent space {self.name!r}: {name} holds {values}, expected finite numbers for it")

    @property
    def packed_channels(self) -> int:
        """Channels of the sampler's tensor."""
        return self.packed or self.channels

    @property
    def values(self) -> tuple[Any, ...]:
        """The fields that give latents their meaning. Two rows of one space have equal `values`."""
        return (self.channels, self.packed_channels, self.layout, self.scale, self.shift, self.mean, self.std)

    def facts(self) -> dict[str, Any]:
        """Returns the row as JSON data, without default values; the names of each host have a key of their own."""
        defaults = {row.name: row.default for row in fields(self)}
        facts: dict[str, Any] = {}
        for name, value in asdict(self).items():
            if name == "hosts":
                facts |= {host: value[host] for host in HOSTS if value.get(host)}
            elif value != defaults[name]:
                facts[name] = value
        return facts

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "LatentSpace":
        """Creates the row from the result of `facts()`.

        Raises:
            TypeError, ValueError: the facts do not describe a row.
        """
        if not isinstance(facts, Mapping):
            raise TypeError(f"expected the facts of a latent space by name, got {type(facts).__name__}")
        row: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()
        }
        hosts = {host: row.pop(host) for host in HOSTS if host in row}
        return cls(hosts=hosts, **row)

    def unpack(self, latents: Tensor) -> Tensor:
        """Unpacks the sampler's tensor to plain latents `[B, C, T, H, W]`: a view where possible, never in place.

        Raises:
            LatentsError: the tensor does not have the shape of this space.
        """
        try:
            return LAYOUTS[self.layout](latents, self.channels)
        except LatentsError as error:
            raise LatentsError(
                f"latents of {self.title} ({self.name}): {error}. Choose the latent space that they belong to."
            ) from None

    def to_model(self, vae_latents: Tensor) -> Tensor:
        """Converts the VAE's latents `[B, C, ...]` to model space."""
        gain, offset = self._affine(vae_latents)
        return (vae_latents - offset) * gain

    def to_vae(self, latents: Tensor) -> Tensor:
        """Converts model space latents `[B, C, ...]` to the VAE's latents."""
        gain, offset = self._affine(latents)
        return latents / gain + offset

    def _affine(self, like: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, -1) + (1,) * (like.ndim - 2)
        std = torch.tensor(self.std or (1.0,), dtype=like.dtype, device=like.device)
        mean = torch.tensor(self.mean or (0.0,), dtype=like.dtype, device=like.device)
        return (self.scale / std).view(shape), (mean + self.shift).view(shape)


class Spaces:
    """The available latent spaces, by name."""

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
            near = self.near_names(name)
            advice = f" Did you mean {' or '.join(near)}?" if near else ""
            raise UnknownSpaceError(f"no latent space is named {name!r}; there are: {', '.join(self._rows)}.{advice}")
        return self._rows[name]

    def near_names(self, name: str) -> list[str]:
        """Returns the names of at most three spaces that `name` could mean: a title, a host's name, part of a name."""
        wanted = _letters(name)
        known = {
            row.name: [_letters(text) for text in (row.name, row.title, *sum(row.hosts.values(), ()))] for row in self
        }
        tests: tuple[Callable[[list[str]], bool], ...] = (
            lambda texts: wanted == texts[0],
            lambda texts: wanted in texts or texts[0].startswith(wanted),
            lambda texts: any(wanted in text for text in texts),
        )
        found = ([name for name, texts in known.items() if test(texts)] for test in tests) if wanted else ()
        return next(filter(None, found), difflib.get_close_matches(name.lower(), known))[:3]


def _letters(text: str) -> str:
    """Only the letters and digits of a name, in lower case: `FLUX.1` and `flux-1` are one."""
    return re.sub("[^a-z0-9]", "", text.lower())


def _finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False
