"""Decides what each pair of a fit is for: training, validation or test."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import compress
from typing import NamedTuple

from ..errors import FitError
from .image_ids import SEVERAL_IMAGES, UNKNOWN_IMAGE

HELD_OUT_SHARE = 6  # one image in six is for validation, one in six for the test
TRAIN, VALIDATION, TEST, UNUSED = "tvj-"  # purposes, one letter each; "j" judges
TITLES = {TRAIN: "training", VALIDATION: "validation"}


class SplitPlan(NamedTuple):
    """What each pair is for.

    Args:
        purposes: one of the letters `TRAIN`, `VALIDATION`, `TEST` and `UNUSED` for each pair.
        given_purposes: `VALIDATION` or `UNUSED` for each of the given validation pairs.
        notes: what was left out, for the user.
    """

    purposes: str
    given_purposes: str
    notes: Sequence[str]


def plan_split(
    image_numbers: Sequence[str],
    image_ids: Sequence[str],
    *,
    validation_ids: Sequence[str] = (),
    test_ids: Sequence[str] = (),
    seen: Collection[str] = (),
) -> SplitPlan:
    """Plans the split that `dataset.split_pairs` describes.

    Args:
        image_numbers: number of the source image of each pair.
        image_ids: id of the source image of each pair.
        validation_ids: image ids of given validation pairs; none to use a part of the pairs.
        test_ids: image ids of given test pairs; none to use a part of the pairs.
        seen: ids of images that the test should not have.

    Raises:
        FitError: the pairs are from too few images.
    """
    held_out = [*validation_ids, *test_ids]
    blends = [image == SEVERAL_IMAGES for image in image_ids]
    used = [True] * len(image_ids)
    notes: list[str] = []
    if any(blends) and not (validation_ids and test_ids and _identified(held_out).isdisjoint(image_ids)):
        notes.append(f"{sum(blends)} half-way latents are left out: they blend images that are held out")
        used = [not blend for blend in blends]
    numbers = list(dict.fromkeys(compress(image_numbers, used)))
    needed = ["training", *(["validation"] * (not validation_ids)), *(["test"] * (not test_ids))]
    if len(numbers) < len(needed):
        raise FitError(
            f"expected at least {len(needed)} images, one each for {' and '.join(needed)}, got {len(numbers)}; "
            "give more images, or none to use generated images"
        )
    count = max(1, len(numbers) // HELD_OUT_SHARE)
    stride = len(numbers) / count
    test_numbers: set[str] = set()
    if not test_ids:
        known = {number for number, image in zip(image_numbers, image_ids, strict=True) if image in seen}
        fair = [number for number in numbers if number not in known] or numbers
        test_numbers = {fair[int((i + 0.5) * len(fair) / count)] for i in range(count)}
    validation_numbers: set[str] = set()
    if not validation_ids:
        first = next(number for number in numbers if number not in test_numbers)
        validation_numbers = {numbers[int(i * stride)] for i in range(count)} - test_numbers or {first}
    letters = dict.fromkeys(numbers, TRAIN)
    letters |= dict.fromkeys(validation_numbers, VALIDATION) | dict.fromkeys(test_numbers, TEST)
    purposes = "".join(letters[n] if use else UNUSED for n, use in zip(image_numbers, used, strict=True))
    held = test_ids or list(images_for(TEST, purposes, image_ids))
    given_purposes = VALIDATION * len(validation_ids)
    if validation_ids:
        given_purposes = _without(held, VALIDATION, given_purposes, validation_ids, notes)
    else:
        purposes = _without(held, VALIDATION, purposes, image_ids, notes)
    held = [
        *images_for(VALIDATION, purposes, image_ids),
        *images_for(VALIDATION, given_purposes, validation_ids),
        *held,
    ]
    return SplitPlan(_without(held, TRAIN, purposes, image_ids, notes), given_purposes, notes)


def images_for(purpose: str, purposes: str, image_ids: Sequence[str]) -> Iterator[str]:
    """The images of the pairs that have this purpose."""
    return compress(image_ids, (letter == purpose for letter in purposes))


def _identified(image_ids: Iterable[str]) -> set[str]:
    return set(image_ids) - {UNKNOWN_IMAGE, SEVERAL_IMAGES}


def _without(held_out: Iterable[str], purpose: str, purposes: str, image_ids: Sequence[str], notes: list[str]) -> str:
    """Leaves out the pairs of this purpose whose images are held out, with a note.

    Raises:
        FitError: no pair of this purpose remains.
    """
    ids = _identified(held_out)
    leaks = [letter == purpose and image in ids for letter, image in zip(purposes, image_ids, strict=True)]
    if not any(leaks):
        return purposes
    count, title = purposes.count(purpose), TITLES[purpose]
    if sum(leaks) == count:
        raise FitError(f"expected {title} images that are not held out as well, got none; give other images")
    notes.append(f"{sum(leaks)} of {count} {title} pairs are left out: their images are held out")
    return "".join(UNUSED if leak else letter for leak, letter in zip(leaks, purposes, strict=True))
