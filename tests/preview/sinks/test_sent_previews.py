"""Small pictures for clients that know only the host's own previews: how many, of which steps, and of which size."""

import pytest
from safelight.preview.cadence import Cadence
from safelight.preview.sinks.sent_previews import SentPreviews


@pytest.fixture
def sent_of(picture, clock):
    """A function that shows steps at these seconds, and returns the gray levels and the sizes of what was sent."""

    def show(times, *, total=10, interval_s=0.2, closes=False):
        sent = []
        sink = SentPreviews(sent.append, 60, Cadence(min_interval_s=interval_s, clock=clock))
        for index, clock.now in enumerate(times, 1):
            sink.show(picture(index, total))
        if closes:
            sink.close("interrupted")
        return [image.getpixel((0, 0))[0] // 20 for image in sent], {image.size for image in sent}

    return show


def test_at_most_one_picture_is_sent_in_an_interval(sent_of):
    assert sent_of([0.0, 0.1, 0.19, 0.21, 0.3, 0.45])[0] == [1, 4, 6]


def test_the_last_step_is_always_sent(sent_of):
    assert sent_of([0.0, 0.01, 0.02], total=3, closes=True)[0] == [1, 3]


def test_a_run_that_ends_early_sends_its_newest_picture_once(sent_of):
    assert sent_of([0.0, 0.01, 0.02], closes=True)[0] == [1, 3]
    assert sent_of([0.0, 0.3], closes=True)[0] == [1, 2]
    assert sent_of([], closes=True)[0] == []


def test_without_an_interval_each_step_is_sent(sent_of):
    assert sent_of([0.0, 0.01, 0.02], interval_s=0.0)[0] == [1, 2, 3]


def test_a_small_picture_is_enlarged_to_the_size_of_the_hosts_previews(sent_of):
    assert sent_of([0.0])[1] == {(60, 40)}
