"""A preview neither joins a graph that the host records, nor breaks one that another thread records."""

import ctypes
from types import SimpleNamespace

import pytest
from safelight.errors import LatentsError
from safelight.preview.graph_capture import THREAD_LOCAL, expect_no_capture, ignore_captures_of_other_threads


@pytest.fixture
def drivers(monkeypatch):
    """The libraries that can be loaded, and a log of what their functions got."""
    libraries, log = {}, []

    def load(name):
        if name not in libraries:
            raise OSError(f"{name}: cannot open shared object file")
        return libraries[name]

    def exchange(name):
        def call(mode):
            log.append((name, mode._obj.value))
            mode._obj.value = 0
            return 0

        return call

    monkeypatch.setattr(ctypes, "CDLL", load)
    return libraries, log, exchange


@pytest.mark.parametrize(
    ("library", "function"),
    [
        ("libcuda.so.1", "cuThreadExchangeStreamCaptureMode"),
        ("nvcuda.dll", "cuThreadExchangeStreamCaptureMode"),
        ("libamdhip64.so.6", "hipThreadExchangeStreamCaptureMode"),
        ("amdhip64_7.dll", "hipThreadExchangeStreamCaptureMode"),
    ],
)
def test_the_thread_leaves_the_mode_in_which_captures_of_others_forbid_its_calls(drivers, library, function):
    libraries, log, exchange = drivers
    libraries[library] = SimpleNamespace(**{function: exchange(library)})
    ignore_captures_of_other_threads("cuda")
    assert log == [(library, THREAD_LOCAL)]


def test_without_a_driver_or_its_function_nothing_happens(drivers):
    libraries, log, _ = drivers
    ignore_captures_of_other_threads("cuda")
    libraries["libcuda.so.1"] = SimpleNamespace()  # a driver from before CUDA 10.1
    ignore_captures_of_other_threads("cuda")
    assert log == []


def test_drivers_of_other_devices_are_not_loaded(drivers):
    libraries, log, exchange = drivers
    libraries["libcuda.so.1"] = SimpleNamespace(cuThreadExchangeStreamCaptureMode=exchange("libcuda.so.1"))
    ignore_captures_of_other_threads("xpu")
    assert log == []


def test_a_device_that_cannot_record_graphs_is_never_capturing():
    expect_no_capture(SimpleNamespace())
    expect_no_capture(SimpleNamespace(is_current_stream_capturing=lambda: False))
    with pytest.raises(LatentsError, match="outside of a graph capture"):
        expect_no_capture(SimpleNamespace(is_current_stream_capturing=lambda: True))
