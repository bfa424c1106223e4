"""Turns a decoder into forms that other programs load: a net in TAESD's shape, and a table of colors."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..decoders.decoder import Decoder, to_bytes
from ..decoders.latents.space import LatentSpace
from ..decoders.nets.base import Net
from ..decoders.nets.polynomial import Polynomial
from ..decoders.nets.taesd import Block, Clamp, Taesd, taesd
from ..errors import FitError
from .least_squares import PolynomialForm, Sums, choose_ridges
from .metrics import resize_rgb
from .noisy_latents import vary_latents
from .pairs import ENCODE_BATCH, Pairs
from .processes import Processes
from .train import LINEAR_RIDGE, OnStep, Recipe, batch_slices, draw_weights, train_net

TAESD_DOWNSCALE = 8
POOLED_SPACES = ("flux2",)  # ComfyUI loads a decoder of these with TAEF2's pooled blocks
COLORS = 3
OFFSET = 1.0  # added to the colors inside the net: its activations cut negative numbers off
TILE_SIDE = 16  # latent pixels a side of the parts that a net in TAESD's shape is trained on
DISTILL_RECIPE = Recipe(steps=600, batch=4, lr=1e-3)


@dataclass(frozen=True, kw_only=True)
class DistillSet:
    """Latents for a distillation, and what the decoder makes of them.

    Args:
        train: latents and half-way latents, with the decoder's pictures.
        validation: other latents, with the decoder's pictures.
    """

    train: Pairs
    validation: Pairs


class ColorTable(NamedTuple):
    """A table of colors as ComfyUI and InvokeAI have it: colors in -1..1 from latents in model space.

    Args:
        factors: red, green and blue for each channel.
        bias: constant of red, green and blue.
    """

    factors: Sequence[Sequence[float]]
    bias: Sequence[float]

    def python_text(self, comment: str) -> str:
        """The table as Python text, with the names that ComfyUI's latent formats use."""
        rows = "".join(f"    [{_listed(row)}],\n" for row in self.factors)
        return f"# {comment}\nlatent_rgb_factors = [\n{rows}]\nlatent_rgb_factors_bias = [{_listed(self.bias)}]\n"


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number: .4f}" for number in numbers)


@torch.no_grad()
def imitation_pairs(decoder: Decoder, latents: Tensor, downscale: int, seed: int | None = None) -> Pairs:
    """Decodes latents to pairs for an imitation.

    Args:
        decoder: decoder to imitate.
        latents: latents `[N, C, h, w]` in model space.
        downscale: size of the pictures, in image pixels per latent pixel.
        seed: random seed, to decode the latents and half-way latents of them; None for the latents only.
    """
    latents = latents.float()
    if seed is not None:
        latents = torch.cat([latents, vary_latents(latents, seed)])
    size = [side * downscale for side in latents.shape[2:]]
    pixels = [to_bytes(resize_rgb(decoder.decode(part), *size)).movedim(-1, 1) for part in latents.split(ENCODE_BATCH)]
    return Pairs(latents.half(), torch.cat(pixels).contiguous())


def taesd_net(space: LatentSpace) -> Taesd:
    """Creates a net in the shape that ComfyUI loads for a latent space; its weights are not initialized.

    Raises:
        FitError: TAESD's shape does not fit the VAE.
    """
    if space.downscale != TAESD_DOWNSCALE:
        raise FitError(
            f"TAESD's shape enlarges {TAESD_DOWNSCALE} times, but the VAE of {space.title} ({space.name}) "
            f"{space.downscale} times; export --latent2rgb instead"
        )
    with torch.device("meta"):  # no weights are drawn from the global random state
        net = Taesd(taesd(space.channels, int(space.name in POOLED_SPACES)))
    net.to_empty(device="cpu")
    return net


def distill_taesd(net: Taesd, data: DistillSet, recipe: Recipe, on_step: OnStep = lambda _: None) -> float:
    """Trains a net in TAESD's shape to decode as the decoder of `data` does.

    Returns:
        The PSNR against the decoder on the validation pairs, in dB.

    Raises:
        FitError: there are too few latents.
    """
    return train_net(net, _tiles(data.train), data.validation, recipe, on_step, start=start_tiny_as_closed_form)


def _tiles(pairs: Pairs) -> Pairs:
    """Cuts pairs into smaller ones: the decoder has seen the whole picture, and training steps are short."""
    height, width = (side // min(side, TILE_SIDE) for side in pairs.latents.shape[2:])
    side = [min(side, TILE_SIDE) for side in pairs.latents.shape[2:]]

    def cut(tensor: Tensor, scale: int) -> Tensor:
        tall, wide = (length * scale for length in side)
        tensor = tensor[..., : height * tall, : width * wide].unflatten(3, (width, wide)).unflatten(2, (height, tall))
        return tensor.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).contiguous()

    return Pairs(cut(pairs.latents, 1), cut(pairs.pixels, pairs.downscale))


@torch.no_grad()
def start_tiny_as_closed_form(net: Net, parts: Iterable[Pairs], random: torch.Generator, processes: Processes) -> None:
    """Draws the weights of a net in TAESD's shape so that it decodes as the best linear one over 3x3 latent pixels.

    Three channels carry the colors through all layers: each block adds nothing at first, and each convolution after an
    upscaling copies. The other channels start at random, without influence on the picture.
    """
    if not isinstance(net, Taesd):
        raise TypeError(f"expected a net in TAESD's shape, got {type(net).__name__}")
    draw_weights(net, random)
    convs = [layer for layer in net.layers if isinstance(layer, torch.nn.Conv2d)]
    first, *copies, last = convs
    clamp = Clamp()
    sums = Sums(PolynomialForm(channels=first.in_channels, kernel=3))
    for pairs in parts:
        sums.add(clamp(pairs.latents.float()), pairs.rgb(1))
    solution = sums.of_all(processes).solve(LINEAR_RIDGE).float()
    first.weight[:COLORS] = solution[:-1].T.reshape(COLORS, first.in_channels, 3, 3)
    first.get_parameter("bias")[:COLORS] = solution[-1] + OFFSET
    for block in (layer for layer in net.layers if isinstance(layer, Block)):
        for last_of_branch in (block.conv[-1], *([] if block.pool is None else [block.pool[-1]])):
            for parameter in last_of_branch.parameters():
                torch.nn.init.zeros_(parameter)
    for conv in (*copies, last):
        conv.weight.zero_()
        diagonal = range(min(conv.weight.shape[:2]))
        conv.weight[diagonal, diagonal, 1, 1] = 1.0
    last.get_parameter("bias").fill_(-OFFSET)


def table_of(decoder: Decoder) -> ColorTable | None:
    """The table that a decoder is; None if it is more than a table."""
    net = decoder.net
    if not isinstance(net, Polynomial) or net.degree > 1 or net.weight.shape[2:] != (1, 1) or net.scale > 1:
        return None
    if net.overall is not None and net.overall.any():
        return None
    bias = torch.zeros(COLORS) if net.bias is None else net.bias
    return _table(net.weight[:, :, 0, 0].T, bias)


def distill_table(data: DistillSet) -> ColorTable:
    """Fits the table that decodes most like the decoder of `data`, by least squares.

    Raises:
        FitError: there are too few latents.
    """
    train, validation = (Sums(PolynomialForm(channels=data.train.channels)) for _ in range(2))
    for sums, pairs in ((train, data.train), (validation, data.validation)):
        for at in batch_slices(pairs):
            sums.add(pairs.latents[at].float(), pairs.rgb(1, at))
    solution = train.solve(*choose_ridges(train, validation))
    return _table(solution[:-1], solution[-1])


def _table(weight: Tensor, bias: Tensor) -> ColorTable:
    """Converts from colors in 0..1 to colors in -1..1, which the hosts bring to 0..1 afterwards."""
    return ColorTable((2 * weight).tolist(), (2 * bias - 1).tolist())
