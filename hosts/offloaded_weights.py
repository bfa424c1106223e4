"""Reads weights that accelerate has offloaded, where it keeps them. Nothing is loaded to a device."""

from typing import Any

from torch import Tensor, nn

HOOK = "_hf_hook"  # attribute of modules that accelerate watches


def offloaded_weight(module: nn.Module, name: str, weight: Tensor) -> Tensor:
    """Returns the values of a weight of `module`, or `weight` itself if it has them or they are nowhere.

    Sequential offloading leaves tensors without values on device "meta" in the module. Source: accelerate 1.15
    `hooks.py`, `AlignDevicesHook` and `SequentialHook`.

    Args:
        module: module that may be offloaded.
        name: name of the weight in its `state_dict`.
        weight: tensor of the weight.
    """
    if not weight.is_meta:
        return weight
    path, _, name = name.rpartition(".")
    hook: Any = getattr(module.get_submodule(path), HOOK, None)
    for each in getattr(hook, "hooks", (hook,)):
        if (weights := getattr(each, "weights_map", None)) is not None:
            return weights[name]
    return weight
