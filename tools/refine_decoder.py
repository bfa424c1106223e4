"""Trains a sub-pixel decoder on, so that it draws no mesh over smooth parts of a picture.

Each step sees four kinds of pairs:

    photographs         the picture, also at latent size, where mistakes of color show
    smooth pictures     blurred photographs, encoded: the picture, and no mesh
    soft latents        blurred means of latents: the teacher's colors, and no mesh
    varied latents      blends, noise and estimates: the teacher's colors

A mesh has little energy, so it hardly counts in a squared error. Here it counts many times as much: see `LossWeights`.
"""

import argparse
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoders.catalogue import Catalogue
from ..decoders.decoder import Decoder
from ..decoders.files.decoder_file import read_decoder, write_decoder
from ..decoders.latents.space_table import SPACES
from ..decoders.nets.base import Net
from ..fitting.encoders import read_encoder
from ..fitting.metrics import resize_rgb
from ..fitting.noisy_latents import blur_latents, vary_latents
from ..fitting.pairs import Encode, Pairs
from ..fitting.presets import measure_net
from ..fitting.train import (
    CPU,
    IMAGES_PER_SLICE,
    MSE_FLOOR,
    Recipe,
    batch_slices,
    has_bfloat16,
    optimizers_of,
)
from .mesh import blur
from .mesh_energy import mesh_energy, mesh_levels

Decode = Callable[[Tensor], Tensor]

PHOTOGRAPHS, SMOOTH, SOFT, VARIED = 10, 8, 4, 2  # pictures of each kind in a step
MESH_PHOTOGRAPHS = 4  # photographs of a step whose mesh is measured
HALFWAY = 256  # soft latents, and as many varied ones, whose colors are known
SMOOTH_SIGMAS = (1.0, 1.5, 2.0, 3.0, 5.0)  # of the blur, in latent pixels
SMOOTH_SIDE = 16  # latent pixels of a smooth picture
SOFT_KERNELS = (5, 9, 15)  # smaller blurs leave texture, whose energy is no mesh
LEAST_BLENDED, MOST_BLENDED = 2, 8
EMA_DECAY, EMA_START = 0.998, 20
REPORT_STEPS = 500


def smooth_crops(pairs: Pairs, encode: Encode, count: int, side_px: int, seed: int) -> Pairs:
    """Blurs pictures of `pairs`, cuts `count` crops of `side_px` pixels and encodes them."""
    generator = _generator(seed)
    crops, latents = [], []
    for i in range(count):
        picture = pairs.pixels[i * len(pairs) // count][None].float()
        picture = blur(picture, SMOOTH_SIGMAS[_random(len(SMOOTH_SIGMAS), generator)] * pairs.downscale)
        top, left = (_random(side - side_px + 1, generator) for side in picture.shape[2:])
        crop = picture[..., top : top + side_px, left : left + side_px].round().to(torch.uint8)
        crops.append(crop)
        with torch.no_grad():
            latents.append(encode(crop.float() / 255).half())
    return Pairs(torch.cat(latents), torch.cat(crops))


def soft_latents(latents: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws latents as a sampler holds them before its last steps: means of several, blurred, `[count, C, h, w]`."""
    drawn = []
    for _ in range(count):
        blended = LEAST_BLENDED + _random(MOST_BLENDED - LEAST_BLENDED + 1, generator)
        mean = latents[torch.randint(len(latents), (blended,), generator=generator)].float().mean(0, keepdim=True)
        drawn.append(blur_latents(SOFT_KERNELS[_random(len(SOFT_KERNELS), generator)])(mean, generator))
    return torch.cat(drawn)


class LossWeights(NamedTuple):
    """Weights of the loss's parts, next to the squared error of photographs in sub-pixels.

    Args:
        mesh: mesh of smooth pictures and of soft latents, next to their squared error.
        photograph_mesh: mesh of photographs.
        latent_size: error of photographs at latent size.
        halfway: smooth pictures, and half-way latents.
    """

    mesh: float = 100.0
    photograph_mesh: float = 2.0
    latent_size: float = 3.0
    halfway: float = 0.5


LOSS_WEIGHTS = LossWeights()


class Halfway(NamedTuple):
    """Latents as a sampler holds them before its last steps, and their colors.

    Args:
        latents: latents `[N, C, h, w]` in model space.
        colors: colors `[N, 3, h, w]` in 0..1, by a teacher.
    """

    latents: Tensor
    colors: Tensor

    @classmethod
    def of(cls, latents: Tensor, teacher: Decode) -> "Halfway":
        with torch.no_grad():
            decoded = [resize_rgb(teacher(part), *latents.shape[2:]) for part in latents.split(IMAGES_PER_SLICE)]
        return cls(latents, torch.cat(decoded))

    def draw(self, count: int, generator: torch.Generator) -> "Halfway":
        at = torch.randint(len(self.latents), (count,), generator=generator)
        return Halfway(self.latents[at], self.colors[at])


def refine(
    net: Net,
    photographs: Pairs,
    smooth: Pairs,
    halfway: tuple[Halfway, Halfway],
    recipe: Recipe,
    report: Callable[[int, Net], None],
    hold: float = 0.0,
    weights: LossWeights = LOSS_WEIGHTS,
) -> Net:
    """Trains a copy of `net` and returns it; its weights are a running mean over the steps.

    Args:
        net: net to begin with.
        photographs: pairs of photographs.
        smooth: pairs of `smooth_crops`.
        halfway: soft latents, which show no mesh, and varied latents.
        recipe: settings of the training.
        report: callback for the number of a step and the net, now and then.
        hold: share of the steps at the highest learning rate; after them it falls to 0 along a cosine.
        weights: weights of the loss's parts.
    """
    subpixel = net.scale
    net = deepcopy(net).requires_grad_(True).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    averaged = deepcopy(net).requires_grad_(False)
    generator = _generator(recipe.seed)
    truth, smooth_truth = _truth(photographs, subpixel), _truth(smooth, subpixel)
    optimizers = optimizers_of(net, recipe)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(each, lambda step: learning_rate(step, recipe.steps, hold))
        for each in optimizers
    ]

    def decode(latents: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(CPU)):
            return net(latents.float().contiguous(memory_format=torch.channels_last)).float()

    for step in range(1, recipe.steps + 1):
        at = torch.randint(len(photographs), (recipe.batch,), generator=generator)
        error = decode(photographs.latents[at]) - truth(at)
        mesh = mesh_energy(error[:MESH_PHOTOGRAPHS], subpixel)
        loss = _log(_square(error) + weights.photograph_mesh * mesh.mean())
        loss = loss + weights.latent_size * _log(_square(F.avg_pool2d(error, subpixel)))
        at = torch.randint(len(smooth), (SMOOTH,), generator=generator)
        error = decode(smooth.latents[at]) - smooth_truth(at)
        loss = loss + weights.halfway * _log(_square(error) + weights.mesh * mesh_energy(error, subpixel))
        soft, varied = (part.draw(count, generator) for part, count in zip(halfway, (SOFT, VARIED), strict=True))
        rgb = decode(torch.cat([soft.latents, varied.latents]))
        drift = _square(F.avg_pool2d(rgb, subpixel) - torch.cat([soft.colors, varied.colors]))
        meshes = F.pad(mesh_energy(rgb[:SOFT], subpixel), (0, VARIED))
        loss = loss + weights.halfway * _log(drift + weights.mesh * meshes)
        net.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        decay = min(EMA_DECAY, step / (step + EMA_START))
        with torch.no_grad():
            for mean, parameter in zip(averaged.parameters(), net.parameters(), strict=True):
                mean.lerp_(parameter, 1 - decay)
        if step % REPORT_STEPS == 0 or step == recipe.steps:
            report(step, averaged)
    return averaged


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m safelight.tools.refine_decoder", description=__doc__)
    parser.add_argument("decoder", help="decoder in sub-pixels: the name of one that ships, or a file")
    parser.add_argument("--space", required=True, help="its latent space")
    parser.add_argument("--pairs", type=Path, nargs="+", required=True, help="pairs of photographs to train on")
    parser.add_argument("--encoder", type=Path, required=True, help="TAESD-like encoder of the space")
    parser.add_argument("--teacher", help="decoder of half-way latents' colors, a name or a file (the decoder itself)")
    parser.add_argument("--choose", type=Path, required=True, help="pairs to watch the training on")
    parser.add_argument("--judge", type=Path, help="pairs for the scores of the card, which are measured at the end")
    parser.add_argument("--smooth", type=int, default=240, help="number of smooth pictures (%(default)s)")
    parser.add_argument("--steps", type=int, default=5000, help="number of training steps (%(default)s)")
    parser.add_argument("--batch", type=int, default=PHOTOGRAPHS, help="photographs in a step (%(default)s)")
    parser.add_argument("--lr", type=float, default=8e-4, help="learning rate (%(default)s)")
    parser.add_argument("--hold", type=float, default=0.0, help="share of steps before the rate falls (%(default)s)")
    for name, value in LOSS_WEIGHTS._asdict().items():
        option = f"--{name.replace('_', '-')}-weight"
        parser.add_argument(option, type=float, default=value, help="weight of this part of the loss (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="decoder file, written at every report")
    options = parser.parse_args(argv)

    decoder = _decoder(options.decoder, options.space)
    photographs, choose = reduce(add, map(Pairs.load, options.pairs)), Pairs.load(options.choose)
    side_px = SMOOTH_SIDE * photographs.downscale
    smooth = smooth_crops(photographs, read_encoder(options.encoder), options.smooth, side_px, options.seed)
    teach = _decoder(options.teacher, options.space).decode if options.teacher else decoder.decode
    clean = photographs.latents[:: max(1, len(photographs) // HALFWAY)][:HALFWAY].float()
    soft = Halfway.of(soft_latents(clean, HALFWAY, _generator(options.seed)), teach)
    varied = Halfway.of(vary_latents(clean, options.seed), teach)
    card = replace(decoder.card, source=f"{decoder.card.source}; then {_command(parser, options)}")

    def report(step: int, net: Net) -> None:
        print(step, _scores(net, choose, smooth), flush=True)
        metrics = {**card.metrics, **_measured(net, options.judge if step == options.steps else None)}
        write_decoder(options.out, replace(card, metrics=metrics), net.state_dict())

    report(0, decoder.net)
    recipe = Recipe(steps=options.steps, batch=options.batch, lr=options.lr, seed=options.seed)
    weights = LossWeights(**{name: getattr(options, f"{name}_weight") for name in LossWeights._fields})
    refine(decoder.net, photographs, smooth, (soft, varied), recipe, report, options.hold, weights)
    return 0


def _decoder(name: str, space: str) -> Decoder:
    """Reads a decoder file, or the decoder of this name that ships."""
    if Path(name).exists():
        return read_decoder(Path(name))
    return next(each for each in Catalogue().of(SPACES[space]) if each.name == name).open()


def _command(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """The command line, with the names of files but without their folders."""
    words = ["python -m safelight.tools.refine_decoder", Path(options.decoder).name]
    for name, value in vars(options).items():
        if name != "decoder" and value != parser.get_default(name):
            values = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *(Path(str(each)).name for each in values)]
    return " ".join(words)


def _scores(net: Net, choose: Pairs, smooth: Pairs) -> str:
    scores = " ".join(f"{name} {value:.3f}" for name, value in measure_net(net, choose).items())
    with torch.no_grad():
        mesh = mesh_levels(net(smooth.latents.float()), net.scale)
    return f"{scores} mesh {mesh:.2f}, of the target {mesh_levels(smooth.rgb(net.scale), net.scale):.2f}"


def _measured(net: Net, judge: Path | None) -> dict[str, float]:
    return {name: round(value, 4) for name, value in measure_net(net, Pairs.load(judge)).items()} if judge else {}


def _truth(pairs: Pairs, subpixel: int) -> Callable[[Tensor], Tensor]:
    """Returns a function from indices to pictures of `subpixel` times the latents' size."""
    if subpixel == pairs.downscale:
        return lambda at: pairs.rgb(subpixel, at)
    averaged = torch.cat([pairs.rgb(subpixel, at).half() for at in batch_slices(pairs)])
    return lambda at: averaged[at].float()


def _square(values: Tensor) -> Tensor:
    return values.square().mean((1, 2, 3))


def _log(errors: Tensor) -> Tensor:
    return torch.log(errors + MSE_FLOOR).mean()


def learning_rate(step: int, steps: int, hold: float) -> float:
    rise = min(1.0, (step + 1) / max(1, min(50, steps // 10)))
    fallen = max(0.0, step / steps - hold) / max(1 - hold, 1 / steps)
    return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, fallen)))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _random(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (1,), generator=generator))


if __name__ == "__main__":
    raise SystemExit(main())
