"""Pairs in parts: what a decoder is fitted on, chosen by, judged by."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..errors import FitError
from .pairs import Pairs

SHARE = 6  # one picture of so many is chosen by, another one is judged on
GREY = 1.5  # mean difference between the colours of a pixel, in 1/255, below which pictures show none


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Pairs in three parts that share no picture.

    Args:
        fit: to fit on.
        choose: to choose by: ridges, when to stop, kinds.
        judge: for the scores; nothing is fitted on these or chosen by them.
        fitted_on: what the pairs are.
        judged_on: what those to judge by are; see `described`.

    Raises:
        FitError: they are not of one space, or show no colours.
    """

    fit: Pairs
    choose: Pairs
    judge: Pairs
    fitted_on: str
    judged_on: str

    def __post_init__(self) -> None:
        sizes = {(pairs.channels, pairs.downscale) for pairs in (self.fit, self.choose, self.judge)}
        if len(sizes) > 1:
            told = " and ".join(f"{channels} channels at 1/{down}" for channels, down in sorted(sizes))
            raise FitError(f"expected pairs of one latent space to fit on and to judge by, got {told} of the pictures")
        for what, pairs in (("fit on", self.fit), ("judge by", self.judge)):
            if _is_grey(pairs):
                raise FitError(
                    f"expected pictures in colour to {what}, got {len(pairs)} without: a decoder fitted on them would "
                    "show none either; give colour pictures, or none to use procedural ones"
                )


def split(
    pairs: Pairs,
    fitted_on: str,
    pictures: Sequence[int],
    *,
    choose: Pairs | None = None,
    judge: Pairs | None = None,
    judged_on: str | None = None,
) -> Dataset:
    """Pairs in parts, spread evenly: a sixth to judge by and a sixth to choose by, where those are not given.

    Args:
        pairs: to fit on, all but what is held back.
        fitted_on: what they are; of how many of them a decoder is then fitted is added.
        pictures: for each pair the number of the picture it was cut from; crops of one stay on the same side.
        choose: instead of some of `pairs`.
        judge: instead of some of `pairs`.
        judged_on: what `judge` is.

    Raises:
        FitError: they are of too few pictures.
    """
    numbers = list(dict.fromkeys(pictures))
    if len(numbers) < (least := 1 + (choose is None) + (judge is None)):
        purposes = ["to fit on", *(["to choose by"] * (choose is None)), *(["to judge by"] * (judge is None))]
        raise FitError(
            f"expected at least {least} pictures, {' and '.join(purposes)}, got {len(numbers)}; "
            "give more, or none to use procedural ones"
        )
    count = max(1, len(numbers) // SHARE)
    stride = len(numbers) / count
    judging = {numbers[int((i + 0.5) * stride)] for i in range(count)} if judge is None else set()
    choosing = {numbers[int(i * stride)] for i in range(count)} if choose is None else set()

    def part(inside: Callable[[int], bool]) -> Pairs:
        at = torch.tensor([inside(number) for number in pictures])
        return Pairs(pairs.latents[at], pairs.pixels[at])

    fit, judge = part(lambda number: number not in judging | choosing), judge or part(judging.__contains__)
    return Dataset(
        fit=fit,
        choose=choose or part(choosing.__contains__),
        judge=judge,
        fitted_on=fitted_on if len(fit) == len(pairs) else f"{len(fit)} of {fitted_on}",
        judged_on=described(judge, judged_on or "held back"),
    )


def described(pairs: Pairs, what: str) -> str:
    """Pairs to judge by, told so that only the very same ones have the same words."""
    digest = hashlib.sha256()
    for tensor in (pairs.latents, pairs.pixels):
        digest.update(f"{list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return f"{len(pairs)} pairs {what} (sha256 {digest.hexdigest()[:8]})"


def _is_grey(pairs: Pairs) -> bool:
    some = pairs.pixels[:: max(1, len(pairs) // 64), :, ::4, ::4].float()
    return float((some.amax(1) - some.amin(1)).mean()) < GREY
