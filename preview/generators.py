"""Random generators of the CPU and of a device."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def forked_generators(device: torch.device | None) -> AbstractContextManager[None]:
    """A block after which the generators of the CPU and of `device` go on as if it had drawn nothing."""
    if device is None or not hasattr(_module_of(device), "get_rng_state"):
        return torch.random.fork_rng([])
    return torch.random.fork_rng([device], device_type=device.type)


def seed_generators(seed: int, device: torch.device | None) -> None:
    """Seeds the generators of the CPU and of `device`, if it has one."""
    torch.default_generator.manual_seed(seed)
    module = None if device is None else _module_of(device)
    if module is not None and hasattr(module, "manual_seed"):
        with module.device(device) if hasattr(module, "device") else nullcontext():  # MPS is always one device
            module.manual_seed(seed)


def _module_of(device: torch.device) -> Any:
    """PyTorch's module of a type of device, such as `torch.cuda`; None if it has none."""
    return getattr(torch, device.type, None)
