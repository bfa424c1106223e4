"""Work behind a sampler's back takes half of the cores, and none of the sampler's."""

import ctypes
import threading

import pytest
import torch
from safelight.preview.decode.thread_limit import use_half_of_the_threads
from safelight.preview.mailbox import Mailbox

WITH_OPENMP = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "omp_set_num_threads"), reason="PyTorch's OpenMP is out of sight"
)


def threads_of_another(work):
    found = []
    thread = threading.Thread(target=lambda: (work(), found.append(torch.get_num_threads())))
    thread.start()
    thread.join()
    return found[0]


@WITH_OPENMP
def test_the_calling_thread_alone_has_half():
    before = torch.get_num_threads()
    assert threads_of_another(use_half_of_the_threads) == max(1, before // 2)
    assert torch.get_num_threads() == before == threads_of_another(lambda: None)
    assert threads_of_another(lambda: use_half_of_the_threads()()) == before


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_where_there_is_no_openmp_to_ask_nothing_changes(monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert (
        threads_of_another(use_half_of_the_threads)
        == torch.get_num_threads()
        == threads_of_another(lambda: use_half_of_the_threads()())
    )


@WITH_OPENMP
def test_a_run_s_worker_has_half_until_the_sampler_waits_for_it(pipeline, recorder, step, wait_s):
    seen = []

    class Counting(recorder):
        def show(self, picture):
            seen.append(torch.get_num_threads())
            super().show(picture)

    sink, mailbox = Counting(), Mailbox()
    sink.gate.shut()
    with pipeline(sink, mailbox=mailbox) as pipe:
        for index in (1, 2):
            pipe.offer(step(index, 2))
        sink.gate.wait_until_reached()
        closing = threading.Thread(target=pipe.close, args=("finished",))
        closing.start()
        assert mailbox.closed.wait(wait_s)
    closing.join()
    everything = torch.get_num_threads()
    assert seen == [max(1, everything // 2), everything]
