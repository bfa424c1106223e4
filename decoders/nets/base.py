"""What a decoder runs."""

from abc import ABC
from collections.abc import Iterator
from math import prod

from torch import Tensor, nn

MAX_LAYERS = 64  # that a file may ask for: each is made before its numbers are looked for
FRAME_PIXELS = 1 << 22  # that are decoded at once; a video of many frames would take all memory


class Net(nn.Module, ABC):
    """Maps model space latents `[B, C, H, W]` to `[B, 3, H*scale, W*scale]`, 0..1 before clamping.

    A kind of decoder is one of these. Its `__init__` takes the settings of a decoder file, its `state_dict` is that
    file's tensors.

    Attributes:
        channels: C; None for any number.
        scale: picture pixels per latent pixel, along one side.
        stride: frames it makes of one latent frame in the midst of a video; 1 for a net that knows no time.
    """

    channels: int | None = None
    scale: int = 1
    stride: int = 1

    def frames(self, latents: Tensor) -> Iterator[Tensor]:
        """Model space `latents` of a video `[B, C, T, H, W]`, one frame `[B, 3, H*scale, W*scale]` after the other.

        A net that knows no time gives one for each of T; one that does, as many as the video has.
        """
        items, _, frames, *size = latents.shape
        most = max(1, FRAME_PIXELS // (items * prod(size) * self.scale**2))
        for i in range(0, frames, most):
            some = latents[:, :, i : i + most]
            yield from self(some.transpose(1, 2).flatten(0, 1)).unflatten(0, (items, some.shape[2])).unbind(1)

    @property
    def cost(self) -> int:
        """Multiplications per latent pixel: one for each weight, where a net stays at the latents' size."""
        return sum(tensor.numel() for tensor in self.state_dict().values() if tensor.ndim == 4)

    def rescale(self, black: float, white: float) -> None:
        """Makes numbers that were fitted to give `black`..`white` give 0..1."""
        raise ValueError(f"expected no output_range, {type(self).__name__} gives 0..1; got {(black, white)}")
