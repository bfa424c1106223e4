"""What a scheduler steps, as latents that everybody understands: `[B, C, H, W]` or `[B, C, T, H, W]`."""

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import final

from torch import Tensor

from ...errors import LatentsError
from .call_arguments import CallArguments
from .pipeline_families import PLAIN, PipelineFamily

WANTED = ("B", "C", "T", "H", "p", "W", "q")
GROUPS = re.compile(r"\(([^)]*)\)|(\S+)")


@final
class LatentLayout:
    """The layout of one sampler call's latents.

    Args:
        family: of the pipeline.
        call: what it was asked for.
        channels: of the latents, unpacked; None where nobody knows.
        stride: frames of the video for each frame of its latents.
        tell: is told, once, that the size of the picture was guessed.
    """

    def __init__(
        self,
        family: PipelineFamily,
        call: CallArguments,
        channels: int | None,
        stride: int,
        tell: Callable[[str], None],
    ) -> None:
        self._family, self._call, self._channels, self._stride = family, call, channels, stride
        self._axes = {len(groups_of(axes)): axes for axes in (*PLAIN, *family.axes)}
        self._tell: Callable[[str], None] | None = tell

    def plain(self, latents: Tensor) -> Tensor:
        """The latents; of tokens a copy, of others a view.

        Raises:
            LatentsError: nobody knows these axes.
        """
        axes = self._axes.get(latents.ndim)
        if axes is None:
            known = ", ".join(self._axes.values())
            raise LatentsError(f"expected latents {known}, got {list(latents.shape)}; nothing of them is shown")
        sizes: list[int] = []
        for at, group in enumerate(groups_of(axes)):
            if group == ("T", "H", "W"):
                frames, height, width = self._grid(latents.shape[at])
                latents = self._without_guests(latents, at, frames * height * width)
                sizes += [frames, height, width]
            elif len(group) > 1:
                patch = patch_of(latents.shape[at], self._channels)
                sizes += [patch if name in "pq" else latents.shape[at] // patch**2 for name in group]
            else:
                sizes.append(latents.shape[at])
        names = [name for group in groups_of(axes) for name in group]
        view = latents.reshape(sizes).permute(*(names.index(name) for name in order_of(tuple(names))))
        if "1" in names:
            view = view.squeeze(-1)
        if "p" not in names:
            return view
        items, channels, frames, height, p, width, q = view.shape
        return view.reshape(items, channels, frames, height * p, width * q)

    def _without_guests(self, latents: Tensor, at: int, tokens: int) -> Tensor:
        """Of a picture or video alone, `tokens` tokens."""
        begin = latents.shape[at] - tokens if self._family.guests == "before" else 0
        return latents.narrow(at, begin, tokens)

    def _grid(self, tokens: int) -> tuple[int, int, int]:
        """Frames, height and width of that many tokens; there may be more tokens than these."""
        call = self._call
        if call.latent_height and call.latent_width:
            frames = call.latent_frames or max(1, tokens // (call.latent_height * call.latent_width))
            exact = frames, call.latent_height, call.latent_width
            if math.prod(exact) <= tokens:
                return exact
        frames = next((n for n in self._frames() if tokens % n == 0), 1)
        if call.height and call.width:
            return frames, *nearest(tokens // frames, call.height / call.width)
        if self._tell is not None:
            self._tell("the pipeline does not say how high and how wide its picture is: it is shown as if square")
            self._tell = None
        return frames, *nearest(tokens // frames, 1.0)

    def _frames(self) -> Sequence[int]:
        call = self._call
        video = ((call.frames - 1) // self._stride + 1,) if call.frames else ()
        layers = (call.layers + 1,) if call.layers else ()  # the first is all of them together
        return [n for n in (call.latent_frames, *layers, *video) if n]


@lru_cache
def groups_of(axes: str) -> tuple[tuple[str, ...], ...]:
    """`B (T H W) (C p q)` as `(B,), (T, H, W), (C, p, q)`."""
    return tuple(tuple((several or one).split()) for several, one in GROUPS.findall(axes))


@lru_cache
def order_of(names: tuple[str, ...]) -> tuple[str, ...]:
    """The axes that there are, as they are wanted; one that goes away comes last."""
    return (*(name for name in WANTED if name in names), *(["1"] if "1" in names else []))


def patch_of(packed: int, channels: int | None) -> int:
    """The side of the square patches of a token that holds `packed` numbers; 1 where that cannot be."""
    if not channels or packed % channels:
        return 1
    side = math.isqrt(packed // channels)
    return side if side**2 == packed // channels else 1


@lru_cache
def nearest(tokens: int, ratio: float) -> tuple[int, int]:
    """The height and width of `tokens` tokens whose ratio is nearest to `ratio`, whatever a token's size in pixels."""
    sides = [side for side in range(1, math.isqrt(tokens) + 1) if tokens % side == 0]
    pairs = [pair for side in sides for pair in ((side, tokens // side), (tokens // side, side))]
    return min(pairs, key=lambda pair: abs(math.log(pair[0] / pair[1] / ratio)))
