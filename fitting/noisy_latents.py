"""Latents as a sampler has them half-way: blurred, blended, noisy.

What a sampler hands over is not a clean latent. At high noise the denoised estimate is a mean of what is possible:
blends of pictures, soft and out of place; what it works on has noise in it. A decoder that was fitted on clean latents
alone may ring, or see detail, where there is none.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoders.nets.base import Net
from .metrics import at_size, cast, detail, psnr_db
from .pairs import BATCH, Pairs

MEAN_OF = 8  # pictures at most that `vary` blends
MAX_SIGMA = 0.7  # that it adds

PATCH = 3  # latent pixels a side that `denoised` knows a place by
PRIOR = 4  # pictures that it thinks possible
SIGMAS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # at more all is one blur with this prior, at less the picture is found

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


def denoised(sigma: float) -> Change:
    """What an exact denoiser makes of `noisy(sigma)`: the posterior mean, place by place.

    Its prior is every `PATCH` x `PATCH` patch of the picture and of the `PRIOR - 1` before it, each as likely as the
    next. A prior of whole pictures would know at once which one it is; patches go the way of a model: first the mean of
    all, then blurs and look-alikes, then the picture. The same generator draws the same noise at every sigma, so
    several of them are the steps of one run, on the straight path from noise to the picture.
    """

    def change(latents: Tensor, generator: torch.Generator) -> Tensor:
        seen = noisy(sigma)(latents, generator)
        priors = torch.stack([latents.roll(i, 0) for i in range(PRIOR)], dim=1)
        return torch.stack([_posterior_mean(*pair, sigma) for pair in zip(seen, priors, strict=True)])

    return change


def _posterior_mean(x: Tensor, prior: Tensor, sigma: float) -> Tensor:
    """Of the middles of all patches of `prior` `[K, C, h, w]`, given `x = (1 - sigma) * clean + sigma * noise`."""
    known, middles = _patches(prior), prior.movedim(1, -1).flatten(0, 2)
    means = []
    for seen in _patches(x[None]).split(1024):
        # -|seen - (1 - sigma) * known|² / 2, without what is the same for all that are known.
        likeness = (1 - sigma) * (seen @ known.T - (1 - sigma) / 2 * known.square().sum(1))
        means.append(torch.softmax(likeness / sigma**2, dim=1) @ middles)
    return torch.cat(means).T.reshape(x.shape)


def _patches(latents: Tensor) -> Tensor:
    """Around each latent pixel of `[K, C, h, w]`, the border repeated: `[K * h * w, C * PATCH²]`."""
    around = F.pad(latents, (PATCH // 2,) * 4, mode="replicate")
    return F.unfold(around, PATCH).transpose(1, 2).flatten(0, 1)


# What decoders are judged on, besides clean latents.
NOISY_LATENTS: Mapping[str, Change] = {
    "blend 0.1": blend(0.1),
    "blend 0.3": blend(0.3),
    "blend 0.5": blend(0.5),
    "mean of 12": mean_of(12),
    "blurred 5x5": blurred(5),
    "noisy 0.1": noisy(0.1),
    "noisy 0.3": noisy(0.3),
    "noisy 0.6": noisy(0.6),
    **{f"denoised {sigma}": denoised(sigma) for sigma in SIGMAS},
}
RUN = tuple(f"denoised {sigma}" for sigma in SIGMAS)  # these are steps of one run, in its order
SOFT, PLAIN = "blurred 5x5", "mean of 12"  # where false detail shows best, and a false colour


@torch.no_grad()
def noisy_pairs(latents: Tensor, teacher: Callable[[Tensor], Tensor], change: Change, seed: int = 0) -> Pairs:
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


@torch.no_grad()
def score_noisy_latents(
    nets: Sequence[Net], latents: Tensor, teacher: Callable[[Tensor], Tensor], seed: int = 0
) -> Iterator[tuple[str, list[float]]]:
    """How well nets imitate `teacher` on half-way latents: lines of a table, each a title and a number for every net.

    Args:
        nets: the decoders to judge.
        latents: `[N, C, h, w]`, clean, model space.
        teacher: as in `halfway_pairs`.
        seed: for the noise.

    Yields:
        For each of `HALFWAY` the mean PSNR at latent size, in dB. Then, of 255 levels, lower is better:
        `flicker`: between neighbouring steps of a run, the RMS change that is not in what the teacher shows;
        `cast`: how far the mean colour is off where pictures are plain. Last `detail`: how much there is of it on soft
        latents, as a part of the teacher's; what is above 1 is ringing or invented.
    """
    before: list[Tensor] = []
    flickers: list[list[Tensor]] = []
    casts: list[float] = []
    details: list[float] = []
    for title, change in NOISY_LATENTS.items():
        pairs = noisy_pairs(latents, teacher, change, seed)
        shown = [_shown(net, pairs.latents) for net in nets]
        small, truth = [at_size(rgb, *latents.shape[2:]) for rgb in shown], pairs.rgb(1)
        yield title, [float(psnr_db(rgb, truth).mean()) for rgb in small]
        if title in RUN:
            errors = [rgb - truth for rgb in small]
            if before:
                flickers.append([(now - then).square().mean() for now, then in zip(errors, before, strict=True)])
            before = errors
        if title == PLAIN:
            casts = [255 * float(cast(rgb, truth).mean()) for rgb in small]
        if title == SOFT:
            details = [
                float(detail(rgb).mean() / detail(pairs.rgb(net.scale)).mean())
                for net, rgb in zip(nets, shown, strict=True)
            ]
    yield "flicker", [255 * float(torch.stack(squares).mean().sqrt()) for squares in zip(*flickers, strict=True)]
    yield "cast", casts
    yield "detail", details


def _shown(net: Net, latents: Tensor) -> Tensor:
    return torch.cat([net(some.float()).clamp(0, 1) for some in latents.split(BATCH)])


def vary(latents: Tensor, seed: int) -> Tensor:
    """Latents `[N, C, h, w]` each changed in a way of its own, to fit on: blends, noise, blurs, exact estimates."""
    generator = torch.Generator().manual_seed(seed)
    count = len(latents)
    latents = latents.float()

    weights = torch.rand((count, 1, 1, 1), generator=generator)
    most = torch.randint(MEAN_OF, (count,), generator=generator)
    others = torch.randint(count, (count, MEAN_OF), generator=generator)
    partner = torch.randperm(count, generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    sigma = weights * MAX_SIGMA
    early = torch.lerp(torch.tensor(min(SIGMAS)), torch.tensor(max(SIGMAS)), weights)
    ways: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda at: torch.lerp(latents[at], latents[partner[at]], weights[at] / 2),
        lambda at: torch.stack([latents[others[i, : most[i] + 1]].mean(0) for i in at]),
        lambda at: (1 - sigma[at]) * latents[at] + sigma[at] * noise[at],
        lambda at: blurred(3)(latents[at], generator),
        lambda at: blurred(5)(latents[at], generator),
        lambda at: torch.stack(
            [
                _posterior_mean(
                    torch.lerp(latents[i], noise[i], early[i]),
                    torch.stack([latents[i], *latents[others[i, : PRIOR - 1]]]),
                    float(early[i]),
                )
                for i in at
            ]
        ),
    )
    chosen = torch.randint(len(ways), (count,), generator=generator)
    varied = torch.empty_like(latents)
    for i, way in enumerate(ways):  # each only where it was chosen: all of all would take many times the memory
        if len(at := (chosen == i).nonzero()[:, 0]):
            varied[at] = way(at)
    return varied
