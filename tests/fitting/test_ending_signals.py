"""Signals that ask a process to end become interrupts, and then have their old meaning again."""

import signal
import threading

import pytest
from safelight.fitting.ending_signals import ENDING_SIGNALS, ending_signals_as_interrupts, handled_signals


@pytest.mark.parametrize("name", ENDING_SIGNALS)
def test_a_signal_to_end_is_an_interrupt(name):
    if not hasattr(signal, name):
        pytest.skip(f"this system has no {name}")
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), ending_signals_as_interrupts():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no signal can stand for that of Windows")
def test_ctrl_and_break_of_windows_is_an_interrupt(monkeypatch):
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt), ending_signals_as_interrupts():
            signal.raise_signal(signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_other_signals_can_be_handled_without_an_exception():
    calls = []
    with handled_signals(lambda: calls.append(1), ("SIGINT", "SIGNOTHING")):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert calls == [1, 1]


def test_another_thread_handles_no_signals():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with ending_signals_as_interrupts():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
