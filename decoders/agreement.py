"""Compares two decoders' pictures of the same latents, to find out whether a decoder is for a latent space.

A decoder of another space may draw the right outlines in wrong colors, because the first thing that every VAE stores is
brightness. So brightness and color are compared apart, each by its correlation, which ignores the brightness and the
contrast that published tables often get wrong. The smaller of the two is the agreement.

Measured against the published tables (`python -m safelight.tools.agreement`, and real latents of SD1 and Wan 2.1):

    decoders of the space       0.62 to 0.97 for one picture; FLUX.2: median 0.76, SD1: 0.74, Wan 2.1: 0.93
    decoders of another space   -0.9 to 0.4, single ones to 0.65 where a picture has few colors; median below 0.1
"""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

MIN_SPREAD = 0.03  # standard deviation of brightness and of color, 0..1, in a picture that proves something
RICH_SPREAD = 0.06  # of a reference, next to which a gray picture is wrong
CLEAR_AGREEMENT, AGREEMENT, NO_AGREEMENT = 0.75, 0.6, 0.25  # of one picture, of `ENOUGH_PICTURES`, of one picture
ENOUGH_PICTURES, MAX_PICTURES = 3, 8  # the agreement of so many together decides; after so many nothing is tried

Sums = tuple[float, float, float]  # of a*b, a*a and b*b
NO_SUMS: Sums = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Agreement:
    """How far a decoder agrees with a reference, over several pictures. Agreements of further pictures are added.

    Args:
        pictures: number of compared pictures.
        luma: sums of the products of both brightnesses, each without its mean.
        chroma: sums of the products of both colors, without brightness.
    """

    pictures: int = 0
    luma: Sums = NO_SUMS
    chroma: Sums = NO_SUMS

    def __add__(self, other: "Agreement") -> "Agreement":
        luma, chroma = (_add(mine, theirs) for mine, theirs in ((self.luma, other.luma), (self.chroma, other.chroma)))
        return Agreement(self.pictures + other.pictures, luma, chroma)

    @property
    def value(self) -> float:
        """The smaller of the correlations of brightness and of color, -1..1; 0 before the first picture."""
        return min(_correlation(self.luma), _correlation(self.chroma))

    @property
    def is_of_space(self) -> bool | None:
        """Whether the decoder is for the space of the pictures; None if they do not say."""
        if self.pictures and self.value <= NO_AGREEMENT:
            return False
        needed = AGREEMENT if self.pictures >= ENOUGH_PICTURES else CLEAR_AGREEMENT
        return True if self.value >= needed else None

    @property
    def is_settled(self) -> bool:
        """Whether further pictures would change nothing."""
        return self.is_of_space is not None or self.pictures >= MAX_PICTURES


def compare_pictures(rgb: Tensor, reference: Tensor, size: tuple[int, int]) -> Agreement | None:
    """Compares one picture of a decoder with that of a reference, at the size of the latents.

    Args:
        rgb: picture of the decoder, `[1, 3, H, W]` in 0..1, not smaller than the latents.
        reference: picture of the same latents that is known to be right, in any size like it.
        size: height and width of the latents.

    Returns:
        The agreement; None if the pictures have too few colors to prove something.
    """
    (luma, chroma), (known_luma, known_chroma) = (_parts(F.adaptive_avg_pool2d(x, size)) for x in (rgb, reference))
    own, known = min(_spread(luma), _spread(chroma)), min(_spread(known_luma), _spread(known_chroma))
    if known < MIN_SPREAD or (own < MIN_SPREAD and known < RICH_SPREAD):
        return None
    return Agreement(1, _products(luma, known_luma), _products(chroma, known_chroma))


def _parts(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """Brightness `[1, 1, h, w]` and color `[1, 3, h, w]`, each without its mean over the picture."""
    x = rgb.double()
    x = x - x.mean((2, 3), keepdim=True)
    luma = x.mean(1, keepdim=True)
    return luma, x - luma


def _spread(x: Tensor) -> float:
    return x.square().mean().sqrt().item()


def _products(a: Tensor, b: Tensor) -> Sums:
    return (a * b).mean().item(), a.square().mean().item(), b.square().mean().item()


def _add(a: Sums, b: Sums) -> Sums:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _correlation(sums: Sums) -> float:
    product, own, others = sums
    return product / (own * others) ** 0.5 if own * others > 0 else 0.0
