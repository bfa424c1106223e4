"""Work behind a sampler's back takes half of the cores, and none of the sampler's."""

import ctypes
import threading

import pytest
import torch
from safelight.preview.cores import leave_half


def threads_of_another(work):
    found = []
    thread = threading.Thread(target=lambda: (work(), found.append(torch.get_num_threads())))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "omp_set_num_threads"), reason="PyTorch's OpenMP is out of sight")
def test_the_calling_thread_alone_has_half():
    before = torch.get_num_threads()
    assert threads_of_another(leave_half) == max(1, before // 2)
    assert torch.get_num_threads() == before == threads_of_another(lambda: None)


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_where_there_is_no_openmp_to_ask_nothing_changes(monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert threads_of_another(leave_half) == torch.get_num_threads()
