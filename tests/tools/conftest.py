"""One thread for the small nets of these tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine, two threads of these small nets wait for each other most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
