"""Latents as they are in the middle of sampling: blurred, blended, noisy.

A sampler's latents are not clean. At high noise the denoised estimate is a mean of possible images: blended, soft and
out of place. The latents that the sampler works on contain noise. A decoder fitted on clean latents alone may show
ringing or detail that is not there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..decoders.nets.base import Net
from .image_ids import SEVERAL_IMAGES
from .metrics import color_cast, detail_rms, psnr_db, resize_rgb
from .pairs import ENCODE_BATCH, Pairs

MAX_BLENDED_IMAGES = 8  # in a mean of `vary_latents`
MAX_SIGMA = 0.7  # of the noise that `vary_latents` adds

PATCH = 3  # latent pixels a side of the patches that `denoise` compares
PRIOR_IMAGES = 4  # images in the prior of `denoise`
SIGMAS = (0.95, 0.9, 0.85, 0.8, 0.75, 0.7)  # above them everything is one blur with this prior, below it is the image

LatentChange = Callable[[Tensor, torch.Generator], Tensor]


def blend(share: float) -> LatentChange:
    """Blends each image with `share` of the image before it."""
    return lambda latents, _: torch.lerp(latents, latents.roll(1, 0), share)


def mean_of(count: int) -> LatentChange:
    """Averages each image with the `count - 1` images before it, as the estimate at the highest sigma does."""
    return lambda latents, _: torch.stack([latents.roll(i, 0) for i in range(count)]).mean(0)


def add_noise(sigma: float) -> LatentChange:
    """Computes `(1 - sigma) * latents + sigma * noise`, the input of a flow model."""

    def change(latents: Tensor, generator: torch.Generator) -> Tensor:
        return (1 - sigma) * latents + sigma * torch.randn(latents.shape, generator=generator)

    return change


def blur_latents(size: int) -> LatentChange:
    """Averages over `size` x `size` latent pixels, as an estimate with uncertain positions does."""

    def change(latents: Tensor, _: torch.Generator) -> Tensor:
        return F.avg_pool2d(F.pad(latents, (size // 2,) * 4, mode="replicate"), size, stride=1)

    return change


def denoise(sigma: float) -> LatentChange:
    """Applies an exact denoiser to `add_noise(sigma)`: each latent pixel becomes its posterior mean.

    Its prior is every `PATCH` x `PATCH` patch of the image and of the `PRIOR_IMAGES - 1` images before it, all equally
    likely. A prior of whole images would find the right image in the first step. Patches behave as a model does: first
    the mean of all, then blurs and similar shapes, then the image. The same generator draws the same noise at every
    sigma, so several sigmas are the steps of one run, on the straight path from noise to the image.
    """

    def change(latents: Tensor, generator: torch.Generator) -> Tensor:
        noisy = add_noise(sigma)(latents, generator)
        priors = torch.stack([latents.roll(i, 0) for i in range(PRIOR_IMAGES)], dim=1)
        return torch.stack([_posterior_mean(*pair, sigma) for pair in zip(noisy, priors, strict=True)])

    return change


def _posterior_mean(x: Tensor, prior: Tensor, sigma: float) -> Tensor:
    """Computes the posterior mean of the patch centers of `prior` `[K, C, h, w]`.

    Args:
        x: noisy latents, `(1 - sigma) * clean + sigma * noise`.
        prior: clean latents of the images in the prior.
        sigma: share of the noise.
    """
    known, centers = _patches(prior), prior.movedim(1, -1).flatten(0, 2)
    means = []
    for noisy in _patches(x[None]).split(1024):
        # -|noisy - (1 - sigma) * known|² / 2, without the term that is the same for all known patches.
        likelihood = (1 - sigma) * (noisy @ known.T - (1 - sigma) / 2 * known.square().sum(1))
        means.append(torch.softmax(likelihood / sigma**2, dim=1) @ centers)
    return torch.cat(means).T.reshape(x.shape)


def _patches(latents: Tensor) -> Tensor:
    """Cuts the patch around each latent pixel of `[K, C, h, w]`, with a repeated border: `[K * h * w, C * PATCH²]`."""
    padded = F.pad(latents, (PATCH // 2,) * 4, mode="replicate")
    return F.unfold(padded, PATCH).transpose(1, 2).flatten(0, 1)


# The changed latents that decoders are scored on, besides clean latents.
LATENT_CHANGES: Mapping[str, LatentChange] = {
    "blend 0.1": blend(0.1),
    "blend 0.3": blend(0.3),
    "blend 0.5": blend(0.5),
    "mean of 12": mean_of(12),
    "blurred 5x5": blur_latents(5),
    "noisy 0.1": add_noise(0.1),
    "noisy 0.3": add_noise(0.3),
    "noisy 0.6": add_noise(0.6),
    **{f"denoised {sigma}": denoise(sigma) for sigma in SIGMAS},
}
RUN_STEPS = tuple(f"denoised {sigma}" for sigma in SIGMAS)  # these are the steps of one run, in its order
SOFT, PLAIN = "blurred 5x5", "mean of 12"  # the changes where false detail and a color cast show best


@torch.no_grad()
def noisy_pairs(latents: Tensor, teacher: Callable[[Tensor], Tensor], change: LatentChange, seed: int = 0) -> Pairs:
    """Changes latents and decodes the changed latents with `teacher`.

    Args:
        latents: clean latents `[N, C, h, w]` in model space.
        teacher: decoder to imitate, from latents to rgb `[B, 3, H, W]` in 0..1.
        change: change of the latents, such as one of `LATENT_CHANGES`.
        seed: random seed of the noise.
    """
    changed = change(latents.float(), torch.Generator().manual_seed(seed)).half()
    pixels = [
        teacher(batch.float()).clamp(0, 1).mul(255).round().to(torch.uint8) for batch in changed.split(ENCODE_BATCH)
    ]
    return Pairs(changed, torch.cat(pixels), (SEVERAL_IMAGES,) * len(changed))


@torch.no_grad()
def score_noisy_latents(
    nets: Sequence[Net], latents: Tensor, teacher: Callable[[Tensor], Tensor], seed: int = 0
) -> Iterator[tuple[str, list[float]]]:
    """Scores how well nets imitate `teacher` on changed latents; yields table rows of a title and a number per net.

    Args:
        nets: nets to score.
        latents: clean latents `[N, C, h, w]` in model space.
        teacher: decoder to imitate, as in `noisy_pairs`.
        seed: random seed of the noise.

    Yields:
        For each of `LATENT_CHANGES` the mean PSNR at latent size, in dB. Then, in levels of 255, lower is better:
        `flicker`: the RMS change between neighboring steps of a run that the teacher does not show;
        `cast`: the error of the mean color on plain latents. Last `detail`: the amount of detail on soft latents,
        relative to the teacher; above 1 it is ringing or invented.
    """
    before: list[Tensor] = []
    flickers: list[list[Tensor]] = []
    casts: list[float] = []
    details: list[float] = []
    for title, change in LATENT_CHANGES.items():
        pairs = noisy_pairs(latents, teacher, change, seed)
        decoded = [_decode(net, pairs.latents) for net in nets]
        small, truth = [resize_rgb(rgb, *latents.shape[2:]) for rgb in decoded], pairs.rgb(1)
        yield title, [float(psnr_db(rgb, truth).mean()) for rgb in small]
        if title in RUN_STEPS:
            errors = [rgb - truth for rgb in small]
            if before:
                flickers.append([(now - then).square().mean() for now, then in zip(errors, before, strict=True)])
            before = errors
        if title == PLAIN:
            casts = [255 * float(color_cast(rgb, truth).mean()) for rgb in small]
        if title == SOFT:
            details = [
                float(detail_rms(rgb).mean() / detail_rms(pairs.rgb(net.scale)).mean())
                for net, rgb in zip(nets, decoded, strict=True)
            ]
    yield "flicker", [255 * float(torch.stack(squares).mean().sqrt()) for squares in zip(*flickers, strict=True)]
    yield "cast", casts
    yield "detail", details


def _decode(net: Net, latents: Tensor) -> Tensor:
    return torch.cat([net(batch.float()).clamp(0, 1) for batch in latents.split(ENCODE_BATCH)])


def vary_latents(latents: Tensor, seed: int) -> Tensor:
    """Changes each of the latents `[N, C, h, w]` at random for training: blends, noise, blurs, exact estimates."""
    generator = torch.Generator().manual_seed(seed)
    count = len(latents)
    latents = latents.float()

    weights = torch.rand((count, 1, 1, 1), generator=generator)
    most = torch.randint(MAX_BLENDED_IMAGES, (count,), generator=generator)
    others = torch.randint(count, (count, MAX_BLENDED_IMAGES), generator=generator)
    partner = torch.randperm(count, generator=generator)
    noise = torch.randn(latents.shape, generator=generator)
    sigma = weights * MAX_SIGMA
    early = torch.lerp(torch.tensor(min(SIGMAS)), torch.tensor(max(SIGMAS)), weights)
    changes: tuple[Callable[[Tensor], Tensor], ...] = (
        lambda at: torch.lerp(latents[at], latents[partner[at]], weights[at] / 2),
        lambda at: torch.stack([latents[others[i, : most[i] + 1]].mean(0) for i in at]),
        lambda at: (1 - sigma[at]) * latents[at] + sigma[at] * noise[at],
        lambda at: blur_latents(3)(latents[at], generator),
        lambda at: blur_latents(5)(latents[at], generator),
        lambda at: torch.stack(
            [
                _posterior_mean(
                    torch.lerp(latents[i], noise[i], early[i]),
                    torch.stack([latents[i], *latents[others[i, : PRIOR_IMAGES - 1]]]),
                    float(early[i]),
                )
                for i in at
            ]
        ),
    )
    chosen = torch.randint(len(changes), (count,), generator=generator)
    varied = torch.empty_like(latents)
    for i, change in enumerate(changes):  # only the chosen latents: all of them would take many times the memory
        if len(at := (chosen == i).nonzero()[:, 0]):
            varied[at] = change(at)
    return varied
