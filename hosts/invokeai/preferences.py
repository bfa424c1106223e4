"""What a person chose for Safelight in InvokeAI: a file in its root, since its settings have no place for a pack's."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...preview.decode.memory_budget import DEVICE_BYTES, bytes_of

DECODERS = "safelight"  # folder in InvokeAI's root for decoder files; its models folder is its own to tidy
FILE = "settings.json"  # there too
EVERYWHERE, DEVICE = "everywhere", "device_mb"
MAX_BYTES = 1 << 20

log = logging.getLogger("safelight.invokeai")


@dataclass(frozen=True)
class InvokePreferences:
    """Settings of the whole host.

    Args:
        everywhere: whether every node's previews are to be ours.
        device_bytes: of a device's memory that the preview of a run may take.
    """

    everywhere: bool = False
    device_bytes: int = DEVICE_BYTES

    @classmethod
    def of(cls, root: Path) -> "InvokePreferences":
        """As saved in `safelight/settings.json` in InvokeAI's `root`; what makes no sense there is as if it was not."""
        saved = _saved(root / DECODERS / FILE)
        return cls(saved.get(EVERYWHERE) is True, bytes_of(saved.get(DEVICE), DEVICE_BYTES))


def _saved(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES:,} bytes")
        saved = json.loads(path.read_text("utf-8"))
        if not isinstance(saved, dict):
            raise TypeError(f"it holds a {type(saved).__name__}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        log.warning('%s: expected such as {"everywhere": true, "device_mb": 512}, could not read that: %s', path, error)
        return {}
    return saved
