"""The user's settings of Safelight in InvokeAI: a file in its root folder, because its own settings take no others."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...decoders.catalogue import Catalogue
from ...preview.decode.memory_budget import DEVICE_BYTES, MB, bytes_of

# Folder in InvokeAI's root for settings and decoder files. InvokeAI tidies its folder for models, so it is not there.
DECODERS = "safelight"
SETTINGS_FILE = "settings.json"
EVERYWHERE, DEVICE = "everywhere", "device_mb"
MAX_SETTINGS_BYTES = MB

log = logging.getLogger("safelight.invokeai")


@dataclass(frozen=True)
class InvokePreferences:
    """Settings for all of InvokeAI.

    Args:
        everywhere: whether the previews of every node come from Safelight.
        device_bytes: memory of a device that the preview of a run may use.
    """

    everywhere: bool = False
    device_bytes: int = DEVICE_BYTES

    @classmethod
    def of(cls, root: Path) -> "InvokePreferences":
        """Reads `safelight/settings.json` in InvokeAI's `root`. A value that is not usable counts as absent."""
        saved = _saved(root / DECODERS / SETTINGS_FILE)
        return cls(saved.get(EVERYWHERE) is True, bytes_of(saved.get(DEVICE), DEVICE_BYTES))


def catalogue(root: Path) -> Catalogue:
    """The decoders that ship, and the decoder files in InvokeAI's root folder `root`."""
    return Catalogue([root / DECODERS])


def _saved(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            raise ValueError(f"larger than {MAX_SETTINGS_BYTES:,} bytes")
        saved = json.loads(path.read_text("utf-8"))
        if not isinstance(saved, dict):
            raise TypeError(f"it contains a {type(saved).__name__}")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, RecursionError) as error:
        log.warning('%s: expected such as {"everywhere": true, "device_mb": 512}, could not read it: %s', path, error)
        return {}
    return saved
