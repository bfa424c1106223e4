"""Streams, events, pinned memory and free memory are used where PyTorch has them for a device, whatever its name."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safelight.preview.device_streams import free_bytes, pinned_like, sleeping_event, streams_by_name, streams_of
from safelight.preview.snapshot import Snapshots, to_host

COMPLETE = {"Event": object, "Stream": object, "current_stream": object, "stream": object}


class Elsewhere(torch.Tensor):
    """A tensor that claims not to be on the CPU; its memory is there."""

    is_cpu = property(lambda _: False)


def elsewhere(*shape):
    return torch.arange(float(torch.Size(shape).numel())).view(shape).as_subclass(Elsewhere)


@pytest.fixture
def accelerator(monkeypatch):
    """A function that gives PyTorch a module for a new type of device."""

    def add(name, **parts):
        module = SimpleNamespace(**parts)
        monkeypatch.setattr(torch, name, module, raising=False)
        return module

    return add


@pytest.mark.parametrize("name", ["cuda", "xpu", "npu"])
def test_a_device_with_streams_and_events_is_used_by_them_whatever_its_name(accelerator, name):
    module = accelerator(name, **COMPLETE)
    assert streams_by_name(name) is module


@pytest.mark.parametrize("missing", COMPLETE)
def test_a_device_that_lacks_a_part_has_no_streams(accelerator, missing):
    accelerator("npu", **{name: part for name, part in COMPLETE.items() if name != missing})
    assert streams_by_name("npu") is None


def test_apple_s_device_has_events_but_no_streams():
    assert hasattr(torch.mps, "Event")
    assert streams_by_name("mps") is None


def test_a_device_without_a_module_in_pytorch_and_the_cpu_have_no_streams():
    assert streams_by_name("privateuseone") is None
    assert streams_of(torch.zeros(1)) is None


def test_a_step_of_a_device_without_streams_is_copied_in_its_own_order(monkeypatch):
    monkeypatch.delattr(torch.cpu, "Stream")
    latents, snapshots = elsewhere(1, 4, 2, 2), Snapshots()
    snapshot = snapshots.take(latents)
    latents.zero_()
    with snapshots.reading(snapshot) as copy:
        assert torch.equal(copy.flatten(), torch.arange(16.0))
    assert snapshot.queued is None


def test_events_that_let_the_thread_sleep_are_used_where_there_are_any():
    sleeping = SimpleNamespace(Event=lambda blocking=False: f"blocking={blocking}")
    assert sleeping_event(sleeping) == "blocking=True"
    assert sleeping_event(SimpleNamespace(Event=lambda enable_timing=False: "plain")) == "plain"  # as torch.xpu.Event


def test_pixels_are_copied_directly_if_no_memory_can_be_pinned(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(Elsewhere, "new_empty", refuse)
    pixels = elsewhere(2, 3)
    assert pinned_like(pixels) is None
    assert np.array_equal(to_host(pixels), [[0, 1, 2], [3, 4, 5]])


def test_free_memory_is_read_where_the_device_reports_it(accelerator):
    def refuse(_):
        raise RuntimeError("the device does not support querying the available free memory")

    accelerator("npu", mem_get_info=lambda device: (7, 99))
    assert free_bytes(SimpleNamespace(type="npu")) == 7
    accelerator("npu", mem_get_info=refuse)
    assert free_bytes(SimpleNamespace(type="npu")) is None
    assert free_bytes(torch.device("mps")) is None
    assert free_bytes(torch.device("cpu")) is None
