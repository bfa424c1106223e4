"""Decoders that are open: each once in a process and on a device, whichever run asks for it."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import final

import torch

from ...decoders.catalogue import Candidate
from ...decoders.decoder import Decoder
from ...decoders.files.read_cache import FileStamp

MOST = 8  # the largest that people use hold 50 MB


@final
class DecoderCache:
    """Keeps the decoders that were taken last. They are shared: whoever takes one neither moves nor changes it.

    Args:
        most: decoders that are kept.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Hashable, torch.device], Decoder] = OrderedDict()

    def take(self, candidate: Candidate, device: torch.device) -> Decoder:
        """The decoder on `device`; of one that no file holds, or one that may still change, always a new one.

        Raises:
            DecoderFileError: it cannot be opened.
        """
        file = _stamp(candidate)
        if file is None:
            return _opened(candidate, device)
        with self._lock:  # while it is opened as well: two runs that begin together open it once
            decoder = self._kept.pop((file, device), None) or _opened(candidate, device)
            self._kept[file, device] = decoder
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return decoder

    def let_go(self, device: torch.device) -> None:
        """Keeps nothing on `device` any more; whoever still holds one of them goes on with it."""
        with self._lock:
            for key in [key for key in self._kept if key[1] == device]:
                del self._kept[key]


def _opened(candidate: Candidate, device: torch.device) -> Decoder:
    # Not in somebody's inference mode: other threads, in other modes, are to use it too.
    with torch.inference_mode(False):
        decoder = candidate.open().to(device)
    if device.type == "cuda":  # others read it on streams of their own, which know nothing of this one
        torch.cuda.current_stream(device).synchronize()
    return decoder


def _stamp(candidate: Candidate) -> FileStamp | None:
    if candidate.file is None:
        return None
    try:
        stamp = FileStamp.of(candidate.file)
    except OSError:  # opening it says why
        return None
    return stamp if stamp.is_settled else None
