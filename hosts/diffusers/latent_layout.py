"""Rearranges a scheduler's latents to `[B, C, H, W]` or `[B, C, T, H, W]`."""

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import final

from torch import Tensor

from ...errors import LatentsError
from .call_arguments import CallArguments
from .pipeline_families import COMMON_AXES, FRAMES_IN_BATCH, ROWS, TOKENS, PipelineFamily

AXIS_ORDER = ("B", "C", "T", "H", "p", "W", "q")
PICTURES = "B C H W"
AXIS_GROUP = re.compile(r"\(([^)]*)\)|(\S+)")


@final
class LatentLayout:
    """The layout of one sampler call's latents.

    Args:
        family: family of the pipeline.
        call: arguments of the pipeline's call.
        channels: channels of the unpacked latents; None if unknown.
        stride: frames of the video for each frame of its latents.
        note: function that receives a message, once, if the size of the picture was guessed.
    """

    def __init__(
        self,
        family: PipelineFamily,
        call: CallArguments,
        channels: int | None,
        stride: int,
        note: Callable[[str], None],
    ) -> None:
        self._family, self._call, self._channels, self._stride = family, call, channels, stride
        self._axes = layouts_of(family)
        self._note: Callable[[str], None] | None = note

    def rearrange(self, latents: Tensor) -> Tensor:
        """Returns the latents with axes in order: a copy of tokens, a view of other latents.

        Raises:
            LatentsError: the number of axes is unknown.
        """
        axes = self._axes.get(latents.ndim)
        if axes == ROWS:
            latents, axes = latents.unsqueeze(0), TOKENS
        if axes == PICTURES and (self._call.frames or 1) > 1 and latents.shape[0] % (self._call.frames or 1) == 0:
            axes = FRAMES_IN_BATCH[0]  # a pipeline without a row of its own that makes a video
        if axes is None:
            expected = ", ".join(self._axes.values())
            raise LatentsError(f"expected latents {expected}, got {list(latents.shape)}; they are not shown")
        sizes: list[int] = []
        for axis, group in enumerate(axis_groups(axes)):
            if group == ("T", "H", "W"):
                frames, height, width = self._token_grid(latents.shape[axis])
                latents = self._without_extra_tokens(latents, axis, frames * height * width)
                sizes += [frames, height, width]
            else:
                sizes += self._sizes(group, latents.shape[axis])
        names = [name for group in axis_groups(axes) for name in group]
        view = latents.reshape(sizes).permute(*(names.index(name) for name in ordered(tuple(names))))
        if "1" in names:
            view = view[..., -1]
        if "p" not in names:
            return view
        items, channels, frames, height, p, width, q = view.shape
        return view.reshape(items, channels, frames, height * p, width * q)

    def _sizes(self, group: tuple[str, ...], size: int) -> list[int]:
        """The sizes of the axes that one axis of this size is made of; not for tokens."""
        if group == ("B", "T"):
            frames = self._frames_in(size)
            return [size // frames, frames]
        if group == ("T", "C"):
            pictures = max(1, size // (self._channels or size))
            return [pictures, size // pictures]
        if len(group) > 1:
            patch = patch_side(size, self._channels)
            return [patch if name in "pq" else size // patch**2 for name in group]
        return [size]

    def _without_extra_tokens(self, latents: Tensor, axis: int, tokens: int) -> Tensor:
        """Drops tokens that are not part of the picture or video, which has `tokens` tokens."""
        begin = latents.shape[axis] - tokens if self._family.extra_tokens == "before" else 0
        return latents.narrow(axis, begin, tokens)

    def _token_grid(self, tokens: int) -> tuple[int, int, int]:
        """Frames, height and width of the picture's tokens; `tokens` may include extra ones."""
        call = self._call
        if call.latent_height and call.latent_width:
            pixels = call.latent_height * call.latent_width
            stated = (count for count in self._frame_counts() if count * pixels <= tokens)
            frames = call.latent_frames or next(stated, max(1, tokens // pixels))
            grid = frames, call.latent_height, call.latent_width
            if math.prod(grid) <= tokens:
                return grid
        frames = next((count for count in self._frame_counts() if tokens % count == 0), 1)
        if call.height and call.width:
            return frames, *nearest_grid(tokens // frames, call.height / call.width)
        if self._note is not None:
            self._note("the height and width of the picture are not stated: it is shown as a square")
            self._note = None
        return frames, *nearest_grid(tokens // frames, 1.0)

    def _frames_in(self, pictures: int) -> int:
        """Frames of each video among the pictures of a batch."""
        frames = self._call.frames
        return frames if frames and pictures % frames == 0 else pictures

    def _frame_counts(self) -> Sequence[int]:
        """Possible numbers of frames of the latents."""
        call = self._call
        video = ((call.frames - 1) // self._stride + 1,) if call.frames else ()
        layers = (call.layers + 1,) if call.layers else ()  # the first layer is the complete picture
        return [count for count in (call.latent_frames, *layers, *video) if count]


def layouts_of(family: PipelineFamily) -> dict[int, str]:
    """Returns the layout of a family's latents for each number of axes."""
    return {len(axis_groups(axes)): axes for axes in (*COMMON_AXES, *family.axes)}


def part_axes(family: PipelineFamily, ndim: int) -> tuple[int, ...]:
    """Returns the axes of time, height and width of a family's latents with `ndim` axes; none of packed latents."""
    groups = axis_groups(layouts_of(family).get(ndim, ""))
    return tuple(groups.index((name,)) for name in "THW" if (name,) in groups)


def channel_axis(family: PipelineFamily, ndim: int) -> int | None:
    """Returns the axis of the channels of a family's latents with `ndim` axes; None for packed latents."""
    groups = axis_groups(layouts_of(family).get(ndim, ""))
    return groups.index(("C",)) if ("C",) in groups else None


@lru_cache
def axis_groups(axes: str) -> tuple[tuple[str, ...], ...]:
    """Splits `B (T H W) (C p q)` into `(B,), (T, H, W), (C, p, q)`."""
    return tuple(tuple((group or axis).split()) for group, axis in AXIS_GROUP.findall(axes))


@lru_cache
def ordered(names: tuple[str, ...]) -> tuple[str, ...]:
    """Sorts the names of axes into the order of the result; the axis `1`, of which one entry stays, comes last."""
    return (*(name for name in AXIS_ORDER if name in names), *(["1"] if "1" in names else []))


def patch_side(packed: int, channels: int | None) -> int:
    """Returns the side of the square patches in a token of `packed` numbers; 1 if no square fits."""
    if not channels or packed % channels:
        return 1
    side = math.isqrt(packed // channels)
    return side if side**2 == packed // channels else 1


@lru_cache
def nearest_grid(tokens: int, ratio: float) -> tuple[int, int]:
    """Returns the height and width, in tokens, of the grid of `tokens` tokens with the ratio nearest to `ratio`."""
    sides = [side for side in range(1, math.isqrt(tokens) + 1) if tokens % side == 0]
    grids = [grid for side in sides for grid in ((side, tokens // side), (tokens // side, side))]
    return min(grids, key=lambda grid: abs(math.log(grid[0] / grid[1] / ratio)))
