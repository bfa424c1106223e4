"""How many of a machine's cores work behind a sampler's back may take."""

import ctypes
from collections.abc import Callable
from functools import partial

import torch


def use_half_of_the_threads() -> Callable[[], object]:
    """Has the calling thread, and no other, compute with half of PyTorch's threads from now on.

    Two teams of as many threads as there are cores wait for each other: a sampler on two cores lost two milliseconds a
    step to a decode of half a one. `torch.set_num_threads` would take them from the sampler as well; OpenMP, which has
    the threads, counts for each caller. Where PyTorch has another, or keeps its own out of sight (Windows), nothing
    changes.

    Returns:
        Has the calling thread compute with all of them again.
    """
    threads = torch.get_num_threads()  # asked first: PyTorch sets the count when a thread first asks for it
    try:
        set_count = ctypes.CDLL(None).omp_set_num_threads
    except (AttributeError, OSError, TypeError):
        return lambda: None
    set_count(max(1, threads // 2))
    return partial(set_count, threads)
