"""What a decoder runs."""

from abc import ABC

from torch import nn


class Net(nn.Module, ABC):
    """Maps model space latents `[B, C, H, W]` to `[B, 3, H*scale, W*scale]`, 0..1 before clamping.

    A kind of decoder is one of these. Its `__init__` takes the settings of a decoder file, its `state_dict` is that
    file's tensors.

    Attributes:
        channels: C; None for any number.
        scale: picture pixels per latent pixel, along one side.
    """

    channels: int | None = None
    scale: int = 1

    @property
    def cost(self) -> int:
        """Multiplications per latent pixel: one for each weight, where a net stays at the latents' size."""
        return sum(tensor.numel() for tensor in self.state_dict().values() if tensor.ndim == 4)

    def rescale(self, black: float, white: float) -> None:
        """Makes numbers that were fitted to give `black`..`white` give 0..1."""
        raise ValueError(f"expected no output_range, {type(self).__name__} gives 0..1; got {(black, white)}")
