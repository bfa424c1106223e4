"""The decoders that can be fitted, from the cheapest to the most truthful."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ..decoders.files.decoder_file import build
from ..decoders.nets.base import Net
from ..decoders.nets.registry import KINDS
from .least_squares import Form, Sums, choose_ridge, weights
from .metrics import at_size, psnr_db, ssim
from .pairs import Pairs
from .train import Progress, Recipe, Report, chunks, train

SUBPIXEL_MOST = 8  # sub-pixels a side; a VAE that enlarges more is decoded at a part of its scale


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A kind of decoder with its settings.

    Args:
        title: what people call it.
        kind: a name in `KINDS`.
        settings: the kind's own, for latents of so many channels and a VAE that enlarges so much.
        recipe: how to train it; None for a closed form.
    """

    title: str
    kind: str
    settings: Callable[[int, int], dict[str, Any]]
    recipe: Recipe | None = None


def _polynomial(title: str, **settings: Any) -> Preset:
    """Its constant depends on the whole picture, as far as that helps on what is held back."""
    settings["overall"] = True
    return Preset(title=title, kind="polynomial", settings=lambda channels, _: {"channels": channels, **settings})


def _subpixels(downscale: int, most: int = SUBPIXEL_MOST) -> int:
    return max(scale for scale in range(1, most + 1) if downscale % scale == 0)


PRESETS: Mapping[str, Preset] = {
    "affine": _polynomial("affine", degree=1),
    "quadratic": _polynomial("quadratic", degree=2),
    "cubic": _polynomial("cubic", degree=3),
    "neighbourhood": _polynomial("affine over 7x7", degree=1, kernel=7),
    "subpixel": Preset(
        title="affine over 5x5, in sub-pixels",
        kind="polynomial",
        settings=lambda channels, downscale: {
            "channels": channels,
            "degree": 1,
            "kernel": 5,
            "subpixel": _subpixels(downscale),
            "overall": True,
        },
    ),
    "mlp": Preset(
        title="network for each pixel",
        kind="mlp",
        settings=lambda channels, _: {"widths": (channels, 64, 64, 3)},
        recipe=Recipe(steps=1500),
    ),
    "conv": Preset(
        title="small convolutions",
        kind="conv",
        settings=lambda channels, downscale: {
            "channels": channels,
            "widths": (27, 27, 27),
            "subpixel": _subpixels(downscale, 2),  # at latent size even a perfect picture is a blur
            "overall": True,
            "linear_kernel": 3,
        },
        recipe=Recipe(steps=1500),
    ),
    "conv-full": Preset(
        title="convolutions in sub-pixels",
        kind="conv",
        settings=lambda channels, downscale: {
            "channels": channels,
            "widths": (64, 64, 64, 64, 64),
            "subpixel": _subpixels(downscale),
            "overall": True,
        },
        recipe=Recipe(steps=3000, batch=8, lr=1e-3),
    ),
}


class Fitted(NamedTuple):
    """A net, with the dB it had on the pairs held back when nothing of it had been fitted on them.

    Of a closed form also the sums it is made from, those of the pairs held back aside.
    """

    net: Net
    held_db: float
    sums: Sums | None


def fit(
    rung: Preset,
    pairs: Pairs,
    held: Pairs,
    recipe: Recipe | None = None,
    report: Report = lambda _: None,
    *,
    earlier: Sums | None = None,
) -> Fitted:
    """A net of this rung, fitted on `pairs`; what there is to choose is chosen on `held`.

    Its dB compare between closed forms, or between trained ones.

    Args:
        rung: one of `LADDER`.
        pairs: to fit on.
        held: to choose by; none of `pairs`.
        recipe: instead of the rung's own.
        report: is told how it goes; of a closed form, how much of the pictures was taken in.
        earlier: sums of what a closed form is fitted on besides `pairs`; left as they are.

    Raises:
        FitError: the rung is too large for the channels, the pictures are too few, or `earlier` is of another form.
    """
    settings = rung.settings(pairs.channels, pairs.downscale)
    with torch.inference_mode(False):  # a host's: what is made in it can neither be trained nor changed later
        if rung.recipe is None:
            form = Form(**settings)
            fitted, chosen = Sums(form), Sums(form)
            if earlier is not None:
                fitted += earlier
            parts = [(fitted, pairs, i) for i in chunks(pairs)] + [(chosen, held, i) for i in chunks(held)]
            for step, (sums, some, at) in enumerate(parts, 1):
                sums.add(some.latents[at].float(), some.rgb(form.subpixel, at))
                report(Progress(step, len(parts), math.nan, math.nan))
            ridges = choose_ridge(fitted, chosen)
            held_db = -10 * math.log10(max(chosen.mse(fitted.solve(*ridges)), 1e-12))
            net = build(rung.kind, settings, weights((fitted + chosen).solve(*ridges), form))
        else:
            with torch.device("meta"):  # nothing is drawn from the global random state; `train` draws first weights
                net = KINDS[rung.kind](**settings)
            net.to_empty(device="cpu")
            fitted, held_db = None, train(net, pairs, held, recipe or rung.recipe, report)
    return Fitted(net.eval().requires_grad_(False), held_db, fitted)


@torch.no_grad()
def measure(net: Net, pairs: Pairs) -> dict[str, float]:
    """How truthful `net` is on `pairs`: the mean over pictures.

    Returns:
        `psnr_latent_db`: against the pictures averaged to the latents' size. `psnr_full_db`, `ssim_full`: against the
        pictures, after bicubic enlargement where the net's own scale is less.
    """
    scores: dict[str, list[torch.Tensor]] = {"psnr_latent_db": [], "psnr_full_db": [], "ssim_full": []}
    for at in chunks(pairs):
        latents, truth = pairs.latents[at].float(), pairs.rgb(pairs.downscale, at)
        rgb = net(latents).clamp(0, 1)
        full = at_size(rgb, *truth.shape[2:])
        scores["psnr_latent_db"].append(psnr_db(at_size(rgb, *latents.shape[2:]), pairs.rgb(1, at)))
        scores["psnr_full_db"].append(psnr_db(full, truth))
        scores["ssim_full"].append(ssim(full, truth))
    return {name: round(float(torch.cat(values).mean()), 4) for name, values in scores.items()}
