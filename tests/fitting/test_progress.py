"""The progress bar of a fit node."""

import math

import pytest
from safelight.fitting.fit import COST_CLASSES
from safelight.fitting.presets import PRESETS
from safelight.fitting.progress import FitProgressBar
from safelight.fitting.train import FitStep

AUTO_PRESETS = [name for presets in COST_CLASSES.values() for name in presets]


class RecordedBar:
    """A progress bar that records its shares."""

    def __init__(self, kind, ticks=10**9, check_cancelled=lambda: None):
        self.shares, self.messages = [], []
        self.bar = FitProgressBar(kind, ticks, self.show, check_cancelled)

    def show(self, message, share):
        self.messages.append(message)
        self.shares.append(share)

    def fitting(self, name, step, steps):
        self.bar.fitting(name, FitStep(step, steps, math.nan, math.nan))
        return self.shares[-1]


@pytest.mark.parametrize("kind", ["auto", *PRESETS])
def test_progress_only_increases_and_ends_near_one(kind):
    recorded = RecordedBar(kind)
    for part in (0.0, 0.5, 1.0):
        recorded.bar.encoding(part)
    for name in AUTO_PRESETS if kind == "auto" else [kind]:
        for step in range(5):
            recorded.fitting(name, step, 4)
    assert recorded.shares == sorted(recorded.shares)
    assert recorded.shares[0] == 0.0
    assert 0.98 < recorded.shares[-1] < 1.0


def test_a_preset_without_steps_adds_no_progress():
    assert RecordedBar("conv").fitting("conv", 0, 0) == pytest.approx(0.3)


def test_a_training_has_a_larger_share_than_a_closed_form():
    recorded = RecordedBar("auto")

    def share(name):
        begin, end = (recorded.fitting(name, step, 1) for step in (0, 1))
        return end - begin

    assert share("conv") > 5 * share("affine")


def test_the_host_gets_each_position_of_the_bar_once():
    recorded = RecordedBar("conv", ticks=10)
    for i in range(101):
        recorded.bar.encoding(i / 100)
    assert recorded.shares == [0.0, 0.1, 0.2, 0.3]
    assert set(recorded.messages) == {"Encoding images"}


def test_a_cancelled_fit_ends_before_the_bar_moves():
    def cancel():
        raise KeyboardInterrupt

    recorded = RecordedBar("conv", check_cancelled=cancel)
    with pytest.raises(KeyboardInterrupt):
        recorded.bar.encoding(0.5)
    assert recorded.shares == []
