"""The processes of a fit as threads of one process, so that a test needs no torch.distributed."""

import threading
from contextlib import contextmanager, nullcontext

import torch
from safelight.errors import LostProcessError
from safelight.fitting.processes import Processes

WAIT_S = 100


class Meeting:
    """The place where threads exchange values."""

    def __init__(self, count):
        self.barrier, self.values = threading.Barrier(count, timeout=WAIT_S), [None] * count


class ThreadProcesses(Processes):
    """The processes as one thread sees them. They do not train together."""

    def __init__(self, rank, meeting):
        super().__init__(rank, len(meeting.values))
        self._meeting = meeting

    def _exchange(self, value):
        self._meeting.values[self.rank] = value
        try:
            self._meeting.barrier.wait()
            values = list(self._meeting.values)
            self._meeting.barrier.wait()
        except threading.BrokenBarrierError:
            raise LostProcessError("another thread ended") from None
        return values

    def total(self, tensor):
        first, *others = self._exchange(tensor)
        return sum(others, start=first)

    def mean(self, values):
        return float(torch.cat([each.flatten() for each in self._exchange(values)]).double().mean())

    def texts_of_all(self, texts):
        return [text for each in self._exchange(list(texts)) for text in each]

    def text_of_first(self, text):
        return self._exchange(text)[0]

    def tensors_of_first(self, tensors):
        return self._exchange(tensors)[0]

    def gathered_by_first(self, tensor):
        tensors = self._exchange(tensor)
        return torch.cat(tensors) if self.is_first else tensor

    def parallel(self, net):
        raise NotImplementedError

    def noticing_losses(self):
        return nullcontext()

    def is_one_interrupted(self):
        return False

    def announce(self, work):
        self.text_of_first(work)

    def announced(self):
        return self.text_of_first("")

    @contextmanager
    def fitting_together(self):
        yield
        if self.is_first:
            self.announce("")

    def leave(self):
        """Ends as a process that dies: the others notice it at their next exchange."""
        self._meeting.barrier.abort()


def run_together(count, work):
    """Calls `work(processes)` in `count` threads; returns the results in their order.

    Raises:
        Exception: the first exception of a thread.
    """
    meeting = Meeting(count)
    results, errors = [None] * count, [None] * count

    def run(rank):
        processes = ThreadProcesses(rank, meeting)
        try:
            results[rank] = work(processes)
        except Exception as error:
            errors[rank] = error
            processes.leave()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [error for error in errors if error is not None]
    reasons = [error for error in found if not isinstance(error, LostProcessError)]
    if found:
        raise (reasons or found)[0]
    return results
