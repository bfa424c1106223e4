"""The progress of a fit node."""

import math

import pytest
from safelight.fitting.fit import COST_CLASSES
from safelight.fitting.presets import PRESETS
from safelight.fitting.progress import FitProgressShares
from safelight.fitting.train import FitStep

AUTO_PRESETS = [name for presets in COST_CLASSES.values() for name in presets]


def all_shares(shares, names):
    yield from (shares.encoding(part) for part in (0.0, 0.5, 1.0))
    for name in names:
        yield from (shares.fitting(name, FitStep(step, 4, math.nan, math.nan)) for step in range(5))


@pytest.mark.parametrize("kind", ["auto", *PRESETS])
def test_progress_only_increases_and_ends_near_one(kind):
    shares = list(all_shares(FitProgressShares(kind), AUTO_PRESETS if kind == "auto" else [kind]))
    assert shares == sorted(shares)
    assert shares[0] == 0.0
    assert 0.98 < shares[-1] < 1.0


def test_a_preset_without_steps_adds_no_progress():
    assert FitProgressShares("conv").fitting("conv", FitStep(0, 0, math.nan, math.nan)) == pytest.approx(0.3)


def test_a_training_has_a_larger_share_than_a_closed_form():
    shares = FitProgressShares("auto")

    def share(name):
        begin, end = (shares.fitting(name, FitStep(step, 1, math.nan, math.nan)) for step in (0, 1))
        return end - begin

    assert share("conv") > 5 * share("affine")
