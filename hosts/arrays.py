"""Reads the arrays of other frameworks as torch tensors: NumPy, JAX, MLX, ONNX Runtime, and any with DLPack."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import LatentsError, describe, printable
from .dlpack_strides import dlpack_strides

DOUBLE_BYTES = 8  # of the widest number that torch has
GPU_TYPES = (2, 10, 13)  # DLPack's numbers of devices that torch calls `cuda`
NUMPY_READS = ("__array__", "__array_interface__", "__buffer__")  # attributes of objects that NumPy can read
BFLOAT16 = "bfloat16"  # name of the dtype that JAX adds to NumPy
# What frameworks raise for an array that they cannot share: on another device, with another dtype, or one that NumPy
# must not copy without a request.
SHARING_ERRORS = (AttributeError, BufferError, NotImplementedError, RuntimeError, TypeError, ValueError)


def tensor_of(array: Any) -> Tensor:
    """Returns an array as a tensor of the same shape and dtype, without a copy where possible. Only read it.

    An array on a device that torch can use stays there. Of other devices the framework itself copies it to the CPU.

    Args:
        array: tensor of torch, array of NumPy, or an object with DLPack or a conversion to NumPy.

    Raises:
        LatentsError: it is no array of floating point numbers, or it is on a device from which it cannot be read.
    """
    tensor = array.detach() if isinstance(array, Tensor) else _shared(array)
    if not tensor.is_floating_point():
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise LatentsError(
            f"expected latents of floating point numbers, got {_name(array)} of {dtype}; pass them as the sampler has "
            "them, before they are converted to pixels"
        )
    return tensor


def _shared(array: Any) -> Tensor:
    has_dlpack = hasattr(array, "__dlpack__")
    if not has_dlpack and not any(hasattr(array, name) for name in NUMPY_READS):
        raise LatentsError(
            f"expected latents as an array of NumPy, of torch, or with DLPack, got {_name(array)}; convert them, for "
            "example with numpy.asarray(x0)"
        )
    # NumPy first: torch refuses arrays that are read-only. Only torch reads bfloat16, and memory of such a GPU. MLX
    # shares the memory of Apple's GPU with NumPy.
    on_gpu = has_dlpack and _device_of(array) in GPU_TYPES
    readers = [_by_torch, _by_numpy] if on_gpu else [_by_numpy, _by_torch]
    reasons: list[str] = []
    for read in readers if has_dlpack else readers[:1]:
        try:
            return read(array)
        except SHARING_ERRORS as error:
            reasons.append(describe(error))
    raise LatentsError(
        f"expected latents that can be read as they are, got {_name(array)}{_place(array)} "
        f"({'; '.join(reasons)}); copy them to the CPU as float32 first"
    )


def _device_of(array: Any) -> int | None:
    try:
        return array.__dlpack_device__()[0]
    except SHARING_ERRORS:  # such as an array of JAX that stands for one in a function that is compiled
        return None


def _by_torch(array: Any) -> Tensor:
    if any(stride < 0 for stride in dlpack_strides(array.__dlpack__())):  # torch would end the process
        raise ValueError("torch reads no array with backward steps")
    return _owned(torch.from_dlpack(array))


def _owned(tensor: Tensor) -> Tensor:
    """Returns a copy of a tensor on a GPU: the other framework may write to its memory before ours has read it."""
    if not tensor.is_cuda:
        return tensor.cpu()
    tensor = tensor.clone()
    torch.cuda.current_stream(tensor.device).synchronize()
    return tensor


def _by_numpy(given: Any) -> Tensor:
    array = np.asarray(given) if any(hasattr(given, name) for name in NUMPY_READS) else np.from_dlpack(given)
    if array.dtype.name == BFLOAT16:
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16)
    # Torch reads neither the byte order of another machine, nor numbers of 16 bytes, nor backward steps.
    dtype = array.dtype.newbyteorder("=")
    if dtype.kind == "f" and dtype.itemsize > DOUBLE_BYTES:
        dtype = np.dtype(np.float64)
    is_plain = dtype == array.dtype and array.flags.writeable and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if is_plain else np.array(array, dtype, order="C"))


def _name(array: Any) -> str:
    kind = type(array)
    package = kind.__module__.partition(".")[0]
    return kind.__name__ if package == "builtins" else f"{package}.{kind.__name__}"


def _place(array: Any) -> str:
    device = getattr(array, "device", None)
    return "" if device is None or callable(device) else f" on {printable(str(device))}"
