"""Whole-host previews of InvokeAI, with a class that looks like InvokeAI's."""

import gc
import json
import threading
from types import SimpleNamespace

import pytest
import torch
from safelight.hosts.invokeai import everywhere
from safelight.hosts.invokeai.options import InvokeOptions
from safelight.hosts.invokeai.watch import watched

from .fake_host import State


@pytest.fixture
def interface(tmp_path):
    """A new class like InvokeAI's UtilInterface, and a function that returns settings."""

    class UtilInterface:
        def __init__(self):
            self.calls = calls  # shared with copies of the object
            self._data = SimpleNamespace(invocation=SimpleNamespace(id="d", steps=3))

        def is_canceled(self):
            return False

        def signal_progress(self, message, percentage=None, image=None, image_size=None):
            self.calls.append((percentage, image and image.size, image_size))

        def sd_step_callback(self, intermediate_state, base_model):
            self.calls.append("the host's own")

        def flux_step_callback(self, intermediate_state):
            self.calls.append("the host's own")

    calls = []
    UtilInterface.calls = calls
    config = SimpleNamespace(outputs_path=tmp_path / "outputs", root_path=tmp_path)
    return UtilInterface, lambda: config


def invoke(util, steps=3, total=3, base="sd-3"):
    x = torch.randn(1, 16, 4, 6, generator=torch.Generator().manual_seed(1))
    for i in range(1, steps + 1):
        util.sd_step_callback(State(i, 1, total, 0, x * i, x), base)


def test_safelight_shows_every_node(interface):
    kind, config = interface
    everywhere.install(kind, config)
    invoke(kind())
    assert [call[0] for call in kind.calls][-1] == 1.0
    assert "the host's own" not in kind.calls
    assert {call[2] for call in kind.calls} == {(48, 32)}


def test_a_second_install_does_not_wrap_twice(interface):
    kind, config = interface
    originals = dict(vars(kind))
    for _ in range(3):
        everywhere.install(kind, config)
    everywhere.remove(kind)
    assert vars(kind)["sd_step_callback"] is originals["sd_step_callback"]
    assert vars(kind)["flux_step_callback"] is originals["flux_step_callback"]
    invoke(kind())
    assert kind.calls == ["the host's own"] * 3


def test_remove_without_install_changes_nothing(interface):
    kind, _ = interface
    original = vars(kind)["sd_step_callback"]
    everywhere.remove(kind)
    assert vars(kind)["sd_step_callback"] is original


def test_a_node_that_ends_early_leaves_no_thread(interface):
    kind, config = interface
    everywhere.install(kind, config)
    before = set(threading.enumerate())
    util = kind()
    invoke(util, steps=2, total=50)
    (worker,) = set(threading.enumerate()) - before
    del util
    gc.collect()
    worker.join(20)
    assert not worker.is_alive()


def test_unreadable_latents_get_the_hosts_own_preview(interface):
    kind, config = interface
    everywhere.install(kind, config)
    kind().sd_step_callback(State(1, 1, 2, 0, torch.zeros(1, 16, 2, 2, 2, 2)), "sd-3")
    assert kind.calls == ["the host's own"]


def test_without_settings_the_host_shows_its_own_preview(interface):
    kind, _ = interface
    everywhere.install(kind, lambda: SimpleNamespace())
    invoke(kind())
    assert kind.calls == ["the host's own"] * 3


def test_a_twin_is_shown_once(interface):
    kind, config = interface
    everywhere.install(kind, config)
    util = kind()
    context = SimpleNamespace(util=util, config=SimpleNamespace(get=config))
    watched(lambda c: invoke(c.util), context, SimpleNamespace(id="d", steps=3), InvokeOptions())
    assert everywhere.WATCH not in vars(util)
    odd = torch.zeros(1, 16, 2, 2, 2, 2)
    kind.calls.clear()
    watched(
        lambda c: c.util.sd_step_callback(State(1, 1, 2, 0, odd), "sd-3"),
        context,
        SimpleNamespace(id="d"),
        InvokeOptions(),
    )
    assert kind.calls == ["the host's own"]


@pytest.mark.parametrize(
    ("variable", "settings", "wanted"),
    [
        (None, None, False),
        ("1", None, True),
        ("On", None, True),
        ("0", {"everywhere": True}, False),
        (None, {"everywhere": True}, True),
        (None, {"everywhere": "yes"}, False),
        (None, {}, False),
        (None, [], False),
    ],
)
def test_it_is_off_by_default(tmp_path, monkeypatch, variable, settings, wanted):
    monkeypatch.delenv(everywhere.VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(everywhere.VARIABLE, variable)
    if settings is not None:
        (tmp_path / "safelight").mkdir()
        (tmp_path / "safelight" / "settings.json").write_text(json.dumps(settings))
    assert everywhere.is_wanted(tmp_path) is wanted
