"""The cadence decides which steps get a picture."""

import pytest
from safelight.preview.cadence import Cadence


def wanted(cadence, total, last=None):
    return [index for index in range(1, (last or total) + 1) if cadence.wants(index, total)]


@pytest.mark.parametrize(
    ("every", "total", "expected"),
    [
        (1, 5, [1, 2, 3, 4, 5]),
        (3, 10, [1, 4, 7, 10]),
        (4, 10, [1, 5, 9, 10]),
        (100, 3, [1, 3]),
        (1, 1, [1]),
    ],
)
def test_every_nth_step_from_the_first_is_wanted_and_the_last(every, total, expected):
    assert wanted(Cadence(every), total) == expected


@pytest.mark.parametrize("every", [1, 2, 3, 4, 9, 10, 11, 100])
@pytest.mark.parametrize("total", [0, 1, 2, 9, 10, 11])
def test_most_steps_is_the_number_of_steps_without_an_interval(every, total):
    assert Cadence(every, min_interval_s=9.0).most_steps(total) == len(wanted(Cadence(every), total))


def test_steps_beyond_the_announced_total_are_still_counted():
    assert wanted(Cadence(2), 4, last=8) == [1, 3, 4, 5, 7]


def test_the_interval_limits_all_steps_but_the_last(clock):
    cadence = Cadence(min_interval_s=1.0, clock=clock)
    answers = []
    for index, now in enumerate((0.0, 0.5, 0.99, 1.0, 1.5, 2.5, 2.6), start=1):
        clock.now = now
        answers.append(cadence.wants(index, 7))
    assert answers == [True, False, False, True, False, True, True]


def test_the_counter_is_checked_before_the_clock():
    def no_clock():
        raise AssertionError("the clock was read")

    cadence = Cadence(2, min_interval_s=1.0, clock=no_clock)
    assert not cadence.wants(2, 10)
    assert cadence.wants(10, 10)
    with pytest.raises(AssertionError, match="was read"):
        cadence.wants(3, 10)


def test_without_an_interval_the_clock_is_never_read():
    def no_clock():
        raise AssertionError("the clock was read")

    assert wanted(Cadence(clock=no_clock), 4) == [1, 2, 3, 4]


def test_a_step_that_is_not_wanted_does_not_restart_the_interval(clock):
    cadence = Cadence(min_interval_s=1.0, clock=clock)
    assert cadence.wants(1, 99)
    clock.now = 0.9
    assert not cadence.wants(2, 99)
    clock.now = 1.1
    assert cadence.wants(3, 99)


@pytest.mark.parametrize("every", [0, -1])
def test_a_distance_below_one_step_is_refused(every):
    with pytest.raises(ValueError, match=f"at least 1, got {every}"):
        Cadence(every)
