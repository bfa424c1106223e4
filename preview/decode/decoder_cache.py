"""A cache of open decoders, shared by all runs of a process."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import final

import torch

from ...decoders.catalogue import Candidate
from ...decoders.decoder import Decoder
from ...decoders.files.read_cache import FileStamp
from ..device_streams import streams_by_name

MAX_OPEN = 8  # the largest decoders that people use hold 50 MB


@final
class DecoderCache:
    """Keeps the most recently used decoders open, one for each file and device. Users must not move or change them.

    Args:
        max_open: number of decoders to keep.
    """

    def __init__(self, max_open: int = MAX_OPEN) -> None:
        self._max_open = max_open
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[Hashable, torch.device], Decoder] = OrderedDict()

    def take(self, candidate: Candidate, device: torch.device) -> Decoder:
        """Returns the decoder on `device`. Decoders without a file, or whose file may still change, are never cached.

        Raises:
            DecoderFileError: the file cannot be opened.
        """
        stamp = _stamp(candidate)
        if stamp is None:
            return _open(candidate, device)
        with self._lock:  # also while it is opened: two runs that begin together open it once
            decoder = self._open.pop((stamp, device), None) or _open(candidate, device)
            self._open[stamp, device] = decoder
            while len(self._open) > self._max_open:
                self._open.popitem(last=False)
            return decoder

    def release(self, device: torch.device) -> None:
        """Drops the decoders on `device`; runs that use one of them go on with it."""
        with self._lock:
            for key in [key for key in self._open if key[1] == device]:
                del self._open[key]


def _open(candidate: Candidate, device: torch.device) -> Decoder:
    # Outside the caller's inference mode: threads in other modes will use the decoder, too.
    with torch.inference_mode(False):
        decoder = candidate.open().to(device)
    streams = None if device.type == "cpu" else streams_by_name(device.type)
    if streams is not None:  # other threads read it on their own streams, which do not wait for this one
        streams.current_stream(device).synchronize()
    return decoder


def _stamp(candidate: Candidate) -> FileStamp | None:
    if candidate.file is None:
        return None
    try:
        stamp = FileStamp.of(candidate.file)
    except OSError:  # opening it reports why
        return None
    return stamp if stamp.is_settled else None
