"""What the user chooses for a watched pipeline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from ...decoders.catalogue import AUTO, Catalogue
from ...decoders.latents.space import LatentSpace
from ...preview.cadence import Cadence
from ...preview.decode.memory_budget import DEVICE_BYTES, MB
from ...preview.images.encode import Enlarge, FileFormat, ImageEncoding
from ...preview.run import FULL
from ...preview.sinks.animation import ENCODES, Animation, Pace, check
from ...preview.sinks.base import NoSink, Sink
from ...preview.sinks.step_files import Batch
from ...preview.snapshot import Frames, Selection
from ...preview.step import Show

Animated = Literal["off", "webp", "gif"]
Screen = Literal["auto", "off"]
Shown = Literal["first", "middle", "animated", "all files"]
Path_ = str | PathLike[str]

CHOICES = {"show": Show, "file_format": FileFormat, "enlarge": Enlarge, "batch": Batch, "frames": Shown}
CHOICES |= {"animation": Animated}
LEAST = {"memory": 1, "device_mb": 0, "full_every_n_steps": 0}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What `watch` and `Previews` are told; the names are those of ComfyUI's node where it has them.

    Args:
        out: the folder of runs: every sampler call makes a numbered folder in it. None: nothing is written.
        show: `denoised`, what the model believes the image will be, or `noisy`, what the sampler works on.
        screen: `auto`, the cell of a notebook or the terminal, whatever this runs in; `off`; a sink; or what makes one
            for each sampler call.
        decoder: one of `Catalogue.names()`. Or `full`: the pipeline's VAE makes the last picture, where that moves no
            weights about, `auto` the others.
        full_every_n_steps: with decoder `full`, the VAE makes one of so many pictures, in the sampler's time; 0: the
            last one alone.
        decoder_folder: with the user's own decoder files.
        space: the name of the latent space, for latents whose VAE does not tell it.
        every_n_steps: a picture of every n-th step; the last step always.
        memory: pictures of a sampler call that stay in `pictures`, the newest.
        device_mb: megabytes of a device's memory that previews may take: where a decoder takes more, another shows.
        filename_prefix: how the folders' names begin, below `out`.
        file_format: `png`, `webp` or `jpg`.
        enlarge: `off`: files at the decoder's size. Else how to bring them to the size of the final image.
        batch: `grid`: all pictures of a batch side by side. `all files`: each in its own. `first`: the first alone.
        frames: of a video: `first`, `middle`, `animated`, or `all files`, each in a file of its own besides.
        keep_latents: whether each step's latents are written too, in model space `[B, C, T, H, W]` or `[B, C, H, W]`.
        sheet: whether there is a contact sheet.
        animation: of the whole run: `webp`, `gif` or `off`.
        animation_fps: steps a second.
        animation_hold_s: seconds that the last step is held.
        animation_from_step, animation_to_step: which steps are in it; 0 for the first and the last.

    Raises:
        ValueError: a choice that there is not.
        SinkError: an animation that ends before it begins.
    """

    out: Path_ | None = None
    show: Show = "denoised"
    screen: Screen | Sink | Callable[[], Sink] = "auto"
    decoder: str = AUTO
    full_every_n_steps: int = 0
    decoder_folder: Path_ | Sequence[Path_] | None = None
    space: str | LatentSpace | None = None
    every_n_steps: int = 1
    memory: int = 100
    device_mb: int = DEVICE_BYTES // MB
    filename_prefix: str = "steps"
    file_format: FileFormat = "png"
    enlarge: Enlarge = "off"
    batch: Batch = "grid"
    frames: Shown = "first"
    keep_latents: bool = False
    sheet: bool = True
    animation: Animated = "webp"
    animation_fps: float = 8.0
    animation_hold_s: float = 1.5
    animation_from_step: int = 0
    animation_to_step: int = 0

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in get_args(choices):
                told = ", ".join(get_args(choices))
                raise ValueError(f"{name}: expected one of {told}, got {getattr(self, name)!r}")
        if isinstance(self.screen, str) and self.screen not in get_args(Screen):
            raise ValueError(f"screen: expected auto, off, a sink or what makes one, got {self.screen!r}")
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.decoder == FULL and self.show == "noisy":
            raise ValueError("decoder full decodes what the model believes, not noise: set show to denoised")
        if self.out is not None and not self.filename_prefix.strip("/ "):
            raise ValueError("filename_prefix: expected a name such as steps, got none")
        if self.keep_latents and self.out is None:
            raise ValueError("keep_latents: expected a folder to keep them in; give out= as well")
        Cadence(self.every_n_steps)
        if self.animation != "off":
            check(self.animation, self.animation_from_step, self.animation_to_step, ENCODES)

    @property
    def place(self) -> Path | None:
        """What the folders of sampler calls are named after, without their number."""
        return None if self.out is None else Path(self.out) / self.filename_prefix

    @property
    def cheap(self) -> str:
        """The decoder of the steps that are not for the VAE."""
        return AUTO if self.decoder == FULL else self.decoder

    def device_bytes(self) -> int:
        """Of a device's memory that previews may take."""
        return self.device_mb * MB

    def catalogue(self) -> Catalogue:
        """The decoders at hand."""
        folders = self.decoder_folder
        several = folders if isinstance(folders, Sequence) and not isinstance(folders, str) else [folders]
        return Catalogue([Path(folder) for folder in several if folder is not None])

    def encoding(self) -> ImageEncoding:
        """Of the step files."""
        return ImageEncoding(file_format=self.file_format, enlarge=self.enlarge)

    def selection(self) -> Selection:
        """What is looked at of a step's latents."""
        frames: Frames = "animated" if self.frames == "all files" else self.frames
        return Selection(items=1 if self.batch == "first" else None, frames=frames)

    def moving(self, folder: Any) -> Animation | None:
        """The animation of a run in its folder."""
        if self.animation == "off":
            return None
        pace = Pace(self.animation_fps, self.animation_hold_s)
        return Animation(
            folder,
            pace,
            file_format=self.animation,
            encodes=ENCODES,
            from_step=self.animation_from_step,
            to_step=self.animation_to_step,
        )

    def new_screen(self) -> Sink | None:
        """What shows a sampler call that begins; None for nothing."""
        match self.screen:
            case "off":
                return None
            case "auto":
                from ...screens.auto import screen_here

                screen = screen_here()
            case Sink():
                screen = self.screen
            case make:
                screen = make()
        return None if isinstance(screen, NoSink) else screen
