"""Reads the strides of a DLPack capsule, which torch does not check."""

import ctypes
from typing import Any

UNUSED = b"dltensor"  # name of a capsule that was not read yet

_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


class DLTensor(ctypes.Structure):
    """The beginning of what a capsule holds. Source: https://dmlc.github.io/dlpack/latest/c_api.html, `DLTensor`."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
    )


def dlpack_strides(capsule: Any) -> list[int]:
    """Returns the strides of a capsule in numbers of the array; none if it is contiguous.

    Raises:
        ValueError: it is no capsule of DLPack that is unused.
    """
    tensor = ctypes.cast(_pointer_of(capsule, UNUSED), ctypes.POINTER(DLTensor)).contents
    return tensor.strides[: tensor.ndim] if tensor.strides else []
