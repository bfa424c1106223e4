"""Limits the CPU threads of the preview worker, so that it does not slow down the sampler.

Two OpenMP teams with a thread for each core wait for each other, and Python's interpreter lock makes it worse. What was
tried on two cores, and what it does (`python -m safelight.benchmarks --only running`, `--only host-runs`):

* The worker uses all threads: a sampler that computes on the CPU lost 2 ms a step to a decode of 0.5 ms.
* The worker uses half of the threads, through OpenMP's count for each thread: that loss is gone. This file does it.
* `torch.set_num_threads` instead: it takes the threads from the sampler as well. Not used.
* All threads again once the run has ended, if much is left to decode: the last picture is there sooner, and the sampler
  does not compete for the cores.
* The same if little is left: beside other programs, a decode took 190 ms in place of 2 ms, because two threads wait for
  each other. Not used.
* The worker waits before it starts on a new step: the sampler starts its next step first. See `mailbox.py`.
* Small copies keep the interpreter lock, which would be lost for milliseconds. See `snapshot.py`.
* JPEG files release the lock between blocks: others wait 0.4 ms instead of 5.3 ms. See `images/encode.py`.
* The worker encodes small pictures itself: another thread takes longer to wake up. See `sinks/step_files.py`.
"""

import ctypes
from collections.abc import Callable
from functools import partial

import torch


def use_half_of_the_threads() -> Callable[[], object]:
    """Makes the calling thread, and no other, compute with half of PyTorch's threads.

    OpenMP has a thread count for each caller. If PyTorch was built without OpenMP, or hides it (Windows), nothing
    changes.

    Returns:
        A function that makes the calling thread compute with all threads again.
    """
    # Before the count is changed: the first such call of a thread sets OpenMP's count, and would undo the change.
    threads = torch.get_num_threads()
    try:
        set_count = ctypes.CDLL(None).omp_set_num_threads
    except (AttributeError, OSError, TypeError):
        return lambda: None
    set_count(max(1, threads // 2))
    return partial(set_count, threads)
