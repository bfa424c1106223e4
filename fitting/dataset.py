"""Training, validation and test pairs for a fit."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..errors import FitError
from .pairs import Pairs

HELD_OUT_SHARE = 6  # one image in six is for validation, one in six for the test
MIN_COLORFULNESS = 1.5  # mean difference between the colors of a pixel, in 1/255; images below it are gray


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Training, validation and test pairs that share no image.

    Args:
        train: pairs to fit on.
        validation: pairs that choose ridges, the best training step and the best preset.
        test: pairs for the scores; no fit and no choice uses them.
        fitted_on: description of the training pairs, for the card.
        judged_on: description of the test pairs, for the card; see `describe_pairs`.

    Raises:
        FitError: the pairs are of several latent spaces, or the images are gray.
    """

    train: Pairs
    validation: Pairs
    test: Pairs
    fitted_on: str
    judged_on: str

    def __post_init__(self) -> None:
        sizes = {(pairs.channels, pairs.downscale) for pairs in (self.train, self.validation, self.test)}
        if len(sizes) > 1:
            found = " and ".join(f"{channels} channels at 1/{down}" for channels, down in sorted(sizes))
            raise FitError(f"expected training and test pairs of one latent space, got {found} of the image size")
        for part, pairs in (("training", self.train), ("test", self.test)):
            if _is_gray(pairs):
                raise FitError(
                    f"expected {part} images in color, got {len(pairs)} gray images: a decoder fitted on them would "
                    "decode to gray; give color images, or none to use generated images"
                )


def split_pairs(
    pairs: Pairs,
    fitted_on: str,
    image_numbers: Sequence[int],
    *,
    validation: Pairs | None = None,
    test: Pairs | None = None,
    judged_on: str | None = None,
) -> Dataset:
    """Splits pairs evenly: a sixth for the test, a sixth for validation, the rest for training.

    Args:
        pairs: pairs to split.
        fitted_on: description of the pairs; the number of training pairs is added.
        image_numbers: number of the source image of each pair; crops of one image stay in one part.
        validation: validation pairs to use instead of a part of `pairs`.
        test: test pairs to use instead of a part of `pairs`.
        judged_on: description of `test`.

    Raises:
        FitError: the pairs are from too few images.
    """
    numbers = list(dict.fromkeys(image_numbers))
    purposes = ["training", *(["validation"] * (validation is None)), *(["test"] * (test is None))]
    if len(numbers) < len(purposes):
        raise FitError(
            f"expected at least {len(purposes)} images, one each for {' and '.join(purposes)}, got {len(numbers)}; "
            "give more images, or none to use generated images"
        )
    count = max(1, len(numbers) // HELD_OUT_SHARE)
    stride = len(numbers) / count
    test_numbers = {numbers[int((i + 0.5) * stride)] for i in range(count)} if test is None else set()
    validation_numbers = {numbers[int(i * stride)] for i in range(count)} if validation is None else set()

    def part(is_inside: Callable[[int], bool]) -> Pairs:
        at = torch.tensor([is_inside(number) for number in image_numbers])
        return Pairs(pairs.latents[at], pairs.pixels[at])

    train = part(lambda number: number not in test_numbers | validation_numbers)
    test = test or part(test_numbers.__contains__)
    return Dataset(
        train=train,
        validation=validation or part(validation_numbers.__contains__),
        test=test,
        fitted_on=fitted_on if len(train) == len(pairs) else f"{len(train)} of {fitted_on}",
        judged_on=describe_pairs(test, judged_on or "held back"),
    )


def describe_pairs(pairs: Pairs, origin: str) -> str:
    """Describes test pairs for a card. Only identical pairs get the same text: scores of the same text compare."""
    digest = hashlib.sha256()
    for tensor in (pairs.latents, pairs.pixels):
        digest.update(f"{list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return f"{len(pairs)} pairs {origin} (sha256 {digest.hexdigest()[:8]})"


def _is_gray(pairs: Pairs) -> bool:
    sample = pairs.pixels[:: max(1, len(pairs) // 64), :, ::4, ::4].float()
    return float((sample.amax(1) - sample.amin(1)).mean()) < MIN_COLORFULNESS
