"""Settings of the reliability tests: short and repeatable by default, or as long as these variables say.

SAFELIGHT_FUZZ=100000         number of inputs for each fuzz test, instead of a few hundred
SAFELIGHT_NIGHT=180           seconds of the long loads, instead of some steps
SAFELIGHT_TRIES=1000          number of tries of each fault at a random moment, instead of a few
"""

import gc
import os
import threading

import pytest
from hypothesis import HealthCheck, Phase, settings

FUZZ = int(os.environ.get("SAFELIGHT_FUZZ", "0"))
NIGHT_S = float(os.environ.get("SAFELIGHT_NIGHT", "0"))
TRIES = int(os.environ.get("SAFELIGHT_TRIES", "0"))
LONG_S = 3600

# The inputs are the same in every run, and no corpus is written to the disk: a failure can be repeated. Failing inputs
# are still reduced to small ones.
settings.register_profile(
    "safelight",
    max_examples=FUZZ or 120,
    derandomize=not FUZZ,
    database=None,
    deadline=None,
    print_blob=True,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("safelight")


def pytest_collection_modifyitems(items):
    if FUZZ or NIGHT_S or TRIES:
        for item in items:
            if "reliability" in item.path.parts:
                item.add_marker(pytest.mark.timeout(LONG_S))


@pytest.fixture
def tries():
    """Number of tries of a fault at a random moment."""
    return TRIES or 8


@pytest.fixture
def night_s():
    """Seconds of a long load; 0 for the short form."""
    return NIGHT_S


@pytest.fixture
def leaves_no_thread():
    """Fails a test that leaves a thread of Safelight behind."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(20)
    assert [thread.name for thread in left if thread.is_alive()] == []


@pytest.fixture
def print_figure(capsys):
    """A function that prints a measured figure, also if the test passes."""

    def print_figure(text):
        with capsys.disabled():
            print(f"\n    {text}", flush=True)

    return print_figure
