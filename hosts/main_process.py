"""Finds out whether this process is the one that writes, of the several processes of a training."""

import os

import torch.distributed

RANK = "RANK"  # environment variable of torchrun, accelerate and deepspeed


def is_main_process() -> bool:
    """Returns whether this process has the rank 0. It waits for no other process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return os.environ.get(RANK, "0") in ("", "0")
