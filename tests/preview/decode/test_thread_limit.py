"""The worker uses half of PyTorch's threads; the sampler's thread keeps all of them."""

import ctypes
import threading

import pytest
import torch
from safelight.preview.decode.thread_limit import use_half_of_the_threads
from safelight.preview.mailbox import Mailbox

WITH_OPENMP = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "omp_set_num_threads"), reason="needs the OpenMP that PyTorch uses"
)


def threads_in_another_thread(work):
    found = []
    thread = threading.Thread(target=lambda: (work(), found.append(torch.get_num_threads())))
    thread.start()
    thread.join()
    return found[0]


@WITH_OPENMP
def test_only_the_calling_thread_is_limited_to_half_of_the_threads():
    before = torch.get_num_threads()
    assert threads_in_another_thread(use_half_of_the_threads) == max(1, before // 2)
    assert torch.get_num_threads() == before == threads_in_another_thread(lambda: None)
    assert threads_in_another_thread(lambda: use_half_of_the_threads()()) == before


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_without_openmp_nothing_changes(monkeypatch, error):
    def fail(_):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert (
        threads_in_another_thread(use_half_of_the_threads)
        == torch.get_num_threads()
        == threads_in_another_thread(lambda: use_half_of_the_threads()())
    )


@WITH_OPENMP
@pytest.mark.parametrize(("slow_ms", "all_at_the_end"), [(0.0, True), (1e9, False)])
def test_the_worker_uses_half_of_the_threads_until_the_sampler_waits_for_slow_decodes(
    pipeline, recorder, step, wait_s, monkeypatch, slow_ms, all_at_the_end
):
    monkeypatch.setattr("safelight.preview.pipeline.SLOW_END_MS", slow_ms)
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
    all_threads = torch.get_num_threads()
    half = max(1, all_threads // 2)
    assert seen == [half, all_threads if all_at_the_end else half]
