"""Trains a sub-pixel decoder on, so that it draws no mesh over smooth parts of a picture.

Three kinds of pairs take turns in each step:

    photographs         the picture, also at latent size, where mistakes of color show
    smooth pictures     blurred photographs, encoded: the picture, and no mesh
    half-way latents    blends, means and blurs of latents: the colors that the decoder had before, and no mesh

A mesh has little energy, so it hardly counts in a squared error. Here it counts `MESH_WEIGHT` times as much.
"""

import argparse
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoders.catalogue import Catalogue
from ..decoders.files.decoder_file import write_decoder
from ..decoders.latents.space_table import SPACES
from ..decoders.nets.base import Net
from ..fitting.encoders import read_encoder
from ..fitting.noisy_latents import blur_latents
from ..fitting.pairs import Encode, Pairs
from ..fitting.presets import measure_net
from ..fitting.train import MSE_FLOOR, Recipe, batch_slices, optimizers_of
from .mesh import blur
from .mesh_energy import mesh_energy, mesh_levels

MESH_WEIGHT, PHOTOGRAPH_MESH_WEIGHT = 100.0, 2.0
LATENT_SIZE_WEIGHT = 3.0  # of a photograph at latent size, next to its full size
PHOTOGRAPHS, SMOOTH, HALFWAY = 10, 8, 4  # pictures of each kind in a step
HALFWAY_SHARE = 0.5  # weight of smooth pictures and of half-way latents, next to photographs
SMOOTH_SIGMAS = (1.0, 1.5, 2.0, 3.0, 5.0)  # of the blur, in latent pixels
SMOOTH_SIDE = 16  # latent pixels of a smooth picture
SOFT_KERNELS = (5, 9, 15)  # smaller blurs leave texture, whose energy is no mesh
LEAST_BLENDED, MOST_BLENDED = 2, 8
EMA_DECAY, EMA_START = 0.998, 20
REPORT_STEPS = 250


def smooth_crops(pairs: Pairs, encode: Encode, count: int, side_px: int, seed: int) -> Pairs:
    """Blurs pictures of `pairs`, cuts `count` crops of `side_px` pixels and encodes them."""
    generator = torch.Generator().manual_seed(seed)
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


def refine(net: Net, photographs: Pairs, smooth: Pairs, recipe: Recipe, report: Callable[[int, Net], None]) -> Net:
    """Trains a copy of `net` and returns it; its weights are a running mean over the steps."""
    before, subpixel = net, net.scale
    net = deepcopy(net).requires_grad_(True)
    averaged = deepcopy(net).requires_grad_(False)
    generator = torch.Generator().manual_seed(recipe.seed)
    truth, smooth_truth = _scaled(photographs, subpixel), _scaled(smooth, subpixel)
    optimizers = optimizers_of(net, recipe)
    schedules = [torch.optim.lr_scheduler.LambdaLR(each, lambda step: _rate(step, recipe.steps)) for each in optimizers]
    for step in range(1, recipe.steps + 1):
        at = torch.randint(len(photographs), (PHOTOGRAPHS,), generator=generator)
        error = net(photographs.latents[at].float()) - truth[at].float()
        loss = _log(_square(error) + PHOTOGRAPH_MESH_WEIGHT * mesh_energy(error, subpixel))
        loss = loss + LATENT_SIZE_WEIGHT * _log(_square(F.avg_pool2d(error, subpixel)))
        at = torch.randint(len(smooth), (SMOOTH,), generator=generator)
        error = net(smooth.latents[at].float()) - smooth_truth[at].float()
        loss = loss + HALFWAY_SHARE * _log(_square(error) + MESH_WEIGHT * mesh_energy(error, subpixel))
        soft = soft_latents(photographs.latents, HALFWAY, generator)
        with torch.no_grad():
            colors = F.avg_pool2d(before(soft), subpixel)
        rgb = net(soft)
        drift = _square(F.avg_pool2d(rgb, subpixel) - colors)
        loss = loss + HALFWAY_SHARE * _log(drift + MESH_WEIGHT * mesh_energy(rgb, subpixel))
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
    parser.add_argument("decoder", help="name of a decoder in sub-pixels that ships")
    parser.add_argument("--space", required=True, help="its latent space")
    parser.add_argument("--pairs", type=Path, nargs="+", required=True, help="pairs of photographs to train on")
    parser.add_argument("--encoder", type=Path, required=True, help="TAESD-like encoder of the space")
    parser.add_argument("--choose", type=Path, required=True, help="pairs to watch the training on")
    parser.add_argument("--judge", type=Path, required=True, help="pairs for the scores of the card")
    parser.add_argument("--smooth", type=int, default=240, help="number of smooth pictures (%(default)s)")
    parser.add_argument("--steps", type=int, default=5000, help="number of training steps (%(default)s)")
    parser.add_argument("--lr", type=float, default=8e-4, help="learning rate (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="decoder file, written at every report")
    options = parser.parse_args(argv)

    candidate = next(each for each in Catalogue().of(SPACES[options.space]) if each.name == options.decoder)
    photographs, choose, judge = (
        reduce(add, map(Pairs.load, paths)) for paths in (options.pairs, [options.choose], [options.judge])
    )
    side_px = SMOOTH_SIDE * photographs.downscale
    smooth = smooth_crops(photographs, read_encoder(options.encoder), options.smooth, side_px, options.seed)
    card = replace(candidate.card, source=f"{candidate.card.source}; then {_command(options)}")

    def report(step: int, net: Net) -> None:
        print(step, _scores(net, choose, smooth), flush=True)
        write_decoder(options.out, replace(card, metrics={**card.metrics, **_measured(net, judge)}), net.state_dict())

    net = candidate.open().net
    report(0, net)
    refine(net, photographs, smooth, Recipe(steps=options.steps, lr=options.lr, seed=options.seed), report)
    return 0


def _command(options: argparse.Namespace) -> str:
    pairs = " ".join(path.name for path in options.pairs)
    return (
        f"python -m safelight.tools.refine_decoder {options.decoder} --space {options.space} --pairs {pairs} "
        f"--encoder {options.encoder.name} --choose {options.choose.name} --judge {options.judge.name} "
        f"--smooth {options.smooth} --steps {options.steps} --lr {options.lr:g} --seed {options.seed} "
        f"--out {options.out.name}"
    )


def _scores(net: Net, choose: Pairs, smooth: Pairs) -> str:
    scores = " ".join(f"{name} {value:.3f}" for name, value in measure_net(net, choose).items())
    with torch.no_grad():
        mesh = mesh_levels(net(smooth.latents.float()), net.scale)
    return f"{scores} mesh {mesh:.2f}, of the target {mesh_levels(smooth.rgb(net.scale), net.scale):.2f}"


def _measured(net: Net, judge: Pairs) -> dict[str, float]:
    return {name: round(value, 4) for name, value in measure_net(net, judge).items()}


def _scaled(pairs: Pairs, subpixel: int) -> Tensor:
    return torch.cat([pairs.rgb(subpixel, at).half() for at in batch_slices(pairs)])


def _square(values: Tensor) -> Tensor:
    return values.square().mean((1, 2, 3))


def _log(errors: Tensor) -> Tensor:
    return torch.log(errors + MSE_FLOOR).mean()


def _rate(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / max(1, min(50, steps // 10))) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))


def _random(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (1,), generator=generator))


if __name__ == "__main__":
    raise SystemExit(main())
