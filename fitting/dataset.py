"""Training, validation and test pairs for a fit."""

import hashlib
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import FitError
from .image_ids import known_ids
from .pairs import Pairs
from .processes import ONE_PROCESS, Processes
from .split_plan import TEST, TRAIN, VALIDATION, images_for, plan_split

MIN_COLORFULNESS = 1.5  # mean difference between the colors of a pixel, in 1/255; images below it are gray


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Training, validation and test pairs that share no image. Of several processes, the first one has it.

    Args:
        train: pairs to fit on; those of this process.
        validation: pairs that choose ridges, the best training step and the best preset; those of this process.
        test: pairs for the scores; no fit and no choice uses them.
        fitted_on: description of the training pairs, for the card.
        judged_on: description of the test pairs, for the card; see `describe_pairs`.
        fitted_ids: images that a decoder is fitted and chosen on, in all processes; None if some are unknown.
        notes: what was left out, for the user.

    Raises:
        FitError: the pairs are of several latent spaces, or the test images are gray.
    """

    train: Pairs
    validation: Pairs
    test: Pairs
    fitted_on: str
    judged_on: str
    fitted_ids: frozenset[str] | None
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        sizes = {(pairs.channels, pairs.downscale) for pairs in (self.train, self.validation, self.test)}
        if len(sizes) > 1:
            found = " and ".join(f"{channels} channels at 1/{down}" for channels, down in sorted(sizes))
            raise FitError(f"expected training and test pairs of one latent space, got {found} of the image size")
        _require_color("test", self.test, ONE_PROCESS)


class PairShare(NamedTuple):
    """The split of all pairs, with the pairs of one process.

    Args:
        train: training pairs of this process.
        validation: validation pairs of this process.
        test: latents and images of the test pairs: for the first process all of them, for others their own.
        test_ids: image of each of all test pairs.
        train_count: number of training pairs in all processes.
        given_count: number of pairs that were split, in all processes.
        fitted_ids: images of training and validation in all processes; None if some are unknown.
        notes: what was left out, for the user.
    """

    train: Pairs
    validation: Pairs
    test: tuple[Tensor, Tensor]
    test_ids: tuple[str, ...]
    train_count: int
    given_count: int
    fitted_ids: frozenset[str] | None
    notes: Sequence[str]


def split_pairs(
    pairs: Pairs,
    fitted_on: str,
    image_numbers: Sequence[Hashable],
    *,
    validation: Pairs | None = None,
    test: Pairs | None = None,
    judged_on: str | None = None,
    seen: Collection[str] = (),
    processes: Processes = ONE_PROCESS,
) -> Dataset:
    """Splits pairs evenly: a sixth for the test, a sixth for validation, the rest for training.

    No image is in two parts. An image of given test pairs is left out of the others, one of given validation pairs out
    of the training. Half-way latents blend several images, so they are used only if none of these is held out.

    Args:
        pairs: pairs to split; of several processes, those of this one.
        fitted_on: description of the pairs; the number of training pairs is added.
        image_numbers: number of the source image of each pair; crops of one image stay in one part.
        validation: validation pairs to use instead of a part of `pairs`; the same in all processes.
        test: test pairs to use instead of a part of `pairs`; the same in all processes.
        judged_on: description of `test`.
        seen: ids of images that installed decoders were fitted on. The test takes other images if there are some.
        processes: processes that fit together; this is the first one, and the others call `split_share`.

    Raises:
        FitError: the pairs are from too few images, or the images are gray.
    """
    share = split_share(pairs, image_numbers, validation=validation, test=test, seen=seen, processes=processes)
    latents, pixels = share.test
    test = test or Pairs(latents, pixels, share.test_ids)
    return Dataset(
        train=share.train,
        validation=share.validation,
        test=test,
        fitted_on=fitted_on if share.train_count == share.given_count else f"{share.train_count} of {fitted_on}",
        judged_on=describe_pairs(test, judged_on or "held back"),
        fitted_ids=share.fitted_ids,
        notes=share.notes,
    )


def split_share(
    pairs: Pairs,
    image_numbers: Sequence[Hashable],
    *,
    validation: Pairs | None = None,
    test: Pairs | None = None,
    seen: Collection[str] = (),
    processes: Processes = ONE_PROCESS,
) -> PairShare:
    """Splits pairs as `split_pairs` does, for any process. The first process decides, by its `seen`."""
    numbers = processes.texts_of_all([str(number) for number in image_numbers])
    ids = processes.texts_of_all(pairs.image_ids)
    plan = plan_split(
        numbers,
        ids,
        validation_ids=validation.image_ids if validation else (),
        test_ids=test.image_ids if test else (),
        seen=seen,
    )
    purposes, given_purposes = map(processes.text_of_first, (plan.purposes, plan.given_purposes))
    lengths = [int(length) for length in processes.texts_of_all([str(len(pairs))])]
    begin = sum(lengths[: processes.rank])
    own = purposes[begin : begin + len(pairs)]
    holder, holder_purposes = pairs, own
    if validation is not None:
        holder, holder_purposes = processes.share(validation), processes.share(given_purposes)
    if processes.count > 1:
        _require_shares(TRAIN in own and VALIDATION in holder_purposes, processes)
    train = _of_purpose(TRAIN, own, pairs)
    _require_color("training", train, processes)
    is_test = torch.tensor([purpose == TEST for purpose in own])
    fitted = [
        *images_for(TRAIN, purposes, ids),
        *images_for(VALIDATION, purposes, ids),
        *images_for(VALIDATION, given_purposes, validation.image_ids if validation else ()),
    ]
    return PairShare(
        train=train,
        validation=_of_purpose(VALIDATION, holder_purposes, holder),
        test=(
            processes.gathered_by_first(pairs.latents[is_test]),
            processes.gathered_by_first(pairs.pixels[is_test]),
        ),
        test_ids=tuple(images_for(TEST, purposes, ids)),
        train_count=purposes.count(TRAIN),
        given_count=len(ids),
        fitted_ids=known_ids(fitted),
        notes=plan.notes,
    )


def _of_purpose(purpose: str, purposes: str, pairs: Pairs) -> Pairs:
    keeps = [letter == purpose for letter in purposes]
    return pairs if all(keeps) else pairs.select(keeps)


def _require_shares(has_all: bool, processes: Processes) -> None:
    """Raises `FitError` in all processes if one of them has no training or no validation pair."""
    lacking = int(processes.total(torch.tensor(int(not has_all))))
    if lacking:
        raise FitError(
            f"expected training and validation images in the share of each process, but {lacking} of "
            f"{processes.count} processes lack them; give about twelve images for each process, or start fewer"
        )


def describe_pairs(pairs: Pairs, origin: str) -> str:
    """Describes test pairs for a card. Only identical pairs get the same text: scores of the same text compare."""
    digest = hashlib.sha256()
    for tensor in (pairs.latents, pairs.pixels):
        digest.update(f"{list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return f"{len(pairs)} pairs {origin} (sha256 {digest.hexdigest()[:8]})"


def _require_color(part: str, pairs: Pairs, processes: Processes) -> None:
    """Raises `FitError` if the images of all processes together are gray."""
    sample = pairs.pixels[:: max(1, len(pairs) // 64), :, ::4, ::4].float()
    if processes.mean(sample.amax(1) - sample.amin(1)) < MIN_COLORFULNESS:
        raise FitError(
            f"expected {part} images in color, got {len(pairs)} gray images: a decoder fitted on them would "
            "decode to gray; give color images, or none to use generated images"
        )
