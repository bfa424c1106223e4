"""The decoder presets that can be fitted, from the cheapest to the most accurate."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from ..decoders.files.decoder_file import build
from ..decoders.nets.base import Net
from ..decoders.nets.registry import KINDS
from .least_squares import PolynomialForm, Sums, choose_ridges, polynomial_tensors
from .metrics import psnr_db, resize_rgb, ssim
from .pairs import Pairs
from .processes import ONE_PROCESS, Processes
from .train import FitStep, OnStep, Recipe, TrainingState, batch_slices, train_net

MAX_SUBPIXELS = 8  # sub-pixels a side; with a larger downscale factor the decoder decodes at a smaller size


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A kind of decoder with its settings.

    Args:
        title: name for people.
        kind: name in `KINDS`.
        settings: function from the number of channels and the downscale factor to the settings of the kind.
        recipe: recipe of the training; None for a closed form.
    """

    title: str
    kind: str
    settings: Callable[[int, int], dict[str, Any]]
    recipe: Recipe | None = None


def _polynomial(title: str, **settings: Any) -> Preset:
    """Builds a polynomial preset whose constant depends on the whole image if that helps on validation pairs."""
    settings["overall"] = True
    return Preset(title=title, kind="polynomial", settings=lambda channels, _: {"channels": channels, **settings})


def _subpixels(downscale: int, most: int = MAX_SUBPIXELS) -> int:
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
            "subpixel": _subpixels(downscale, 2),  # at latent size even a perfect image is blurred
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


class FittedNet(NamedTuple):
    """A fitted net, and its validation PSNR before the validation pairs were added to its fit.

    `sums` are the training sums of a closed form, without the validation pairs.
    """

    net: Net
    validation_db: float
    sums: Sums | None


def fit_preset(
    preset: Preset,
    train: Pairs,
    validation: Pairs,
    recipe: Recipe | None = None,
    on_step: OnStep = lambda _: None,
    *,
    earlier: Sums | None = None,
    training: TrainingState | None = None,
    on_state: Callable[[TrainingState], object] = lambda _: None,
    processes: Processes = ONE_PROCESS,
) -> FittedNet:
    """Fits a net of a preset.

    Its validation PSNR compares between closed forms, or between trained nets.

    Args:
        preset: one of `PRESETS`.
        train: pairs to fit on.
        validation: pairs that choose the ridges or the best step; none of `train`.
        recipe: recipe to use instead of the preset's own.
        on_step: callback for each training step, or for each part of the pairs of a closed form.
        earlier: sums of earlier sessions to add to a closed form; they are not changed.
        training: state of an interrupted training, to go on with.
        on_state: callback for the state of a training.
        processes: processes that fit together, each on its own `train` and `validation`. `earlier` and `training` are
            those of the first one.

    Raises:
        FitError: the preset is too large for the channels, the images are too few, or `earlier` has another form.
    """
    settings = preset.settings(train.channels, train.downscale)
    with torch.inference_mode(False):  # tensors of a host's inference mode can neither be trained nor changed later
        if preset.recipe is None:
            form = PolynomialForm(**settings)
            train_sums, validation_sums = Sums(form), Sums(form)
            if earlier is not None:
                train_sums += earlier
            parts = [(train_sums, train, at) for at in batch_slices(train)]
            parts += [(validation_sums, validation, at) for at in batch_slices(validation)]
            for step, (sums, pairs, at) in enumerate(parts, 1):
                sums.add(pairs.latents[at].float(), pairs.rgb(form.subpixel, at))
                on_step(FitStep(step, len(parts), math.nan, math.nan))
            train_sums, validation_sums = train_sums.of_all(processes), validation_sums.of_all(processes)
            ridges = choose_ridges(train_sums, validation_sums)
            validation_db = -10 * math.log10(max(validation_sums.mse(train_sums.solve(*ridges)), 1e-12))
            tensors = polynomial_tensors((train_sums + validation_sums).solve(*ridges), form)
            net = build(preset.kind, settings, tensors)
        else:
            # On "meta" no weights are drawn from the global random state; `train_net` draws the first weights.
            with torch.device("meta"):
                net = KINDS[preset.kind](**settings)
            net.to_empty(device="cpu")
            train_sums = None
            validation_db = train_net(
                net,
                train,
                validation,
                recipe or preset.recipe,
                on_step,
                earlier=training,
                on_state=on_state,
                processes=processes,
            )
    return FittedNet(net.eval().requires_grad_(False), validation_db, train_sums)


@torch.no_grad()
def measure_net(net: Net, pairs: Pairs, on_part: Callable[[], object] = lambda: None) -> dict[str, float]:
    """Measures the quality of `net` on `pairs`, as the mean over images.

    Args:
        net: net to measure.
        pairs: pairs of its latent space.
        on_part: callback for each of the `batch_slices` of the pairs.

    Returns:
        `psnr_latent_db`: against the images averaged to the latent size. `psnr_full_db`, `ssim_full`: against the
        full images, after bicubic enlargement where the net's scale is smaller.
    """
    scores: dict[str, list[torch.Tensor]] = {"psnr_latent_db": [], "psnr_full_db": [], "ssim_full": []}
    for at in batch_slices(pairs):
        latents, truth = pairs.latents[at].float(), pairs.rgb(pairs.downscale, at)
        rgb = net(latents).clamp(0, 1)
        full = resize_rgb(rgb, *truth.shape[2:])
        scores["psnr_latent_db"].append(psnr_db(resize_rgb(rgb, *latents.shape[2:]), pairs.rgb(1, at)))
        scores["psnr_full_db"].append(psnr_db(full, truth))
        scores["ssim_full"].append(ssim(full, truth))
        on_part()
    return {name: round(float(torch.cat(values).mean()), 4) for name, values in scores.items()}
