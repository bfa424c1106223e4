"""What every test may rely on, however it was started."""

import signal


def pytest_configure():
    """A shell that starts them in the background has them ignore SIGINT, and whatever they start inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
