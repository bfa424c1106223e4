"""The user's settings of Safelight in InvokeAI: a file in its root folder, because its own settings take no others."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...decoders.catalogue import Catalogue
from ...fitting.online.pair_store import DEFAULT_STORE_BYTES
from ...preview.decode.memory_budget import DEVICE_BYTES, MB, bytes_of

# Folder in InvokeAI's root for settings and decoder files. InvokeAI tidies its folder for models, so it is not there.
DECODERS = "safelight"
SETTINGS_FILE = "settings.json"
EVERYWHERE, DEVICE = "everywhere", "device_mb"
LEARN, LEARN_IDLE, LEARN_STORE, LIBRARY = "learn", "learn_idle", "learn_mb", "library"
REMOTE = "remote"
YES = {"1", "true", "yes", "on"}  # values of a variable that switch something on
MAX_SETTINGS_BYTES = MB

log = logging.getLogger("safelight.invokeai")


@dataclass(frozen=True)
class InvokePreferences:
    """Settings for all of InvokeAI.

    Args:
        everywhere: whether the previews of every node come from Safelight.
        device_bytes: memory of a device that the preview of a run may use.
        learn: whether Safelight learns from every VAE decode.
        learn_idle: whether it trains a net while nothing is queued.
        learn_bytes: size of the pictures that are saved for that, for each latent space and VAE.
        remote: address of a store to which saved runs are copied, as the user typed it; empty for none.
        library: whether InvokeAI's server has the page with all runs.
    """

    everywhere: bool = False
    device_bytes: int = DEVICE_BYTES
    learn: bool = False
    learn_idle: bool = True
    learn_bytes: int = DEFAULT_STORE_BYTES
    remote: str = ""
    library: bool = True

    @classmethod
    def of(cls, root: Path) -> "InvokePreferences":
        """Reads `safelight/settings.json` in InvokeAI's `root`. A value that is not usable counts as absent."""
        saved = _saved(root / DECODERS / SETTINGS_FILE)
        return cls(
            saved.get(EVERYWHERE) is True,
            bytes_of(saved.get(DEVICE), DEVICE_BYTES),
            saved.get(LEARN) is True,
            saved.get(LEARN_IDLE) is not False,
            bytes_of(saved.get(LEARN_STORE), DEFAULT_STORE_BYTES),
            remote if isinstance(remote := saved.get(REMOTE), str) else "",
            saved.get(LIBRARY) is not False,
        )


def is_on(variable: str, saved: bool) -> bool:
    """Whether an environment variable switches something on; if there is none, what the settings file says."""
    return os.environ[variable].strip().lower() in YES if variable in os.environ else saved


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
