"""Encoders of animations."""

import pytest
from safelight.errors import SinkError
from safelight.preview.images.animated import expect_encoder


def test_an_mp4_is_refused_if_pyav_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SinkError, match=r"needs PyAV, which is missing: pip install safelight\[video\]"):
        expect_encoder("mp4")
    expect_encoder("webp")
