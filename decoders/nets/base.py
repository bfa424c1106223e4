"""The base class of all decoder networks."""

from abc import ABC
from collections.abc import Iterator
from math import prod

from torch import Tensor, nn

MAX_LAYERS = 64  # a decoder file sets the number of layers, and they are created before its tensors are checked
MAX_FRAME_PIXELS = 1 << 22  # decoded in one call; all frames of a video together could exceed the memory


class Net(nn.Module, ABC):
    """Maps model space latents `[B, C, H, W]` to `[B, 3, H*scale, W*scale]`, in 0..1 before clamping.

    Each kind of decoder is one subclass. Its `__init__` takes the settings of a decoder file, and its `state_dict` has
    the tensors of that file.

    Attributes:
        channels: C; None for any number.
        scale: image pixels per latent pixel, along one side.
        stride: frames per latent frame in the middle of a video; 1 for a net that decodes each frame alone.
    """

    channels: int | None = None
    scale: int = 1
    stride: int = 1

    def frames(self, latents: Tensor) -> Iterator[Tensor]:
        """Decodes model space `latents` of a video `[B, C, T, H, W]`, one frame `[B, 3, H*scale, W*scale]` at a time.

        A net with `stride` 1 yields T frames, any other net yields all frames of the video.
        """
        items, _, frames, *size = latents.shape
        count = max(1, MAX_FRAME_PIXELS // (items * prod(size) * self.scale**2))
        for i in range(0, frames, count):
            part = latents[:, :, i : i + count]
            yield from self(part.transpose(1, 2).flatten(0, 1)).unflatten(0, (items, part.shape[2])).unbind(1)

    @property
    def cost(self) -> int:
        """Multiplications per latent pixel: one per weight, if all layers run at the size of the latents."""
        return sum(tensor.numel() for tensor in self.state_dict().values() if tensor.ndim == 4)

    def rescale(self, black: float, white: float) -> None:
        """Changes weights that were fitted to output `black`..`white` so that they output 0..1."""
        raise ValueError(f"expected no output_range, {type(self).__name__} outputs 0..1; got {(black, white)}")
