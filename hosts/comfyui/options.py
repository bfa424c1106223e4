"""What the user chose on the node that watches a sampler."""

from dataclasses import dataclass
from typing import Any, Literal

from ...decoders.catalogue import AUTO
from ...preview.images.encode import Enlarge, FileFormat
from ...preview.images.mp4 import as_mp4
from ...preview.run import FULL
from ...preview.sinks.animation import ENCODES
from ...preview.sinks.step_files import Batch
from ...preview.snapshot import Frames
from ...preview.step import Show

Animated = Literal["off", "webp", "gif", "mp4"]
Shown = Literal["first", "middle", "animated", "all files"]
ANIMATIONS = {**ENCODES, "mp4": as_mp4}


@dataclass(frozen=True, kw_only=True)
class NodeOptions:
    """What the user chose on the node; see its tooltips."""

    decoder: str = AUTO
    show: Show = "denoised"
    every_n_steps: int = 1
    max_side_px: int = 1024
    write_intermediates: bool = False
    filename_prefix: str = "safelight/steps"
    file_format: FileFormat = "png"
    enlarge: Enlarge = "off"
    keep_latents: bool = False
    batch: Batch = "grid"
    frames: Shown = "first"
    sheet: bool = False
    animation: Animated = "off"
    animation_fps: float = 8.0
    animation_hold_s: float = 1.5
    animation_from_step: int = 0
    animation_to_step: int = 0
    full_every_n_steps: int = 0
    vae: Any = None

    @property
    def cheap(self) -> str:
        """The decoder of the steps that are not for the VAE."""
        return AUTO if self.decoder == FULL else self.decoder

    @property
    def looked_at(self) -> Frames:
        """The frames of a video that are copied and shown."""
        return "animated" if self.frames == "all files" else self.frames

    @property
    def animates(self) -> bool:
        return self.write_intermediates and self.animation != "off"
