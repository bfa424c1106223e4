"""How hard the tests of this folder try: quick and the same each time, or for as long as somebody asks.

SAFELIGHT_FUZZ=100000         inputs for each fuzz test, instead of a few hundred
SAFELIGHT_NIGHT=180           seconds that the long loads go on, instead of some steps
SAFELIGHT_TRIES=1000          of each fault that has a random moment, instead of a few
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

# The same inputs at each run, nothing written to disk: a corpus would grow, and a test that fails now and then helps
# nobody. Failing inputs are made smaller all the same.
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
    """How often a fault with a random moment is tried."""
    return TRIES or 8


@pytest.fixture
def night_s():
    """Seconds that a load goes on; 0 for the short form."""
    return NIGHT_S


@pytest.fixture
def leaves_nothing():
    """No thread of ours is left when the test is over."""
    before = set(threading.enumerate())
    yield
    gc.collect()
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(20)
    assert [thread.name for thread in left if thread.is_alive()] == []


@pytest.fixture
def tell(capsys):
    """Prints a figure, whatever becomes of the test."""

    def tell(text):
        with capsys.disabled():
            print(f"\n    {text}", flush=True)

    return tell
