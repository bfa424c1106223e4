"""A measured curve, and how steep it is."""

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import NamedTuple

TOLERANCE = 0.25  # of an exponent: caches and the time of a call bend a curve


class Limit(Enum):
    """The steepest allowed growth, as the exponent of a power."""

    FLAT = 0.0
    LINEAR = 1.0


class Curve(NamedTuple):
    """Costs by size.

    Args:
        line: name of what grows.
        part: what the cost is of, such as the sampler's thread.
        limit: steepest allowed growth.
        costs_us: microseconds by size, in ascending order.
    """

    line: str
    part: str
    limit: Limit
    costs_us: Mapping[int, float]

    @property
    def exponent(self) -> float:
        """The power of the size with which the cost grows at the large sizes."""
        return growth_exponent(list(self.costs_us), list(self.costs_us.values()))

    @property
    def is_allowed(self) -> bool:
        """Whether the cost grows no faster than the limit."""
        return self.exponent <= self.limit.value + TOLERANCE

    @property
    def kind(self) -> str:
        """The growth in words."""
        kinds = {limit.value: limit.name.lower() for limit in Limit}
        return next((name for value, name in kinds.items() if self.exponent <= value + TOLERANCE), "worse than linear")


def growth_exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of a straight line through the larger half of the points, both axes logarithmic, by least squares.

    The smaller half is left out: there a constant part of the cost hides the growth.

    Args:
        sizes: sizes in ascending order, at least two.
        costs: cost of each.
    """
    half = min(len(sizes) // 2, len(sizes) - 2)
    x = [math.log(size) for size in sizes[half:]]
    y = [math.log(max(cost, 1e-9)) for cost in costs[half:]]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    return sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True)) / sum((a - x_mean) ** 2 for a in x)
