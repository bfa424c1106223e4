"""Training, validation and test pairs for a fit."""

import hashlib
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass

from ..errors import FitError
from .image_ids import SEVERAL_IMAGES, UNKNOWN_IMAGE, known_ids
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
        notes: what was left out, for the user.

    Raises:
        FitError: the pairs are of several latent spaces, or the images are gray.
    """

    train: Pairs
    validation: Pairs
    test: Pairs
    fitted_on: str
    judged_on: str
    notes: Sequence[str] = ()

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

    @property
    def fitted_ids(self) -> frozenset[str] | None:
        """The images that a decoder is fitted and chosen on; None if some are unknown."""
        return known_ids(self.train.image_ids + self.validation.image_ids)


def split_pairs(
    pairs: Pairs,
    fitted_on: str,
    image_numbers: Sequence[Hashable],
    *,
    validation: Pairs | None = None,
    test: Pairs | None = None,
    judged_on: str | None = None,
    seen: Collection[str] = (),
) -> Dataset:
    """Splits pairs evenly: a sixth for the test, a sixth for validation, the rest for training.

    No image is in two parts. An image of given test pairs is left out of the others, one of given validation pairs out
    of the training. Half-way latents blend several images, so they are used only if none of these is held out.

    Args:
        pairs: pairs to split.
        fitted_on: description of the pairs; the number of training pairs is added.
        image_numbers: number of the source image of each pair; crops of one image stay in one part.
        validation: validation pairs to use instead of a part of `pairs`.
        test: test pairs to use instead of a part of `pairs`.
        judged_on: description of `test`.
        seen: ids of images that installed decoders were fitted on. The test takes other images if there are some.

    Raises:
        FitError: the pairs are from too few images.
    """
    given = len(pairs)
    held_out = [*(validation.image_ids if validation else ()), *(test.image_ids if test else ())]
    blends = [image == SEVERAL_IMAGES for image in pairs.image_ids]
    notes: list[str] = []
    if any(blends) and not (validation and test and _identified(held_out).isdisjoint(pairs.image_ids)):
        notes.append(f"{sum(blends)} half-way latents are left out: they blend images that are held out")
        image_numbers = [number for number, blend in zip(image_numbers, blends, strict=True) if not blend]
        pairs = pairs.select([not blend for blend in blends])
    numbers = list(dict.fromkeys(image_numbers))
    purposes = ["training", *(["validation"] * (validation is None)), *(["test"] * (test is None))]
    if len(numbers) < len(purposes):
        raise FitError(
            f"expected at least {len(purposes)} images, one each for {' and '.join(purposes)}, got {len(numbers)}; "
            "give more images, or none to use generated images"
        )
    count = max(1, len(numbers) // HELD_OUT_SHARE)
    stride = len(numbers) / count
    test_numbers: set[Hashable] = set()
    if test is None:
        known = {number for number, image in zip(image_numbers, pairs.image_ids, strict=True) if image in seen}
        fair = [number for number in numbers if number not in known] or numbers
        test_numbers = {fair[int((i + 0.5) * len(fair) / count)] for i in range(count)}
    validation_numbers: set[Hashable] = set()
    if validation is None:
        first = next(number for number in numbers if number not in test_numbers)
        validation_numbers = {numbers[int(i * stride)] for i in range(count)} - test_numbers or {first}
    train_numbers = set(numbers) - test_numbers - validation_numbers

    def part(of: Collection[Hashable]) -> Pairs:
        return pairs.select([number in of for number in image_numbers])

    test = test or part(test_numbers)
    validation = _without(validation or part(validation_numbers), test.image_ids, "validation", notes)
    train = _without(part(train_numbers), (*validation.image_ids, *test.image_ids), "training", notes)
    return Dataset(
        train=train,
        validation=validation,
        test=test,
        fitted_on=fitted_on if len(train) == given else f"{len(train)} of {fitted_on}",
        judged_on=describe_pairs(test, judged_on or "held back"),
        notes=notes,
    )


def _identified(image_ids: Iterable[str]) -> set[str]:
    return set(image_ids) - {UNKNOWN_IMAGE, SEVERAL_IMAGES}


def _without(pairs: Pairs, held_out: Iterable[str], purpose: str, notes: list[str]) -> Pairs:
    """Leaves out the pairs of held-out images, with a note.

    Raises:
        FitError: no pair remains.
    """
    ids = _identified(held_out)
    keeps = [image not in ids for image in pairs.image_ids]
    if all(keeps):
        return pairs
    if not any(keeps):
        raise FitError(f"expected {purpose} images that are not held out as well, got none; give other images")
    count = keeps.count(False)
    notes.append(f"{count} of {len(pairs)} {purpose} pairs are left out: their images are held out")
    return pairs.select(keeps)


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
