"""Latents as a sampler has them half-way: blurred, blended, noisy.

What a sampler hands over is not a clean latent. At high noise the denoised estimate is a mean of what is possible:
blends of pictures, soft and out of place; what it works on has noise in it. A decoder that was fitted on clean latents
alone may ring, or see detail, where there is none.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from .pairs import BATCH, Pairs

MEAN_OF = 8  # pictures at most that `vary` blends
MAX_SIGMA = 0.7  # that it adds

Change = Callable[[Tensor, torch.Generator], Tensor]


def blend(share: float) -> Change:
    """Each picture with `share` of the next."""
    return lambda latents, _: torch.lerp(latents, latents.roll(1, 0), share)


def mean_of(count: int) -> Change:
    """Each picture as the mean of itself and the next `count - 1`: the estimate at the highest sigma."""
    return lambda latents, _: torch.stack([latents.roll(i, 0) for i in range(count)]).mean(0)


def noisy(sigma: float) -> Change:
    """`(1 - sigma) * latents + sigma * noise`: what a flow model works on."""

    def change(latents: Tensor, generator: torch.Generator) -> Tensor:
        return (1 - sigma) * latents + sigma * torch.randn(latents.shape, generator=generator)

    return change


def blurred(size: int) -> Change:
    """A mean over `size` x `size` latent pixels: an estimate that does not know yet where things are."""

    def change(latents: Tensor, _: torch.Generator) -> Tensor:
        return F.avg_pool2d(F.pad(latents, (size // 2,) * 4, mode="replicate"), size, stride=1)

    return change


# What decoders are judged on, besides clean latents.
HALFWAY: Mapping[str, Change] = {
    "blend 0.1": blend(0.1),
    "blend 0.3": blend(0.3),
    "blend 0.5": blend(0.5),
    "mean of 12": mean_of(12),
    "blurred 5x5": blurred(5),
    "noisy 0.1": noisy(0.1),
    "noisy 0.3": noisy(0.3),
    "noisy 0.6": noisy(0.6),
}


@torch.no_grad()
def halfway_pairs(latents: Tensor, teacher: Callable[[Tensor], Tensor], change: Change, seed: int = 0) -> Pairs:
    """Changed latents with what `teacher` makes of the very same ones.

    Args:
        latents: `[N, C, h, w]`, clean, model space.
        teacher: latents to rgb `[B, 3, H, W]` in 0..1: the decoder that is to be imitated.
        change: one of `HALFWAY`, or another.
        seed: for its noise.
    """
    changed = change(latents.float(), torch.Generator().manual_seed(seed)).half()
    pixels = [teacher(some.float()).clamp(0, 1).mul(255).round().to(torch.uint8) for some in changed.split(BATCH)]
    return Pairs(changed, torch.cat(pixels))


def vary(latents: Tensor, seed: int) -> Tensor:
    """Latents `[N, C, h, w]` each changed in a way of its own, to fit on: blends and noise of all strengths, blurs."""
    generator = torch.Generator().manual_seed(seed)
    count = len(latents)
    latents = latents.float()

    weights = torch.rand((count, 1, 1, 1), generator=generator)
    most = torch.randint(MEAN_OF, (count,), generator=generator)
    others = torch.randint(count, (count, MEAN_OF), generator=generator)
    partner = torch.randperm(count, generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    sigma = weights * MAX_SIGMA
    ways: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda at: torch.lerp(latents[at], latents[partner[at]], weights[at] / 2),
        lambda at: torch.stack([latents[others[i, : most[i] + 1]].mean(0) for i in at]),
        lambda at: (1 - sigma[at]) * latents[at] + sigma[at] * noise[at],
        lambda at: blurred(3)(latents[at], generator),
        lambda at: blurred(5)(latents[at], generator),
    )
    chosen = torch.randint(len(ways), (count,), generator=generator)
    varied = torch.empty_like(latents)
    for i, way in enumerate(ways):  # each only where it was chosen: all of all would take many times the memory
        if len(at := (chosen == i).nonzero()[:, 0]):
            varied[at] = way(at)
    return varied
