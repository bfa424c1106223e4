"""Keeps previews apart from the graphs in which a host records its model's work, such as CUDA graphs."""

import ctypes
from collections.abc import Mapping

from ..errors import LatentsError
from .device_streams import DeviceStreams

THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL, and HIP's number for the same
# By PyTorch's device type: libraries of the drivers, which are loaded already, and their function.
DRIVERS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "cuda": (
        ("libcuda.so.1", "cuThreadExchangeStreamCaptureMode"),
        ("nvcuda.dll", "cuThreadExchangeStreamCaptureMode"),
        *(
            (name.format(version), "hipThreadExchangeStreamCaptureMode")
            for version in (7, 6, 5)
            for name in ("libamdhip64.so.{}", "amdhip64_{}.dll")
        ),
    )
}


def expect_no_capture(streams: DeviceStreams) -> None:
    """Refuses to copy a step while the calling thread records a graph: each replay would write to the copy again.

    Raises:
        LatentsError: the current stream is being captured.
    """
    is_capturing = getattr(streams, "is_current_stream_capturing", None)
    if is_capturing is not None and is_capturing():
        raise LatentsError(
            "expected a step outside of a graph capture, but the sampler's stream is recording a graph; capture the "
            "model alone, without the callback of the preview"
        )


def ignore_captures_of_other_threads(device_type: str) -> None:
    """Lets the calling thread allocate and wait on a device while another thread records a graph.

    A capture of mode `global`, PyTorch's default, else forbids both to all threads of the process: the call fails, and
    the capture with it. PyTorch does the same for its own threads that watch NCCL.
    https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__STREAM.html
    """
    for library, function in DRIVERS.get(device_type, ()):
        try:
            exchange = getattr(ctypes.CDLL(library), function)
        except (OSError, AttributeError):  # the driver of another system or maker
            continue
        exchange(ctypes.byref(ctypes.c_int(THREAD_LOCAL)))
        return
