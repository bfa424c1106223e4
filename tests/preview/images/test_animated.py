"""Encoders of animations."""

from itertools import accumulate

import pytest
from safelight.errors import SinkError
from safelight.preview.images.animated import Pace, expect_encoder
from safelight.preview.images.encode import whole_durations


@pytest.mark.parametrize("fps", [0.3, 8.0, 12.0, 16.0, 50.0])
@pytest.mark.parametrize("tick_ms", [1, 10])
def test_durations_are_multiples_of_the_unit_and_do_not_drift(fps, tick_ms):
    ends = Pace(fps, 1.5).ends_ms(100)
    durations = whole_durations(ends, tick_ms)
    assert all(duration % tick_ms == 0 for duration in durations)
    for end, played in zip(ends, accumulate(durations), strict=True):
        assert abs(end - played) <= tick_ms / 2


def test_an_mp4_is_refused_if_pyav_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SinkError, match=r"needs PyAV, which is missing: pip install safelight\[video\]"):
        expect_encoder("mp4")
    expect_encoder("webp")
