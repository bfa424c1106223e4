"""Handles the signals that ask a process to end."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

ENDING_SIGNALS = ("SIGTERM", "SIGHUP", "SIGBREAK")  # the last for Ctrl+Break of Windows


@contextmanager
def ending_signals_as_interrupts() -> Iterator[None]:
    """Makes the signals to end an interrupt, as Ctrl+C is: a training then keeps its best net until there."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with handled_signals(interrupt, ENDING_SIGNALS):
        yield


@contextmanager
def handled_signals(handle: Callable[[], object], names: Sequence[str]) -> Iterator[None]:
    """Calls `handle` for these signals, in the main thread.

    Args:
        handle: function to call; an exception from it is raised where the main thread is.
        names: names of signals; those that this system does not have are left out.
    """
    known = [name for name in names if hasattr(signal, name)]  # Windows has no SIGHUP, others no SIGBREAK
    before: dict[str, Any] = {}
    try:
        for name in known:
            before[name] = signal.signal(getattr(signal, name), lambda *_: handle())
    except ValueError:  # not the main thread: the caller has its own way to end
        pass
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
