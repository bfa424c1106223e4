"""What a node that fits tells."""

import math

import pytest
from safelight.fitting.fit import CLASSES
from safelight.fitting.presets import PRESETS
from safelight.fitting.progress import ProgressShares
from safelight.fitting.train import Progress

OF_AUTO = [name for rungs in CLASSES.values() for name in rungs]


def told(shares, names):
    yield from (shares.encoding(part) for part in (0.0, 0.5, 1.0))
    for name in names:
        yield from (shares.fitting(name, Progress(step, 4, math.nan, math.nan)) for step in range(5))


@pytest.mark.parametrize("kind", ["auto", *PRESETS])
def test_it_goes_forward_only_and_to_almost_the_end(kind):
    shares = list(told(ProgressShares(kind), OF_AUTO if kind == "auto" else [kind]))
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert 0.98 < shares[-1] < 1.0


def test_of_what_takes_no_steps_nothing_is_done():
    assert ProgressShares("conv").fitting("conv", Progress(0, 0, math.nan, math.nan)) == pytest.approx(0.3)


def test_a_training_has_more_of_the_bar_than_a_closed_form():
    shares = ProgressShares("auto")

    def share(name):
        begin, end = (shares.fitting(name, Progress(step, 1, math.nan, math.nan)) for step in (0, 1))
        return end - begin

    assert share("conv") > 5 * share("affine")
