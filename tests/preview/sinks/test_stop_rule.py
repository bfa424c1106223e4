"""The user's rule asks a run to stop once its picture has moved and then stays."""

import pytest
from safelight.errors import RunError
from safelight.preview.run import Run
from safelight.preview.sinks.stop_rule import StopRule


@pytest.fixture
def asked_at(picture):
    """A function that shows pictures with these changes, by step, and returns the steps at which it asks to stop."""

    def show(changes, *, below=0.01, steps=3, total=100, run=None, stop=None):
        asked = []
        rule = StopRule(run or Run(), below, steps, stop or (lambda: asked.append(index)))
        for index, change in changes.items():
            rule.show(picture(index, total, change=change))
        return asked

    return show


def by_step(*changes):
    return dict(enumerate(changes, 1))


def test_it_asks_once_when_the_picture_stayed_for_so_many_steps(asked_at):
    assert asked_at(by_step(None, 0.2, 0.1, 0.009, 0.008, 0.001, 0.001, 0.001, 0.001)) == [6]


@pytest.mark.parametrize(("steps", "at"), [(1, 4), (2, 5), (4, 7)])
def test_the_number_of_steps_is_the_users(asked_at, steps, at):
    assert asked_at(by_step(None, 0.2, 0.1, *[0.001] * 6), steps=steps) == [at]


def test_a_change_as_large_as_the_limit_moves_the_picture(asked_at):
    assert asked_at(by_step(None, 0.2, 0.01, 0.01, 0.01, 0.01)) == []


def test_steps_of_high_noise_before_the_first_movement_do_not_count(asked_at):
    assert asked_at(by_step(None, *[0.001] * 9, 0.2, 0.001, 0.001, 0.001)) == [14]


def test_a_movement_begins_the_count_again(asked_at):
    assert asked_at(by_step(None, 0.2, 0.001, 0.001, 0.05, 0.001, 0.001, 0.001)) == [8]


def test_steps_without_a_picture_count(asked_at):
    assert asked_at({1: None, 3: 0.2, 5: 0.001, 7: 0.001}) == [7]


def test_an_unknown_change_begins_the_count_again(asked_at):
    assert asked_at(by_step(None, 0.2, 0.001, 0.001, None, 0.001, 0.001, 0.2, 0.001, 0.001, 0.001)) == [11]


def test_the_last_step_is_never_asked_to_stop(asked_at):
    assert asked_at(by_step(None, 0.2, 0.001, 0.001, 0.001), total=5) == []


def test_a_sampler_that_refuses_goes_on_and_the_note_says_why(asked_at):
    run, calls = Run(), []

    def refuse():
        calls.append(1)
        raise RunError("it samples parts of the image")

    asked_at(by_step(None, 0.2, *[0.001] * 6), run=run, stop=refuse)
    assert calls == [1]
    assert run.notes == ["your rule would end this run at step 5, but it goes on: it samples parts of the image"]
