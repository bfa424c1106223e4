"""The options of a run: one row for each, from which every host derives its inputs.

ComfyUI's node, InvokeAI's fields, `watch()`, gradio and the command line read `rows()`. So an option has one name, one
default, one meaning and one sentence of help everywhere. To add an option, add a field here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin

import numpy as np
from torch import Tensor

from ..decoders.catalogue import AUTO
from ..errors import OptionError, brief
from .cadence import Cadence
from .images.animated import MAX_FPS, AnimationFormat, Pace, expect_encoder
from .images.encode import Enlarge, FileFormat, ImageEncoding
from .run import FULL
from .sinks.contact_sheet import MAX_PICTURES
from .sinks.step_files import Batch
from .snapshot import GivenFrames, Selection
from .step import ShowChoice
from .strict_json import strict_json

AnimationChoice = Literal["off", AnimationFormat]
FramesChoice = Literal["first", "middle", "animated", "all files"]

MAX_STEP = 10_000
MAX_SIDE_PX = 16_384


@dataclass(frozen=True, kw_only=True)
class OptionRow:
    """One option, for the code that builds a host's inputs.

    Args:
        name: name of the input, everywhere.
        type: `str`, `int`, `float` or `bool`.
        default: value if the user chooses nothing; a host may have its own.
        help: one or two sentences for a tooltip or `--help`.
        choices: allowed values; empty for free values.
        minimum, maximum: allowed range of a number.
        step: increment of a number field.
        needs: names of options of which one must be switched on for this one to matter; empty for none.
    """

    name: str
    type: type
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    needs: tuple[str, ...] = ()


# ruff: noqa: RUF009 - `_option` returns a dataclass field, not a value


def _option(default: Any, help: str, **facts: Any) -> Any:  # noqa: A002 - as argparse calls it
    return field(default=default, metadata={"help": help, **facts})


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a user can choose for a run. Every field has a default; construction checks all values.

    Raises:
        OptionError: a value has the wrong type, is not one of the choices, is out of range, or contradicts another.
        SinkError: MP4 needs PyAV, which is not installed.
    """

    decoder: str = _option(
        AUTO,
        "Decoder that turns latents into pictures. auto: the best one for the model's latent space and the device. "
        "fast: the best one that a CPU decodes quickly. fine: the most truthful one, however slow. full: the model's "
        "own VAE for the last step, auto for the others. A kind, such as tiny: the best of this kind.",
    )
    show: ShowChoice = _option(
        "denoised",
        "Latents to show. denoised: the model's estimate of the finished image. noisy: the sampler's input. both: the "
        "viewer switches between them, and the files of the noisy ones end in _noisy; each step is decoded twice.",
    )
    every_n_steps: int = _option(
        1,
        "Distance between steps with a picture, beginning with the first. The last step always has one.",
        minimum=1,
        maximum=MAX_STEP,
    )
    max_side_px: int = _option(
        1024,
        "Longest side of a decoded picture, in pixels. Larger pictures are shrunk, before they are enlarged. "
        "0: no limit.",
        minimum=0,
        maximum=MAX_SIDE_PX,
    )
    write_intermediates: bool = _option(False, "Writes a picture file for every step, each run into its own folder.")
    filename_prefix: str = _option(
        "safelight/steps",
        "Path of the run's folder in the output folder, without its number: safelight/steps becomes "
        "safelight/steps_00001.",
        needs=("write_intermediates",),
    )
    file_format: FileFormat = _option(
        "png", "Format of the step files. png and webp store the workflow.", needs=("write_intermediates",)
    )
    enlarge: Enlarge = _option(
        "off",
        "Size of the step files. off: as decoded. Otherwise the filter that enlarges them to the final image's size.",
        needs=("write_intermediates",),
    )
    batch: Batch = _option(
        "grid",
        "Pictures of a batch. grid: side by side in one file. all files: a file for each, step_0001_item_01.png and "
        "so on. first: only the first, which is the cheapest.",
    )
    frames: FramesChoice = _option(
        "first",
        "Frames of a video. first or middle: one frame, as cheap as an image. animated: all frames, as an animated "
        "WebP for each step. all files: the same, and a file for each frame, step_0001/frame_0001.png and so on.",
    )
    keep_latents: bool = _option(False, "Saves each step's latents as a safetensors file, bit for bit.")
    sheet: bool = _option(
        False,
        "Writes a contact sheet, sheet.png: the steps side by side with number and sigma. Of more than "
        f"{MAX_PICTURES} steps every other one is left out, as often as needed.",
        needs=("write_intermediates",),
    )
    animation: AnimationChoice = _option(
        "off",
        "Format of an animation of the run, steps.webp and so on, one frame for each step. webp has all colors, gif "
        "256, mp4 is for video programs.",
        needs=("write_intermediates",),
    )
    animation_fps: float = _option(
        8.0,
        "Speed of the animation, in steps per second.",
        minimum=0.1,
        maximum=MAX_FPS,
        step=0.1,
        needs=("animation",),
    )
    animation_hold_s: float = _option(
        1.5,
        "Seconds that the last frame of the animation is held.",
        minimum=0.0,
        maximum=60.0,
        step=0.1,
        needs=("animation",),
    )
    animation_from_step: int = _option(
        0,
        "First step in the animation. 0: the run's first.",
        minimum=0,
        maximum=MAX_STEP,
        needs=("animation",),
    )
    animation_to_step: int = _option(
        0,
        "Last step in the animation. 0: the run's last.",
        minimum=0,
        maximum=MAX_STEP,
        needs=("animation",),
    )
    full_every_n_steps: int = _option(
        0,
        "Distance between pictures that the VAE decodes, with decoder full; the sampler waits for each. 0: the last "
        "step only.",
        minimum=0,
        maximum=MAX_STEP,
    )
    min_interval_s: float = _option(
        0.0,
        "Shortest time between two pictures, in seconds. The last step always has a picture. 0: no limit.",
        minimum=0.0,
        maximum=3600.0,
        step=0.1,
    )
    write_csv: bool = _option(
        False,
        "Writes steps.csv: a line for each step with index, sigma, seconds since the start, decode time and file.",
        needs=("write_intermediates",),
    )
    stop_below_percent: float = _option(
        0.0,
        "Rule that ends a run early: the picture moved less than this, in percent, in each of the last "
        "stop_after_steps steps. The model's estimate is then the result. 0: no rule.",
        minimum=0.0,
        maximum=100.0,
        step=0.05,
    )
    stop_after_steps: int = _option(
        3,
        "Number of steps that move the picture so little before the run ends. They count once a step moved it more.",
        minimum=1,
        maximum=MAX_STEP,
        needs=("stop_below_percent",),
    )

    def __post_init__(self) -> None:
        for row in rows():
            value = getattr(self, row.name)
            if (checked := checked_value(row, value)) is not value:
                object.__setattr__(self, row.name, checked)
        if self.decoder == FULL and self.show == "noisy":
            raise OptionError("decoder full decodes finished latents, not noise: set show to denoised")
        expect_encoder(self.animation)
        if self.animates and 0 < self.animation_to_step < self.animation_from_step:
            raise OptionError(
                f"an animation from step {self.animation_from_step} to step {self.animation_to_step} has no frames; "
                "let it end at a later step, or at 0 for the last"
            )

    @classmethod
    def of(cls, values: Mapping[str, Any], **fixed: Any) -> "RunOptions":
        """Builds options from a host's inputs; names that are no options are ignored.

        Args:
            values: value of each input, by name.
            fixed: values that the host fixes.
        """
        names = {row.name for row in rows()}
        return cls(**{name: value for name, value in values.items() if name in names} | fixed)

    def expect_no_rule(self) -> None:
        """Refuses a rule to stop for a loop of the user.

        Raises:
            OptionError: there is a rule.
        """
        if self.stop_below_percent:
            raise OptionError(
                "stop_below_percent: expected 0 for a loop of your own, which cannot be stopped from outside; leave it "
                "with break"
            )

    @property
    def step_decoder(self) -> str:
        """Decoder of the steps that the VAE does not decode."""
        return AUTO if self.decoder == FULL else self.decoder

    @property
    def needs_denoised(self) -> bool:
        """Whether the estimate of the finished image is shown."""
        return self.show != "noisy"

    @property
    def needs_noisy(self) -> bool:
        """Whether the sampler's input is shown."""
        return self.show != "denoised"

    @property
    def animates(self) -> bool:
        """Whether an animation is wanted."""
        return self.animation != "off"

    def cadence(self) -> Cadence:
        """Cadence of the run's pictures."""
        return Cadence(self.every_n_steps, min_interval_s=self.min_interval_s)

    def encoding(self) -> ImageEncoding:
        """Format and size of the step files."""
        return ImageEncoding(file_format=self.file_format, enlarge=self.enlarge, max_side_px=self.max_side_px)

    def selection(self, max_items: int | None = None) -> Selection:
        """Part of a step's latents that is copied and shown: at most `max_items` batch items, None for all."""
        return Selection(
            items=1 if self.batch == "first" else max_items,
            frames="animated" if self.frames == "all files" else self.frames,
            with_first=self.frames == "middle",
        )

    def given_frames(self) -> GivenFrames:
        """Frames of a video that `selection` gives to the decoder."""
        return GivenFrames.FIRST_AND_SHOWN if self.frames == "middle" else GivenFrames.ALL

    def pace(self) -> Pace:
        """Speed of the animation."""
        return Pace(self.animation_fps, self.animation_hold_s)


def rows() -> Sequence[OptionRow]:
    """All options, in the order in which hosts show them."""
    return ROWS


def row(name: str) -> OptionRow:
    """The option `name`."""
    return next(row for row in ROWS if row.name == name)


def _rows() -> list[OptionRow]:
    return [
        OptionRow(
            name=each.name, type=type(each.default), default=each.default, choices=_choices(each.type), **each.metadata
        )
        for each in fields(RunOptions)
    ]


def _choices(annotation: Any) -> tuple[str, ...]:
    """The values of a Literal, also of one inside another."""
    if get_origin(annotation) is not Literal:
        return ()
    return tuple(value for each in get_args(annotation) for value in (_choices(each) or (each,)))


def checked_value(row: OptionRow, value: Any) -> Any:
    """Returns `value` as the option's type. A whole float is a whole number; numbers of NumPy and torch are numbers.

    Raises:
        OptionError: the value is not allowed.
    """
    if isinstance(value, np.generic | Tensor):
        value = strict_json(value)
    if row.type is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = is_number if row.type is float else isinstance(value, row.type)
    if row.type is int:
        fits = is_number and isinstance(value, int)
    if not fits:
        expected = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}[row.type]
        raise OptionError(f"{row.name}: expected {expected}, got {brief(value)}")
    if row.choices and value not in row.choices:
        raise OptionError(f"{row.name}: expected one of {', '.join(row.choices)}, got {brief(value)}")
    low, high = row.minimum, row.maximum
    if is_number and low is not None and high is not None and not (math.isfinite(value) and low <= value <= high):
        raise OptionError(f"{row.name}: expected {low:g} to {high:g}, got {brief(value)}")
    return value


ROWS = _rows()
# The rows are the only place that describes the options, so `help(Options)` is made from them, too.
RunOptions.__doc__ = f"{RunOptions.__doc__}\n    Args:\n" + "\n".join(f"        {row.name}: {row.help}" for row in ROWS)
